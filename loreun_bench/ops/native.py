"""Finds and loads the compiled operator, and tells torch.compile the shapes of what it returns."""

from __future__ import annotations

import ctypes
import importlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from loreun_bench.ops.checks import accumulator
from loreun_bench.ops.rules import GIVEN


def state() -> tuple[frozenset[str], str]:
    """(device types the compiled operator serves, and in words why these)."""
    return _STATE


@cache
def eager() -> Any:
    """The operators with autograd in C++, or None: they are built for exactly one torch and Python (csrc/torch/eager.cpp).

    Their functions return None where the long way has to be taken.
    """
    if not state()[0] or _report().get("eager") != torch.__version__:
        return None
    try:
        return importlib.import_module("loreun_bench.ops._eager")
    except ImportError:
        return None


def serves(values: Tensor) -> bool:
    """Whether the compiled operator runs where `values` lie."""
    return ("cpu" if values.is_cpu else values.device.type) in _STATE[0]  # a device's type is a string made anew, 1 us


def cpu_capability() -> str:
    """The CPU kernels in use: portable, avx2 or avx512."""
    return str(_library().loreun_cpu_capability().decode())


def info() -> Any:
    """The information module (build, launch plan), or None where it was not built for this Python."""
    try:
        return importlib.import_module("loreun_bench.ops._info")
    except ImportError:
        return None


def _report() -> dict[str, Any]:
    try:
        found = json.loads(Path(__file__).with_name("_build.json").read_text())
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def _keeps_exponentials(logits: Tensor) -> bool:
    """As keeps_exponentials in csrc/cpu/kernels.h."""
    rows, classes = logits.shape
    wide = logits.dtype in (torch.float32, torch.float64)
    return 64 < classes <= 2048 and (wide or (logits.dtype == torch.bfloat16 and rows * classes <= 1 << 24))


def _makes_gradient(like: Tensor, may: bool, cheap: bool = False) -> bool:
    """Whether the forward pass makes the gradient too: as makes_gradient in csrc/torch/arguments.h."""
    limit = 24 << 20 if like.device.type != "cpu" else 256 << 20 if cheap else 1 << 20
    return may and like.dtype != torch.float16 and like.numel() * like.element_size() <= limit


def _same_device(*values: Any) -> None:
    """A call that mixes devices comes to the fakes if one of them is meta."""
    if len({value.device.type for value in values if isinstance(value, Tensor)}) > 1:
        raise RuntimeError("the tensors are on several devices")


def _outputs(like: Tensor, rows: int, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    table = like.new_empty((rows, like.shape[0]), dtype=accumulator(like))
    return table, like.new_empty(3, dtype=torch.float64), grad


def _ce_forward(logits: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    _same_device(logits, *rest)
    keeps = _keeps_exponentials(logits)
    given = rest[6] == GIVEN
    made = _makes_gradient(logits, rest[-1] and (not given or (keeps and logits.device.type == "cpu")), keeps)
    dtype = accumulator(logits) if made and given else logits.dtype  # exponentials
    grad = logits.new_empty(tuple(logits.shape) if made else 0, dtype=dtype)
    return logits.new_empty((), dtype=accumulator(logits)), *_outputs(logits, 6, grad)


def _rows_like(x: Tensor) -> Tensor:
    """As rows_like in csrc/torch/mean_squared.cpp."""
    one = torch.empty_like(x[:1])  # its strides are those of a sample, if that has no gaps
    if all(n == 1 or a == b for n, a, b in zip(x.shape[1:], one.stride()[1:], x.stride()[1:], strict=True)):
        return x.new_empty_strided(x.shape, (x.shape[1:].numel(), *x.stride()[1:]))
    return x.new_empty(x.shape)


def _mse_forward(input: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    _same_device(input, *rest)
    detach, *_, may = rest[-4:]  # and mean, scale
    grad = _rows_like(input) if _makes_gradient(input, may and rest[5] != GIVEN, cheap=detach) else input.new_empty(0)
    return input.new_empty((), dtype=accumulator(input)), *_outputs(input, 4, grad)


def _ce_backward(grad_out: Tensor, logits: Tensor, *rest: Any) -> Tensor:
    return logits.new_empty(tuple(logits.shape))


def _mse_backward(grad_out: Tensor, input: Tensor, *rest: Any) -> Tensor:
    return _rows_like(input)


def _weigh(table: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return table.new_empty(()), table.new_empty(table.shape[1])


def _in_place(*arguments: Any) -> None:
    return None


def _register_fakes() -> None:
    fakes: dict[str, Any] = {
        "ce_forward": _ce_forward, "mse_forward": _mse_forward, "weigh": _weigh,
        "ce_backward": _ce_backward, "mse_backward": _mse_backward, "ce_backward_": _in_place, "scale_": _in_place,
    }  # fmt: skip
    for name, fake in fakes.items():
        torch.library.register_fake(f"loreun::{name}", fake)


def _cuda() -> tuple[bool, str]:
    """(whether the CUDA kernels can be used, and in words why): what they were built for, the driver, torch's stream."""
    built = str(_report().get("cuda", "unknown"))
    version = _library().loreun_cuda_version().decode()
    if not version:
        return False, built
    built += f" with CUDA {version}"
    major, driver = int(version.split(".")[0]), _driver()
    if driver // 1000 < major:
        has = f"it runs CUDA {driver // 1000}.{driver % 1000 // 10}" if driver else "there is none"
        return False, f"{built}; not used: they need a driver of CUDA {major} or newer, {has}"
    if not torch.cuda.is_available():
        return False, f"{built}; not used: torch sees no GPU, or has no CUDA (torch.version.cuda is {torch.version.cuda})"
    if not _library().loreun_finds_stream():
        return False, f"{built}; not used: torch's current stream was not found in its libraries"
    return True, built


def _driver() -> int:
    """The newest CUDA that the driver runs, as 13020 for 13.2; 0: there is none."""
    version = ctypes.c_int(0)
    try:
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return 0
    return version.value


@cache
def _library() -> Any:
    """The compiled operator (csrc/torch/): what it registers with torch, and the functions of about.cpp. OSError, and
    AttributeError where it was built from older sources."""
    library = ctypes.CDLL(str(Path(__file__).with_name("_operator.so")))
    library.loreun_cpu_capability.restype = library.loreun_cuda_version.restype = ctypes.c_char_p
    library.loreun_finds_stream.restype = ctypes.c_bool
    return library


def _load() -> tuple[frozenset[str], str]:
    report = _report()
    try:
        _library()
    except AttributeError:
        return frozenset(), "the operator was built from older sources, install again"
    except OSError as error:
        return frozenset(), report.get("reason") or f"the extension does not load: {error}" if report else "it was not built"
    _register_fakes()
    usable, words = _cuda()
    return frozenset({"cpu", "cuda"} if usable else {"cpu"}), f"CPU kernels: {cpu_capability()}; CUDA kernels: {words}"


_STATE = _load()  # at import: torch.compile cannot trace the search for a file
