"""Runs the CUDA source on the CPU: csrc/cuda/*.cu compiled by g++ over csrc/sim, called with torch CPU tensors."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

CSRC = Path(__file__).parents[2] / "csrc"
FLAGS = [
    "-std=c++20",
    "-O2",
    "-fPIC",
    "-fno-gnu-unique",
    "-fno-strict-aliasing",
    "-Wall",
    "-Wextra",
    "-Wno-unknown-pragmas",
    "-DLOREUN_SIM",
]
DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
RULES = {"exp": 0, "power": 1, "satimp": 2, "logistic": 3, "given": 4}
NORMALIZE = {"batch": 0, "mean": 1, "none": 2}
BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
MARGIN = 64  # elements of NaN on both sides of every tensor


def cuda_include() -> Path | None:
    """CUDA's headers: of a toolkit, or of the pip package."""
    site = Path(sysconfig.get_paths()["purelib"])
    roots = [os.environ.get("CUDA_HOME"), "/usr/local/cuda", *sorted(site.glob("nvidia/cu*")), site / "nvidia/cuda_runtime"]
    found = (Path(root) / "include" for root in roots if root)
    return next((path for path in found if (path / "cuda_bf16.h").exists() and (path / "cuda_runtime_api.h").exists()), None)


def missing() -> str | None:
    """Why nothing can be emulated here, or None."""
    if shutil.which("g++") is None:
        return "the emulation needs g++"
    if cuda_include() is None:
        return "the emulation needs CUDA's headers (CUDA_HOME, or the pip package nvidia-cuda-runtime)"
    return None


def build(sources: list[Path], folder: Path, name: str, flags: tuple[str, ...] = (), cuda: Path = CSRC / "cuda") -> Path:
    """Compiles the sources and the emulation into one library; objects that are in the folder already are kept."""
    include = cuda_include()
    paths = ["-I", CSRC / "sim", "-I", CSRC / "include", "-I", cuda, "-isystem", include, "-isystem", f"{include}/cccl"]
    objects, running = [], []
    for source in [*sources, *sorted((CSRC / "sim").glob("*.cpp"))]:
        objects.append(folder / f"{source.stem}.o")
        if not objects[-1].exists():
            command = ["g++", *FLAGS, *flags, *map(str, paths), "-x", "c++", "-c", str(source), "-o", str(objects[-1])]
            running.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
    errors = [process.communicate()[1] for process in running]
    if any(process.returncode for process in running):
        raise RuntimeError("\n".join(errors))
    library = folder / name
    subprocess.run(["g++", *flags, "-shared", "-Wl,-Bsymbolic", *map(str, objects), "-o", str(library)], check=True)
    return library


class Guarded:
    """A copy of a tensor, strides and all, surrounded by NaN; `offset` elements off the allocator's alignment."""

    def __init__(self, like: Tensor, offset: int = 0, poison: bool = False) -> None:
        reach = 1 + sum((n - 1) * s for n, s in zip(like.shape, like.stride(), strict=True)) if like.numel() else 0
        self.memory = torch.empty(2 * MARGIN + offset + reach, dtype=like.dtype)
        self.bits = self.memory.view(BITS[like.element_size()])
        self.bits.fill_(-1)
        self._place = (like.shape, like.stride(), MARGIN + offset)
        self.tensor = self.memory.as_strided(*self._place)
        if not poison:
            expanded = tuple(slice(0, 1) if s == 0 else slice(None) for s in like.stride())
            self.tensor[expanded].copy_(like[expanded])
        self.before = self.bits.clone()

    def pointer(self) -> int:
        return self.tensor.data_ptr()

    def unchanged(self) -> bool:
        return torch.equal(self.bits, self.before)

    def written(self) -> str | None:
        """What is wrong: an element that nobody wrote, or a write beside the tensor."""
        inside = torch.zeros(self.bits.shape, dtype=torch.bool)
        inside.as_strided(*self._place).fill_(True)
        if (self.bits[inside] == -1).any():
            return f"{int((self.bits[inside] == -1).sum())} elements were not written"
        return None if (self.bits[~inside] == -1).all() else "a write beside the tensor"


class _Weighting(ctypes.Structure):
    _fields_ = [
        ("score_loss", ctypes.c_void_p),
        ("ref_loss", ctypes.c_void_p),
        ("ref_stride", ctypes.c_int64),
        ("eta_factor", ctypes.c_void_p),
        *[(name, ctypes.c_double) for name in ("eta", "ref", "importance")],
        *[(name, ctypes.c_int32) for name in ("rule", "normalize")],
        ("ratio", ctypes.c_bool),
        ("detach", ctypes.c_bool),
    ]


class _Given(ctypes.Structure):
    _fields_ = [("objective", ctypes.c_void_p), ("score", ctypes.c_void_p)]


class _CrossEntropy(ctypes.Structure):
    _fields_ = [
        ("dtype", ctypes.c_int32),
        ("logits", ctypes.c_void_p),
        *[(name, ctypes.c_int64) for name in ("rows", "classes", "row_stride", "class_stride")],
        ("target", ctypes.c_void_p),
        ("score_target", ctypes.c_void_p),
        *[(name, ctypes.c_int64) for name in ("target_stride", "score_stride", "ignore_index")],
        ("label_smoothing", ctypes.c_double),
        ("class_weight", ctypes.c_void_p),
        ("weighting", _Weighting),
        ("given", _Given),
        ("scale", ctypes.c_double),
        *[(name, ctypes.c_void_p) for name in ("table", "batch", "grad", "kept")],
        *[(name, ctypes.c_int64) for name in ("grad_row_stride", "grad_class_stride")],
    ]


class _MeanSquared(ctypes.Structure):
    _fields_ = [
        ("dtype", ctypes.c_int32),
        *[(name, ctypes.c_void_p) for name in ("input", "target", "score_target")],
        *[(name, ctypes.c_int64) for name in ("rows", "row_size", "input_stride", "target_stride", "score_stride")],
        ("divisor", ctypes.c_double),
        ("weighting", _Weighting),
        ("given", _Given),
        ("scale", ctypes.c_double),
        *[(name, ctypes.c_void_p) for name in ("table", "batch", "grad")],
        ("grad_stride", ctypes.c_int64),
    ]


class _Weighing(ctypes.Structure):
    _fields_ = [
        ("dtype", ctypes.c_int32),
        ("rows", ctypes.c_int64),
        *[(name, ctypes.c_void_p) for name in ("table", "weights", "batch")],
        ("normalize", ctypes.c_int32),
        ("scale", ctypes.c_double),
        *[(name, ctypes.c_void_p) for name in ("loss", "normalised")],
    ]


STRUCTS = {
    "Weighting": _Weighting, "Given": _Given, "Weighing": _Weighing, "CrossEntropy": _CrossEntropy,
    "MeanSquared": _MeanSquared,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Part:
    """One batch. eta carries the sign of the direction, as in params.h."""

    score_loss: Tensor | None = None
    ref_loss: Tensor | None = None
    eta: float = -0.5
    eta_factor: float | None = None
    ref: float = 0.0
    importance: float = 1.0
    rule: str = "exp"
    normalize: str = "batch"
    ratio: bool = False
    detach: bool = True
    scale: float = 1.0
    offset: int = 0  # of the main tensor, from the allocator's alignment, in elements
    grad_offset: int = 0
    target_offset: int = 0
    in_place: bool = False


@dataclass(frozen=True, kw_only=True)
class CrossEntropy(Part):
    logits: Tensor
    target: Tensor
    score_target: Tensor | None = None
    ignore_index: int = -100
    label_smoothing: float = 0.0
    class_weight: Tensor | None = None
    grad_gap: int = 0  # unused columns between the gradient's rows


@dataclass(frozen=True, kw_only=True)
class MeanSquared(Part):
    input: Tensor
    target: Tensor
    score_target: Tensor | None = None
    divisor: float = 1.0
    grad_gap: int = 0


@dataclass
class _Bound:
    """A part in guarded memory, and the struct that points into it."""

    part: CrossEntropy | MeanSquared
    struct: ctypes.Structure
    inputs: list[Guarded]
    table: Guarded
    batch: Guarded
    grad: Guarded | None
    main: Guarded = field(init=False)

    def __post_init__(self) -> None:
        self.main = self.inputs[0]


def accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


class Failed(Exception):
    """An emulated launch returned an error; the emulation has written to stderr what is wrong."""


class Gpu:
    """An emulated device that holds one build of the kernels."""

    def __init__(self, library: Path) -> None:
        self.lib = ctypes.CDLL(str(library))
        self.lib.loreun_sim_configure.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
        self.lib.loreun_sim_configure.restype = None
        self.lib.loreun_sim_launches.restype = ctypes.c_int64

    def configure(self, sms: int = 4, shared: int = 227 * 1024, capability: int = 90, seed: int = 1) -> None:
        self.lib.loreun_sim_configure(sms, shared, capability, seed)

    def hold(self, sms: int) -> None:
        """Others' kernels hold so many SMs, from now on; the runtime does not tell."""
        self.lib.loreun_sim_hold(sms)

    def launches(self) -> int:
        return int(self.lib.loreun_sim_launches())

    def latest(self) -> tuple[int, ...]:
        """Of the latest launch: blocks, threads per block, bytes of shared memory, cooperative or not."""
        values = (ctypes.c_int64 * 4)()
        self.lib.loreun_sim_latest(values)
        return tuple(values)

    def scale(self, grad: Tensor, grad_out: float) -> Tensor:
        """grad · grad_out, in the guarded copy that is returned."""
        memory, factor = Guarded(grad), Guarded(torch.tensor([grad_out], dtype=accumulator(grad.dtype)))
        count = ctypes.c_int64(grad.numel())
        pointers = ctypes.c_void_p(memory.pointer()), count, ctypes.c_void_p(factor.pointer())
        _check(self.lib.sim_scale(DTYPES[grad.dtype], *pointers))
        assert memory.written() is None
        return memory.tensor


def _check(error: int) -> None:
    if error:
        raise Failed(f"cudaError {error}")


def _weighting(part: Part, acc: torch.dtype, rows: int) -> tuple[_Weighting, list[Guarded]]:
    score = None if part.score_loss is None else Guarded(part.score_loss.to(acc).contiguous())
    ref = None if part.ref_loss is None else Guarded(part.ref_loss.to(acc))
    stride = part.ref_loss.stride(0) if part.ref_loss is not None and part.ref_loss.ndim and rows > 1 else 0
    factor = None if part.eta_factor is None else Guarded(torch.tensor([part.eta_factor], dtype=acc))
    pointers = [each.pointer() if each else None for each in (score, ref, factor)]
    numbers = part.eta, part.ref, part.importance, RULES[part.rule], NORMALIZE[part.normalize], part.ratio, part.detach
    struct = _Weighting(*pointers[:2], stride, pointers[2], *numbers)
    return struct, [each for each in (score, ref, factor) if each]


def _strided(like: Tensor, gap: int) -> Tensor:
    """An empty tensor of the same shape, dense but for `gap` elements between rows."""
    rows, size = like.shape[0], like[0].numel() if len(like) else like.shape[1:].numel()
    return torch.empty(rows, size + gap, dtype=like.dtype)[:, :size]


def _bind(part: CrossEntropy | MeanSquared, gradient: bool) -> _Bound:
    ce = isinstance(part, CrossEntropy)
    main = part.logits if ce else part.input.flatten(1)
    rows, acc = len(main), accumulator(main.dtype)
    others = (
        (part.target, part.score_target)
        if ce
        else tuple(None if each is None else each.flatten(1) for each in (part.target, part.score_target))
    )
    first = Guarded(main, part.offset)
    target, score = (None if each is None else Guarded(each, part.target_offset) for each in others)
    weighting, more = _weighting(part, acc, rows)
    table = Guarded(torch.empty(6 if ce else 4, rows, dtype=acc), poison=True)
    batch = Guarded(torch.empty(3, dtype=torch.float64), poison=True)
    grad = None
    if gradient:
        grad = first if part.in_place else Guarded(_strided(main, part.grad_gap), part.grad_offset, poison=True)
    outputs = table.pointer(), batch.pointer(), grad.pointer() if grad else None
    strides = grad.tensor.stride() if grad else (0, 0)
    head = DTYPES[main.dtype], first.pointer()
    pointers = target.pointer(), score.pointer() if score else None
    tail = others[0].stride(0), others[1].stride(0) if score else 0
    if ce:
        sizes = *main.shape, *main.stride()
        if part.class_weight is not None:
            more.append(Guarded(part.class_weight.to(acc)))
        of_class = more[-1].pointer() if part.class_weight is not None else None
        options = part.ignore_index, part.label_smoothing, of_class, weighting, _Given(), part.scale
        struct = _CrossEntropy(*head, *sizes, *pointers, *tail, *options, *outputs, None, *strides)
    else:
        sizes = *main.shape, main.stride(0)
        options = part.divisor, weighting, _Given(), part.scale
        struct = _MeanSquared(*head, *pointers, *sizes, *tail, *options, *outputs, strides[0])
    return _Bound(part, struct, [each for each in (first, target, score, *more) if each], table, batch, grad)


class Run:
    """A forward pass, and what can follow it. Raises Failed if a launch failed, AssertionError if memory was misused."""

    def __init__(self, gpu: Gpu, part: CrossEntropy | MeanSquared, gradient: bool) -> None:
        self.gpu, self.kind = gpu, "ce" if isinstance(part, CrossEntropy) else "mse"
        self.bound = bound = _bind(part, gradient)
        workspaces: list[Guarded] = []  # another one, where the plan is changed

        @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int64)
        def scratch(size: int) -> int:
            workspaces.append(Guarded(torch.empty(size, dtype=torch.uint8), poison=True))
            return workspaces[-1].pointer()

        loss = Guarded(torch.empty(1, dtype=bound.table.tensor.dtype), poison=True)
        before = gpu.launches()
        _check(self._function("forward")(ctypes.byref(bound.struct), ctypes.c_void_p(loss.pointer()), scratch))
        self.launches = gpu.launches() - before
        self.regime = "split" if self.launches > 1 else "on_chip" if gpu.latest()[3] else "tiny"
        for bits in (each.bits for each in workspaces):
            assert (torch.cat([bits[:MARGIN], bits[-MARGIN:]]) == -1).all(), "a write beside the workspace"
        self._inspect([loss, bound.table, bound.batch], gradient)
        self.loss, self.table, self.batch = loss.tensor[0], bound.table.tensor, bound.batch.tensor

    def _function(self, name: str) -> ctypes._CFuncPtr:
        return getattr(self.gpu.lib, f"sim_{self.kind}_{name}")

    def _inspect(self, outputs: list[Guarded], gradient: bool) -> None:
        grad = self.bound.grad
        for output in [*outputs, grad] if gradient and grad else outputs:
            wrong = output.written()
            assert wrong is None, wrong
        changed = [i for i in self.bound.inputs if not (i is grad and gradient) and not i.unchanged()]
        assert not changed, "an input was changed"

    @property
    def grad(self) -> Tensor:
        assert self.bound.grad
        return self.bound.grad.tensor

    def weigh(self, weights: Tensor, normalize: str, scale: float = 1.0) -> tuple[Tensor, Tensor]:
        """(loss, divided weights) of weights that were made elsewhere."""
        bound = self.bound
        table, rows = bound.table, bound.table.tensor.shape[1]
        given = Guarded(weights.to(table.tensor.dtype))
        loss, divided = (Guarded(torch.empty(size, dtype=table.tensor.dtype), poison=True) for size in (1, rows))
        pointers = [each.pointer() for each in (table, given, bound.batch)]
        outputs = loss.pointer(), divided.pointer()
        struct = _Weighing(bound.struct.dtype, rows, *pointers, NORMALIZE[normalize], scale, *outputs)
        _check(self.gpu.lib.sim_weigh(ctypes.byref(struct)))
        self._inspect([loss, divided], False)
        assert given.unchanged()
        return loss.tensor[0], divided.tensor

    def backward(self, grad_out: float | None, objective: Tensor | None = None, score: Tensor | None = None) -> Tensor:
        """The gradient, written anew from table and batch, or with the coefficients [N] that are given."""
        bound, acc, before = self.bound, self.table.dtype, self.bound.table.bits.clone()
        if bound.grad is None:
            shape = bound.main.tensor if bound.part.in_place else _strided(bound.main.tensor, bound.part.grad_gap)
            bound.grad = bound.main if bound.part.in_place else Guarded(shape, bound.part.grad_offset, poison=True)
            bound.struct.grad = bound.grad.pointer()
            strides = bound.grad.tensor.stride()
            if self.kind == "ce":
                bound.struct.grad_row_stride, bound.struct.grad_class_stride = strides
            else:
                bound.struct.grad_stride = strides[0]
        given = [None if values is None else Guarded(values.to(acc)) for values in (objective, score)]
        bound.struct.given = _Given(*(values.pointer() if values else None for values in given))
        factor = None if grad_out is None else Guarded(torch.tensor([grad_out], dtype=acc))
        pointer = ctypes.c_void_p(factor.pointer()) if factor else None
        _check(self._function("backward")(ctypes.byref(bound.struct), pointer))
        self._inspect([], True)
        assert torch.equal(bound.table.bits, before)
        return self.grad
