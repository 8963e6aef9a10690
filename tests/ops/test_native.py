"""The operator against double precision: value, statistics and gradient, on every path and of every layout.

python tests/ops/test_native.py [COMBINATIONS]    prints the worst errors by dtype, rows and mode; fails if one is too large
"""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys

import pytest
import torch
from accuracy import (
    LIMIT,
    MODES,
    NATIVE,
    PATHS,
    PICTURES,
    SERVED,
    SHAPES,
    TYPES,
    assert_close,
    batch,
    compiled,
    forced,
    grid,
    mse_grid,
    picture,
    run,
    too_large,
    wanted_ce,
    wanted_mse,
)
from emulation import accumulator
from helpers import usually
from torch import Tensor

from loreun_bench.ops import loreun_cross_entropy, loreun_mse_loss, loreun_step, native


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("dtype", TYPES)
def test_cross_entropy_is_that_of_double_precision(dtype, shapes, mode, path):
    worst = grid(dtype, shapes, mode, path, 2 if path == "reference" else 4)
    assert not too_large(worst, TYPES[dtype]), worst


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mode", MODES)
def test_every_combination_of_options(mode, path, monkeypatch):
    monkeypatch.setitem(SHAPES, "all", [(19, 10)])
    worst = grid("f32", "all", mode, path, None)
    assert not too_large(worst, torch.float32), worst


# ---- memory: strides, offsets, large gradients, threads, instruction sets

LAYOUTS = {
    "transposed": lambda rows, classes: (classes, rows, lambda x: x.t()),
    "every second class": lambda rows, classes: (rows, 2 * classes, lambda x: x[:, ::2]),
    "every second row": lambda rows, classes: (2 * rows, classes, lambda x: x[::2]),
    "from the second class": lambda rows, classes: (rows, classes + 1, lambda x: x[:, 1:]),
    "offset": lambda rows, classes: (1, rows * classes + 1, lambda x: x[0, 1:].view(rows, classes)),
    "one row for all": lambda rows, classes: (1, classes, lambda x: x.expand(rows, classes)),
    "one class for all": lambda rows, classes: (rows, 1, lambda x: x.expand(rows, classes)),
}


@pytest.mark.parametrize("path", NATIVE)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", TYPES)
def test_any_strides(layout, dtype, path):
    for rows, classes in ((19, 10), (5, 71), (3, 2500)):
        height, width, view = LAYOUTS[layout](rows, classes)
        logits = view(batch(height, width, TYPES[dtype])[0])
        _, target, clean = batch(2 * rows, classes)
        options = {"eta": 0.3, "direction": "forget", "detach_weights": False, "label_smoothing": 0.1}
        options["ref_loss"] = torch.linspace(0.1, 1, 2 * rows, dtype=accumulator(TYPES[dtype]))[::2]
        found = run(loreun_cross_entropy, path, logits, target[::2], clean[1::2], **options)
        assert_close(found, wanted_ce(logits, target[::2], clean[1::2], **options))
        one = target[:1].expand(rows)
        assert_close(run(loreun_cross_entropy, path, logits, one, **options), wanted_ce(logits, one, **options))


def large(dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """Batches whose gradients are made in the backward pass, many tasks for the threads."""
    picture = torch.randn(3, 3, 50, 700, generator=torch.Generator().manual_seed(1)).to(dtype)
    return *batch(300, 1500, dtype), picture, picture.flip(1), picture.flip(2)


OPTIONS = {"eta": 0.3, "direction": "forget", "detach_weights": False, "ref_loss": 0.5}


@compiled
def test_large_gradients_in_the_backward_pass():
    logits, target, clean, x, t, u = large()
    found = run(loreun_cross_entropy, "ready", logits, target, clean, **OPTIONS)
    assert_close(found, wanted_ce(logits, target, clean, **OPTIONS))
    ratio = OPTIONS | {"distance": "ratio"}
    assert_close(run(loreun_mse_loss, "ready", x, t, u, **ratio), wanted_mse(x, t, u, **ratio))


@compiled
@pytest.mark.parametrize("path", NATIVE)
@pytest.mark.parametrize("size", [1 << 20, (1 << 20) + 3], ids=["rows on a vector's boundary", "rows anywhere"])
def test_gradients_that_outgrow_the_caches(size, path):
    x, target, score = (torch.randn(3, size, generator=torch.Generator().manual_seed(i)) for i in range(3))
    weighting = {"eta": 0.7, "direction": "retain", "ref_loss": torch.tensor([0.5, 2.0, 1.0])}
    found = run(loreun_mse_loss, path, x, target, score, **weighting)
    assert_close(found, wanted_mse(x, target, score, **weighting))


@compiled
@pytest.mark.parametrize("dtype", TYPES)
def test_the_number_of_threads_changes_nothing(dtype):
    *ce, x, t, u = large(TYPES[dtype])
    before, seen = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            seen.append([*run(loreun_cross_entropy, "late", *ce, **OPTIONS)])
            seen[-1] += run(loreun_mse_loss, "late", x, t, u, **OPTIONS)
            seen[-1] += run(loreun_cross_entropy, "ready", ce[0].t()[:10].t(), ce[1] % 10, **OPTIONS)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in seen[1:] for a, b in zip(seen[0], other, strict=True))


@compiled
@pytest.mark.parametrize("capability", usually("portable", of=["portable", "avx2"]))
def test_narrower_instruction_sets(capability):
    environment = os.environ | {
        "LOREUN_CPU_CAPABILITY": capability,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run([sys.executable, __file__, "1"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split()[0] in (capability, "portable", "extension:")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("layout", PICTURES)
@pytest.mark.parametrize("dtype", TYPES)
def test_mean_squared_error_is_that_of_double_precision(dtype, layout, path):
    worst = mse_grid(dtype, path, [layout])
    assert not too_large(worst, TYPES[dtype]), worst


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("types", ["f32 f64 f32", "bf16 f32 bf16", "bf16 f16 f16", "f16 f32 f64", "f64 f32 bf16"])
def test_unlike_types_are_promoted(types, path):
    x, t, u = (picture("contiguous", seed, TYPES[name]) for seed, name in enumerate(types.split()))
    widest = torch.promote_types(torch.promote_types(x.dtype, t.dtype), u.dtype)
    options = {"eta": 0.3, "direction": "forget", "ref_loss": 0.8, "detach_weights": False}
    found = run(loreun_mse_loss, path, x, t, u, **options)
    assert found.grad.dtype == x.dtype
    assert found.loss.dtype == (torch.float64 if widest == torch.float64 else torch.float32)
    want = wanted_mse(x, t, u, **options)
    torch.testing.assert_close(found.loss.double(), want.mean, rtol=1e-12 if widest == torch.float64 else 1e-6, atol=0)
    atol = 4 * torch.finfo(x.dtype).eps * float(want.grad.abs().max())
    torch.testing.assert_close(found.grad.double().flatten(1), want.grad, rtol=0, atol=atol)


@pytest.mark.parametrize("path", PATHS)
def test_no_samples_and_empty_samples_are_nan(path):
    for shape in ((0, 3, 4), (4, 0)):
        x = torch.zeros(shape)
        found = run(loreun_mse_loss, path, x, x, eta=0.3, direction="forget", ref_loss=1.0)
        assert math.isnan(found.loss)
        assert found.grad.shape == shape


# ---- a whole step


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("dtype", TYPES)
def test_a_step_is_its_two_calls(dtype, detach, path):
    (forget, random_, clean), (retain, labels, _) = batch(33, 10, TYPES[dtype]), batch(20, 70, TYPES[dtype], 1)
    random_[::5], labels[3] = -100, -100
    shared = {"label_smoothing": 0.1, "detach_weights": detach, "return_stats": True}
    scale = 3.0
    grads, values = [], []
    for whole in (True, False):
        f, r = forget.detach().requires_grad_(), retain.detach().requires_grad_()
        with forced(path):
            if whole:
                loss, stats = loreun_step(
                    f, random_, clean, r, labels, eta_f=0.3, eta_r=0.2, alpha=0.6, loss_scale=scale, **shared
                )
            else:
                forgot = loreun_cross_entropy(f, random_, clean, eta=0.3, direction="forget", loss_scale=scale, **shared)
                kept = loreun_cross_entropy(r, labels, eta=0.2, direction="retain", loss_scale=0.6 * scale, **shared)
                loss, stats = forgot[0] + kept[0], (forgot[1], kept[1])
            for _ in range(2 if path == "late" else 1):
                grad = torch.autograd.grad(loss, (f, r), torch.full_like(loss, 0.7), retain_graph=True)
        grads.append(grad)
        values.append([loss, *stats[0], *stats[1]])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
    torch.testing.assert_close(*values, rtol=1e-6, atol=0)


@compiled
def test_a_step_needs_no_gradient_of_either_batch():
    (forget, random_, clean), (retain, labels, _) = batch(8, 10), batch(6, 10, seed=1)
    settings = {"eta_f": 0.3, "eta_r": 0.2}
    f, r = forget.clone().requires_grad_(), retain.clone().requires_grad_()
    both = torch.autograd.grad(loreun_step(f, random_, clean, r, labels, **settings), (f, r))
    (alone,) = torch.autograd.grad(loreun_step(f, random_, clean, retain, labels, **settings), f)
    (other,) = torch.autograd.grad(loreun_step(forget, random_, clean, r, labels, **settings), r)
    assert torch.equal(both[0], alone)
    assert torch.equal(both[1], other)
    assert loreun_step(forget, random_, clean, retain, labels, **settings).grad_fn is None


# ---- the table


def main(count: int = 6) -> None:
    """count: combinations of options per shape."""
    torch.set_num_threads(1)
    print(native.cpu_capability() if "cpu" in SERVED else "extension: none")
    bad = False
    print("worst errors in epsilons of the arithmetic: loss/statistics/gradient")
    print(" " * 34 + "".join(f"{dtype:>22}" for dtype in TYPES))
    paths = ("ready", "late") if "cpu" in SERVED else ("reference",)
    for shapes, mode, path in [*itertools.product(SHAPES, MODES, paths), *(("mse", "", path) for path in paths)]:
        cells = {d: mse_grid(d, path) if shapes == "mse" else grid(d, shapes, mode, path, count) for d in TYPES}
        bad |= any(too_large(cell, TYPES[d]) for d, cell in cells.items())
        row = "".join(f"{'/'.join(f'{cell[n]:.2g}' for n in LIMIT):>22}" for cell in cells.values())
        print(f"{shapes:8}{mode:14}{path:12}{row}")
    sys.exit(bad)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
