"""The CUDA source, executed on the CPU and compared with double precision: every regime, layout and special value."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from cases import (
    DEVICES,
    INF,
    MIDDLE,
    NAN,
    OPTIONS,
    SMOOTHED,
    TYPES,
    battery,
    cross_entropy,
    mean_squared,
    per_row,
    spoil,
    verify_coefficients,
    verify_weigh,
    weighted_classes,
)
from cases import verify as verify_once
from cuda_mutants import MUTANTS, USUAL, caught, mismatches, sources
from emulation import CSRC, CrossEntropy, Gpu, Run, build, missing
from helpers import usually
from oracle import check_grad, expect

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))
REGIMES: set[tuple[str, str]] = set()  # (kind, regime) pairs that some test has reached


@pytest.fixture(scope="session")
def objects(tmp_path_factory):
    """A folder with a build of the source as it is."""
    folder = tmp_path_factory.mktemp("kernels")
    build(sources(CSRC / "cuda"), folder, "kernels.so")
    return folder


@pytest.fixture(scope="session")
def gpu(objects) -> Gpu:
    return Gpu(objects / "kernels.so")


def verify(gpu: Gpu, part, **options) -> None:
    kind = "ce" if isinstance(part, CrossEntropy) else "mse"
    REGIMES.update((kind, regime) for regime in verify_once(gpu, part, **options))


SHAPES = [(1, 1), (1, 10), (5, 1), (3, 7), (33, 10), (64, 128), (257, 33), (9, 1025), (40, 700), (2, 6001)]
SHAPES += [(1, 20000), (1200, 3), (9000, 1), (5000, 2), (700, 127)]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("rows", "classes"), usually(*SHAPES[::3], of=SHAPES))
def test_cross_entropy_shapes(gpu, rows, classes, dtype):
    every = {**OPTIONS, **SMOOTHED}
    for number, device in enumerate(DEVICES):
        name = list(every)[(number + rows + list(TYPES).index(dtype)) % len(every)]
        verify(gpu, cross_entropy(rows, classes, TYPES[dtype], **every[name](rows)), device=device, seeds=(1, 2))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("rows", "size"), [(1, 1), (8, 3), (3, 64), (2, 5000), (20, 900), (300, 7), (1, 40000)])
def test_mean_squared_shapes(gpu, rows, size, dtype):
    for number, device in enumerate(DEVICES):
        name = list(OPTIONS)[(number + rows + list(TYPES).index(dtype)) % len(OPTIONS)]
        verify(gpu, mean_squared(rows, size, TYPES[dtype], **OPTIONS[name](rows)), device=device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", [*OPTIONS, *SMOOTHED])
def test_cross_entropy_options(gpu, name, device):
    options = {**OPTIONS, **SMOOTHED}[name]
    for rows, classes in ((12, 40), (40, 300)):
        part = cross_entropy(rows, classes, torch.float32, **options(rows))
        part.target[::3] = part.ignore_index
        verify(gpu, part, device=device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", MIDDLE)
def test_the_middle(gpu, name, device):
    options = MIDDLE[name]
    for (rows, classes), dtype in zip(((12, 40), (40, 300), (3, 6001)), ("f32", "bf16", "f64"), strict=True):
        part = weighted_classes(cross_entropy(rows, classes, TYPES[dtype], **options(rows)))
        part.target[::3] = part.ignore_index
        verify(gpu, part, device=device, seeds=(1,))
        verify(gpu, mean_squared(rows, classes, TYPES[dtype], **options(rows)), device=device, seeds=(1,))


@pytest.mark.parametrize("dtype", TYPES)
def test_passes_that_stand_alone(gpu, dtype):
    verify_weigh(gpu, TYPES[dtype])
    verify_coefficients(gpu, TYPES[dtype])


def test_padding_in_both_labels(gpu):
    part = cross_entropy(12, 40, torch.float32, other=True, detach=False)
    for label in (part.target, part.score_target):
        label[::3] = part.ignore_index
    plain = replace(part, score_target=part.score_target.where(part.target != part.ignore_index, 0))
    gpu.configure(seed=1)
    found, wanted = Run(gpu, part, gradient=True), Run(gpu, plain, gradient=True)
    assert torch.equal(found.grad, wanted.grad)
    assert torch.equal(found.loss, wanted.loss)
    assert bool((found.table[1][::3] == 0).all())


# What surrounds the elements of a tensor: name: (the logits, options).
LAYOUTS = {
    "odd start": lambda x: (x, {"offset": 1}),
    "odd start of the gradient": lambda x: (x, {"grad_offset": 1}),
    "odd start of both": lambda x: (x, {"offset": 3, "grad_offset": 3}),
    "odd rows": lambda x: (x[:, 1:], {"grad_gap": 3}),
    "gap": lambda x: (x[:, :-5], {"grad_gap": 5}),
    "every second class": lambda x: (x[:, ::2], {}),
    "transposed": lambda x: (x.t().contiguous().t(), {}),
    "one row for all": lambda x: (x[:1].expand_as(x), {}),
    "one logit per row": lambda x: (x[:, :1].expand_as(x), {}),
    "in place": lambda x: (x, {"in_place": True}),
    "in place, odd start": lambda x: (x, {"in_place": True, "offset": 3}),
    "in place, odd rows": lambda x: (x[:, 3:], {"in_place": True, "offset": 1}),
    "in place, every second row": lambda x: (x[::2], {"in_place": True}),
}


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f64"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(gpu, layout, dtype):
    for number, (rows, classes) in enumerate([(6, 23), (40, 96), (31, 701), (3, 4100)]):
        for device in ("4 SMs", "little shared memory"):
            base = cross_entropy(rows, classes, TYPES[dtype]).logits
            logits, options = LAYOUTS[layout](base)
            target = torch.arange(2 * len(logits))[::2] % logits.shape[1]
            part = CrossEntropy(logits=logits, target=target, **options, **({"label_smoothing": 0.1} if number % 2 else {}))
            verify(gpu, part, device=device, seeds=(1,))


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f64"])
def test_mean_squared_layouts(gpu, dtype):
    for rows, size in ((4, 48), (6, 3200), (40, 600)):
        base = mean_squared(rows, size, TYPES[dtype], other=True, detach=False)
        layouts = [
            {"offset": 1},
            {"target_offset": 1},
            {"grad_offset": 1},
            {"grad_gap": 3},
            {"input": base.input[:, :-3], "target": base.target[:, :-3], "score_target": base.score_target[:, :-3]},
            {"input": base.input[:, :-7], "target": base.target[:, 7:], "score_target": base.score_target[:, 3:-4]},
            {"input": base.input[::2], "target": base.target[:1].expand(len(base.input[::2]), -1), "score_target": None},
            {"in_place": True},
            {"in_place": True, "offset": 3, "score_loss": per_row(rows)},
        ]
        for layout in layouts:
            for device in ("4 SMs", "little shared memory"):
                verify(gpu, replace(base, **layout), device=device, seeds=(1,))


# name: what is put into the logits (row, column, value)
SPECIAL = {
    "nan": [(2, 5, NAN)],
    "nan at the start and the end": [(0, 0, NAN), (-1, -1, NAN)],
    "+inf": [(3, 1, INF)],
    "-inf at some": [(1, 3, -INF), (4, slice(2, 9), -INF)],
    "-inf at the label": [(2, 0, -INF)],
    "-inf everywhere": [(3, slice(None), -INF)],
    "only one class is possible": [(3, slice(1, None), -INF)],
    "far from zero": [(1, slice(None), 3e4), (2, slice(None), -3e4)],
    "large differences": [(1, 2, 6e4), (2, 3, -6e4)],
}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", SPECIAL)
def test_special_logits(gpu, name, dtype):
    for rows, classes in ((8, 11), (12, 701)):
        for eta, device in ((-0.1, "4 SMs"), (0.1, "no grid sync")):
            part = cross_entropy(rows, classes, TYPES[dtype], spread=1.0, eta=eta, detach=eta < 0)
            part.target[:] = 0
            ignored = part.target.clone()
            ignored[[row for row, _, _ in SPECIAL[name]]] = -100
            logits = spoil(part.logits, *SPECIAL[name])
            for target in (part.target, ignored):
                verify(gpu, replace(part, logits=logits, target=target), device=device, seeds=(1,))


@pytest.mark.parametrize("device", DEVICES)
def test_labels(gpu, device):
    """Out of range is NaN in that row; ignored rows take no part, whatever they hold."""
    for rows, classes in ((10, 12), (24, 900)):
        clean = cross_entropy(rows, classes, torch.float32, other=True)
        for bad in (-1, classes, 2**40, -(2**40)):
            for which in ("target", "score_target"):
                labels = {"target": clean.target.clone(), "score_target": clean.score_target.clone()}
                labels[which][rows // 2] = bad
                verify(gpu, CrossEntropy(logits=clean.logits, **labels), device=device, seeds=(1,))
                labels["target"][rows // 2] = 7
                verify(gpu, CrossEntropy(logits=clean.logits, **labels, ignore_index=7), device=device, seeds=(1,))
        nothing = torch.full((rows,), -100)
        verify(gpu, CrossEntropy(logits=clean.logits, target=nothing), device=device)
        one = nothing.clone()
        one[-1] = 3
        verify(gpu, CrossEntropy(logits=clean.logits, target=one, detach=False), device=device)


@pytest.mark.parametrize("device", DEVICES)
def test_special_scores(gpu, device):
    """Weights of 0, of all of it, and of NaN."""
    for rows, classes in ((9, 6), (70, 200)):
        part = cross_entropy(rows, classes, torch.float32)
        for values in ([INF], [-INF], [NAN], [INF] * rows, [1e30], [-1e30], [88.0 * i for i in range(rows)]):
            given = torch.zeros(rows)
            given[: len(values)] = torch.tensor(values)
            weighed = CrossEntropy(logits=part.logits, target=part.target, score_loss=given, eta=-1.0)
            verify(gpu, weighed, device=device, seeds=(1,))


def test_empty(gpu):
    for rows, classes in ((0, 5), (0, 2000), (0, 100_000)):  # the last is too long for one block
        part = cross_entropy(rows, classes, torch.float32)
        gpu.configure()
        for gradient in (True, False):
            run = Run(gpu, part, gradient=gradient)
            assert run.loss.isnan()
            assert run.batch[1].isnan()
        assert run.backward(1.0).shape == (0, classes)
    for make, size in ((mean_squared, 8), (cross_entropy, 9), (cross_entropy, 900)):
        none = make(0, size, torch.float32)
        run = Run(gpu, none, gradient=True)
        assert run.loss.isnan()
        check_grad(run.grad, expect(none), none)


@pytest.mark.parametrize("dtype", TYPES)
def test_scale(gpu, dtype):
    for count in (1, 7, 4099):
        grad = torch.randn(count, generator=torch.Generator().manual_seed(0)).to(TYPES[dtype])
        gpu.configure(sms=2)
        for factor in (1.0, 0.5, 3.0, 0.0):
            assert torch.equal(gpu.scale(grad, factor), grad * factor)
        assert gpu.scale(grad, NAN).isnan().all()


def test_one_launch_if_it_fits(gpu):
    gpu.configure(sms=4)
    assert Run(gpu, cross_entropy(64, 10, torch.float32), gradient=True).launches == 1
    assert Run(gpu, cross_entropy(64, 700, torch.float32), gradient=True).launches == 1
    assert Run(gpu, mean_squared(8, 4000, torch.float32), gradient=True).launches == 1


@pytest.mark.parametrize("make", [cross_entropy, mean_squared])
def test_a_gpu_that_others_hold_a_part_of(gpu, make):
    """The grid does not fit at once, which only the launch tells: the split kernels do it."""
    gpu.hold(3)
    try:
        for part in (make(64, 700, torch.float32), make(9, 6001, torch.float32, seed=1)):
            verify_once(gpu, part)
            assert gpu.latest()[3] == 0
    finally:
        gpu.hold(0)


def test_every_regime_was_reached():
    """Of the tests above: without them nothing can be said."""
    if not REGIMES:
        pytest.skip("runs after the other tests of this file")
    assert {(kind, regime) for kind in ("ce", "mse") for regime in ("tiny", "on_chip", "split")} == REGIMES


# ---- would a bug be seen? ----------------------------------------------------------------------------------------------


def test_battery(gpu):
    """What the mutants must fail."""
    for _, part, device, seeds in battery():
        verify(gpu, part, device=device, seeds=seeds)


def test_mutants_match_the_source():
    assert mismatches() == []


@pytest.mark.parametrize("number", usually(*USUAL, of=MUTANTS))
def test_mutants(objects, number):
    assert caught(number, objects), f"nothing notices that {MUTANTS[number][0]}"
