"""What is measured: shapes and dtypes, and their tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from loreun_bench.errors import UserError, did_you_mean

ETA_FORGET, ETA_RETAIN, ALPHA = 0.1, 0.25, 1.0  # the paper's, for random forgetting on CIFAR-10
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}
Shape = tuple[int, ...]
Kind = Literal["cross entropy", "mean squared", "step"]


@dataclass(frozen=True)
class Case:
    """One problem. shapes: of the logits [N, C] or the prediction [N, *]; two, of forget and retain logits, for a step."""

    kind: Kind
    shapes: tuple[Shape, ...]
    dtype: str

    @property
    def shape(self) -> str:
        """As on the command line: 256x10, 8x4x64x64, 256x10+256x10."""
        return "+".join("x".join(map(str, shape)) for shape in self.shapes)

    @property
    def title(self) -> str:
        """What a table is headed with."""
        return f"{self.kind} {self.shape} {self.dtype}"


@dataclass(frozen=True)
class Inputs:
    """The tensors of a case in the order that every provider takes them, and those that are differentiated.

    cross entropy: logits, target, clean target. mean squared: prediction, target, score target, reference loss.
    step: forget logits, target, clean target, retain logits, target. The variables are views of a buffer, as a model's
    last layer hands them out, so that an operator may write the gradient over them; `restore` undoes that.
    """

    tensors: tuple[Tensor, ...]
    variables: tuple[Tensor, ...]
    originals: tuple[Tensor, ...]

    def restore(self) -> None:
        """Give the variables their first values again."""
        with torch.no_grad():
            for variable, original in zip(self.variables, self.originals, strict=True):
                variable.copy_(original)


def default_cases(device: str, quick: bool, dtypes: list[str]) -> list[Case]:
    """The usual set; `quick`: small shapes only; `dtypes`, if any, in place of the usual ones."""
    usual: list[tuple[str, list[str]]] = [("256x10", ["fp32"]), ("8x4x64x64", ["fp32"]), ("256x10+256x10", ["fp32"])]
    if not quick:
        usual[1:1] = [("1024x1000", ["fp32"]), ("1024x32000", ["fp32"])]
        usual.insert(-1, ("64x4x128x128", ["fp32", "bf16"] if device == "cuda" else ["fp32"]))
        if device == "cuda":
            usual.insert(3, ("8192x32000", ["bf16", "fp32"]))
    return [case_of(shape, dtype) for shape, own in usual for dtype in dtypes or own]


def case_of(text: str, dtype: str) -> Case:
    """The case that `text` stands for: NxC is cross entropy, NxCxH… mean squared, NxC+MxC a step. UserError if none."""
    if dtype not in DTYPES:
        raise UserError(f"unknown dtype '{dtype}': {did_you_mean(dtype, DTYPES)}")
    try:
        shapes = tuple(tuple(int(word) for word in part.split("x")) for part in text.lower().replace("×", "x").split("+"))
    except ValueError:
        raise UserError(f"'{text}' is no shape; examples: 256x10, 8x4x64x64, 256x10+256x10") from None
    ranks = [len(shape) for shape in shapes]
    if min(map(min, shapes)) < 1 or len(ranks) > 2 or min(ranks) < 2 or (len(ranks) == 2 and ranks != [2, 2]):
        raise UserError(f"'{text}' is no shape; examples: 256x10, 8x4x64x64, 256x10+256x10")
    kind: Kind = "step" if len(ranks) == 2 else "cross entropy" if ranks == [2] else "mean squared"
    return Case(kind, shapes, dtype)


def make_inputs(case: Case, device: str) -> Inputs:
    """Random tensors, the same for every run: logits of standard deviation 3, clean labels, other labels to learn."""
    generator = torch.Generator(device).manual_seed(0)
    dtype = DTYPES[case.dtype]
    originals = tuple(_normal(shape, dtype, generator).mul_(3) for shape in case.shapes)
    variables = tuple(original.clone().requires_grad_() for original in originals)
    views = tuple(variable.view_as(variable) for variable in variables)
    if case.kind == "mean squared":
        shape, loss_dtype = case.shapes[0], torch.float64 if dtype == torch.float64 else torch.float32
        reference = torch.rand(shape[0], generator=generator, device=device, dtype=loss_dtype) + 0.5
        targets: tuple[Tensor, ...] = (_normal(shape, dtype, generator), _normal(shape, dtype, generator), reference)
        return Inputs((views[0], *targets), views, originals)
    clean, other = _labels(case.shapes[0], generator)
    tensors: tuple[Tensor, ...] = (views[0], other, clean)
    if case.kind == "step":
        tensors = (*tensors, views[1], _labels(case.shapes[1], generator)[0])
    return Inputs(tensors, views, originals)


def _normal(shape: Shape, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device, dtype=dtype)


def _labels(shape: Shape, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """True labels [N], and others that differ from them wherever there is more than one class."""
    count, classes = shape
    clean = torch.randint(classes, (count,), generator=generator, device=generator.device)
    shift = torch.randint(1, max(classes, 2), (count,), generator=generator, device=generator.device)
    return clean, (clean + shift) % classes
