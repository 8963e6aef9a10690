"""Calls of the operator on every path, what they should give in double precision, and how far off they are."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
import torch
from emulation import CrossEntropy, MeanSquared, accumulator
from oracle import Expected, expect
from torch import Tensor

from loreun_bench.ops import loreun_cross_entropy, loreun_mse_loss, loreun_step, native

SERVED, WHY = native.state()
compiled = pytest.mark.skipif("cpu" not in SERVED, reason=f"needs the compiled operator: {WHY}")
# ready: a small gradient is made in the forward pass; late: in the backward pass; reference: without the extension.
PATHS = [pytest.param("ready", marks=compiled), pytest.param("late", marks=compiled), "reference"]
NATIVE = PATHS[:2]
TYPES = {"f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16, "f16": torch.float16}
INF, NAN = math.inf, math.nan
LIMIT = {"loss": 8, "stats": 16, "grad": 12}  # in epsilons of the arithmetic
ROUNDED = 2.2  # the same of a 16-bit gradient, in half epsilons of its own: one rounding, and one of a ready gradient
TWICE = {"stats": 32, "grad": 256}  # of float64: the oracle rounds as well


@contextmanager
def forced(path: str) -> Iterator[None]:
    """python: as where autograd in C++ was not built; reference: as where nothing was."""
    saved = native.serves, native.eager
    if path == "reference":
        native.serves = lambda values: False
    if path == "python":
        native.eager = lambda: None
    try:
        yield
    finally:
        native.serves, native.eager = saved


# ---- a call, and what it should give


class Found(NamedTuple):
    loss: Tensor
    objective: Tensor
    score: Tensor
    weights: Tensor
    effective: Tensor
    grad: Tensor


def same_bits(a: Tensor, b: Tensor) -> bool:
    """The same numbers, or NaN in the same places."""
    return a.dtype == b.dtype and torch.equal(a.nan_to_num(0.0), b.nan_to_num(0.0)) and torch.equal(a.isnan(), b.isnan())


def run(loss_of, path: str, x: Tensor, *others: Tensor | None, grad_out: float = 1.0, **options) -> Found:
    """Value, statistics and gradient; x keeps its strides. late: the gradient of a second pass through the graph."""
    x = x.detach().requires_grad_()
    with forced(path):
        loss, stats = loss_of(x, *others, return_stats=True, **options)
        alone = loss_of(x, *others, **options)  # without statistics, autograd may be that in C++
        for _ in range(2 if path == "late" else 1):
            upstream = torch.full_like(loss, grad_out)
            grad, same = (torch.autograd.grad(each, x, upstream, retain_graph=True)[0] for each in (loss, alone))
    assert same_bits(loss, alone)
    assert same_bits(grad, same)
    assert grad.stride() == same.stride()
    return Found(loss.detach(), *stats, grad)


def _weighting(eta, direction, ref_loss=0.0, distance="difference", detach_weights=True, loss_scale=1.0) -> dict:
    return {
        "eta": -eta if direction == "forget" else eta,
        "ratio": distance == "ratio",
        "ref_loss": torch.as_tensor(ref_loss, dtype=torch.float64),
        "detach": detach_weights,
        "scale": loss_scale,
    }


def wanted_ce(logits, target, score_target=None, score_loss=None, ignore_index=-100, label_smoothing=0.0, **weighting):
    return expect(
        CrossEntropy(
            logits=logits, target=target, score_target=score_target, score_loss=score_loss, ignore_index=ignore_index,
            label_smoothing=label_smoothing, **_weighting(**weighting),
        )
    )  # fmt: skip


def wanted_mse(input, target, score_target=None, score_loss=None, reduction="mean", distance="ratio", **weighting):
    rows = [None if t is None else t.double().reshape(len(t), -1) for t in (input, target, score_target)]
    return expect(
        MeanSquared(
            input=rows[0], target=rows[1], score_target=rows[2], score_loss=score_loss,
            divisor=float(rows[0].shape[1]) if reduction == "mean" else 1.0,
            **_weighting(distance=distance, **weighting),
        )
    )  # fmt: skip


def errors(found: Found, want: Expected, scale: float = 1.0, grad_out: float = 1.0) -> dict[str, float]:
    """Worst errors in epsilons of the arithmetic; a gradient may also be off by the rounding to its own type."""
    eps = torch.finfo(found.loss.dtype).eps
    own = torch.finfo(found.grad.dtype)
    weights = torch.exp(want.table[2] - want.log_normaliser)
    grad, expected = found.grad.double().reshape(want.grad.shape), grad_out * want.grad
    room = abs(grad_out) * want.size[:, None] + expected.abs() * (own.eps / eps / 2)
    pairs = [(found.objective, want.table[0], 1.0), (found.score, want.table[1], 1.0), (found.weights, weights, 0.0)]
    pairs.append((found.effective, 1 / weights.square().sum(), 0.0))
    return {
        "loss": _worst(found.loss, scale * want.mean, abs(scale * want.mean) + abs(scale)) / eps,
        "stats": max(_worst(a, e, e.abs() + least) for a, e, least in pairs) / eps,
        "grad": _worst(grad, expected, room + (own.smallest_normal * own.eps) / eps) / eps,
    }


def _worst(actual: Tensor, expected: Tensor, room: Tensor) -> float:
    """The largest |actual - expected| / room; infinite where they differ in what is NaN or infinite."""
    actual, finite = actual.double(), expected.isfinite()
    same = (actual == expected) | (actual.isnan() & expected.isnan())
    off = torch.where(finite, (actual - expected).abs() / room, torch.where(same, 0.0, INF)).masked_fill(same, 0.0)
    return float(off.nan_to_num(INF).max()) if off.numel() else 0.0


def too_large(worst: dict[str, float], dtype: torch.dtype) -> bool:
    limit = LIMIT | ({"grad": ROUNDED} if dtype.itemsize == 2 else TWICE if dtype == torch.float64 else {})
    return any(worst[name] > limit[name] for name in limit)


def assert_close(found: Found, want: Expected, scale: float = 1.0, grad_out: float = 1.0) -> None:
    worst = errors(found, want, scale, grad_out)
    assert not too_large(worst, found.grad.dtype), worst


def batch(rows: int, classes: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, labels to optimise, labels to weigh by."""
    g = torch.Generator().manual_seed(seed)
    logits = (3 * torch.randn(rows, classes, generator=g, dtype=torch.float64)).to(dtype)
    return logits, torch.randint(classes, (rows,), generator=g), torch.randint(classes, (rows,), generator=g)


# ---- short calls


def ce_call(x: Tensor, **more) -> Tensor:
    y = torch.arange(len(x)) % x.shape[1]
    return loreun_cross_entropy(x, y, y.flip(0), eta=0.3, direction="forget", **more)


def mse_call(x: Tensor, **more) -> Tensor:
    t = torch.linspace(-1, 1, x.numel()).view(x.shape).half().to(x.dtype)
    return loreun_mse_loss(x, t, t.flip(0), eta=0.3, direction="forget", ref_loss=2.0, **more)


def step_call(x: Tensor, **more) -> Tensor:
    y = torch.arange(len(x)) % x.shape[1]
    return loreun_step(x, y, y.flip(0), x[:5] * 0.5, y[:5], eta_f=0.3, eta_r=0.2, **more)


CALLS = {"cross entropy": ce_call, "mse": mse_call, "step": step_call}
calls = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
# ---- the grid

SHAPES = {
    "one": [(1, 1), (1, 10), (7, 1)],
    "short": [(9, 2), (33, 10), (17, 63), (16, 64)],
    "long": [(18, 65), (5, 1000), (6, 1025)],
    "blocks": [(3, 2047), (3, 2048), (3, 2049), (2, 4097), (2, 32000)],
}
MODES = ("detached", "undetached", "smoothed", "ratio")
CHOICES = {
    "direction": ("forget", "retain"),
    "ref": ("number", "row", "tensor"),
    "score": ("same", "target", "loss"),
    "ignore": (False, True),
    "scale": (1.0, 2.5),
}


def options_of(mode: str, choice: dict, rows: int, dtype: torch.dtype, target: Tensor, clean: Tensor) -> dict:
    """A choice in the operator's words; target is changed where rows are ignored."""
    g, acc = torch.Generator().manual_seed(rows), accumulator(dtype)
    refs = {"number": 0.7, "row": torch.rand(rows, generator=g).to(acc) + 0.5, "tensor": torch.tensor(1.3, dtype=acc)}
    if choice["ignore"]:
        target[::3] = -100
    return {
        "eta": 0.3, "direction": choice["direction"], "loss_scale": choice["scale"], "ref_loss": refs[choice["ref"]],
        "detach_weights": mode == "detached", "distance": "ratio" if mode == "ratio" else "difference",
        "label_smoothing": 0.15 if mode == "smoothed" else 0.0,
        "score_target": clean if choice["score"] == "target" else None,
        "score_loss": torch.rand(rows, generator=g).to(acc) * 3 if choice["score"] == "loss" else None,
    }  # fmt: skip


def choices(count: int | None, seed: int) -> list[dict]:
    """That many of all combinations (None: all)."""
    every = [dict(zip(CHOICES, values, strict=True)) for values in itertools.product(*CHOICES.values())]
    return every if count is None else random.Random(seed).sample(every, count)


def grid(dtype: str, shapes: str, mode: str, path: str, count: int | None) -> dict[str, float]:
    """The worst errors of some combinations on every shape of a class."""
    worst = dict.fromkeys(LIMIT, 0.0)
    for rows, classes in SHAPES[shapes]:
        for number, choice in enumerate(choices(count, rows * classes)):
            logits, target, clean = batch(rows, classes, TYPES[dtype], seed=number)
            options = options_of(mode, choice, rows, TYPES[dtype], target, clean)
            if bool((target == -100).all()):
                continue
            found = run(loreun_cross_entropy, path, logits, target, grad_out=0.7, **options)
            assert bool((found.grad[target == -100] == 0).all()), "an ignored row has a gradient"
            for name, value in errors(found, wanted_ce(logits, target, **options), choice["scale"], 0.7).items():
                worst[name] = max(worst[name], value)
    return worst


# ---- mean squared error

PICTURES = {
    "contiguous": lambda randn: randn(5, 3, 7, 11),
    "channels last": lambda randn: randn(5, 3, 7, 11).to(memory_format=torch.channels_last),
    "every second": lambda randn: randn(5, 6, 40)[:, ::2],
    "expanded": lambda randn: randn(1, 3, 40).expand(5, 3, 40),
    "expanded within": lambda randn: randn(5, 3, 1).expand(5, 3, 40),
    "transposed": lambda randn: randn(33, 5).t(),
    "offset": lambda randn: randn(166)[1:].view(5, 33),
    "padded rows": lambda randn: randn(5, 40)[:, 3:],
    "one number": lambda randn: randn(5),
    "one element": lambda randn: randn(5, 1),
    "several stretches": lambda randn: randn(5, 40001),
}


def picture(layout: str, seed: int, dtype: torch.dtype) -> Tensor:
    """In that layout, whatever the type: the conversion comes before the view."""
    g = torch.Generator().manual_seed(seed)
    return PICTURES[layout](lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype))


def mse_options(number: int, acc: torch.dtype) -> dict:
    given = torch.linspace(0.2, 2, 5, dtype=acc)
    return [
        {"ref_loss": 0.9, "detach_weights": True},
        {"ref_loss": given, "detach_weights": False, "reduction": "mean"},
        {"ref_loss": torch.tensor(50.0, dtype=acc), "detach_weights": False, "reduction": "sum", "loss_scale": 1.5},
        {"ref_loss": given, "detach_weights": False, "distance": "difference", "score_loss": given.flip(0)},
    ][number] | {"eta": 0.3, "direction": ("forget", "retain")[number % 2]}


def mse_grid(dtype: str, path: str, layouts: Iterable[str] = PICTURES) -> dict[str, float]:
    worst = dict.fromkeys(LIMIT, 0.0)
    for layout, number, tensors in itertools.product(layouts, range(4), (2, 3)):
        if (number, tensors) == (3, 3):
            continue  # a score target and given scores exclude each other
        options = mse_options(number, accumulator(TYPES[dtype]))
        if layout == "several stretches" and options.get("reduction") == "sum":
            options["ref_loss"] = torch.tensor(1e5, dtype=accumulator(TYPES[dtype]))
        names = [layout, "contiguous" if layout == "channels last" and number == 3 else layout, layout]
        x, t, u = (picture(name, seed, TYPES[dtype]) for seed, name in enumerate(names))
        others = (t, u) if tensors == 3 else (t,)
        found = run(loreun_mse_loss, path, x, *others, grad_out=0.7, **options)
        assert found.grad.shape == x.shape
        found_errors = errors(found, wanted_mse(x, *others, **options), options.get("loss_scale", 1.0), 0.7)
        worst = {name: max(worst[name], found_errors[name]) for name in worst}
    return worst
