"""Convolutions whose weight's gradient torch computes wrongly on a CPU in bfloat16."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Unsafe(TorchDispatchMode):
    """Within it, `found` is told of the first padded convolution with a stride above the side of its picture, "" if none.

    oneDNN's gradient of such a weight in bfloat16 leaves unwritten what only the padding reaches, so that whatever was in
    that memory before is trained on (torch 2.15 with AMX, all strides and kernels tried; float32 is right). What is
    transposed has the picture as its output.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the operation, and looks at what it was given."""
        made = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default and not self.found:
            image, _, _, stride, padding, _, transposed = args[:7]
            sides = (made if transposed else image).shape[2:]
            if any(pad and side < step for side, step, pad in zip(sides, stride, padding, strict=True)):
                what = f"a convolution of stride {max(stride)} on {'×'.join(map(str, sides))}"
                self.found = f"{what}, whose gradient torch gets wrong in bf16 on a CPU"
        return made
