"""Where NaN and infinities are, and that large logits keep their precision."""

from __future__ import annotations

import itertools

import pytest
import torch
from accuracy import (
    INF,
    NAN,
    NATIVE,
    TYPES,
    Found,
    assert_close,
    batch,
    compiled,
    run,
    wanted_ce,
)
from torch import Tensor

from loreun_bench.ops import loreun_cross_entropy


def spoiled(change: str, classes: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, dict]:
    logits, target, clean = batch(20, classes, dtype)
    target[:], clean[:], more = 0, 1, {}
    if change == "NaN":
        logits[3, classes - 1] = NAN
    elif change == "+inf":
        logits[3, classes - 1] = INF
    elif change == "masked classes":
        logits[:, classes // 2 :] = -INF
    elif change == "first classes masked":
        logits[:, : classes - 1], target[:], clean[:] = -INF, classes - 1, classes - 1
    elif change == "masked by a large number":
        logits[:, 2:] = torch.finfo(dtype).min / 1e7
    elif change == "whole row masked":
        logits[4] = -INF
    elif change == "infinite clean loss":
        logits[5, 1] = -INF
    elif change == "infinite objective":
        logits[5, 0] = -INF
    elif change == "every clean loss infinite":
        logits[:, 1] = -INF
    elif change == "infinite given score":
        more["score_loss"], clean = torch.ones(20, dtype=dtype).index_fill(0, torch.tensor([2]), INF), None
    elif change == "ignored NaN":
        logits[6], target[6] = NAN, -100
    elif change == "all ignored":
        target[:] = -100
    elif change == "no rows":
        logits, target, clean = logits[:0], target[:0], clean[:0]
    elif change == "far from zero":
        logits += 1e4
    elif change == "far below zero":
        logits -= 1e4
    return logits, target, clean, more


CHANGES = [
    "NaN", "+inf", "masked classes", "first classes masked", "masked by a large number", "whole row masked",
    "infinite clean loss", "infinite objective", "every clean loss infinite", "infinite given score", "ignored NaN",
    "all ignored", "no rows", "far from zero", "far below zero",
]  # fmt: skip


@pytest.mark.parametrize("path", NATIVE)
@pytest.mark.parametrize("dtype", ["f32", "f64", "bf16"])
@pytest.mark.parametrize("change", CHANGES)
def test_what_is_not_a_number_is_where_eager_torch_has_it(change, dtype, path):
    """NaN and infinities of loss, losses, weights and gradient; every other number is right."""
    for classes, mode in itertools.product((10, 80, 5000), ({}, {"detach_weights": False}, {"label_smoothing": 0.1})):
        for direction in ("forget", "retain"):
            logits, target, clean, more = spoiled(change, classes, TYPES[dtype])
            options = {"eta": 0.3, "direction": direction} | mode | more
            found = run(loreun_cross_entropy, path, logits, target, clean, **options)
            same = run(loreun_cross_entropy, "reference", logits.double(), target, clean, **options)
            ignored = target == -100
            assert bool((found.grad[ignored] == 0).all())
            same.grad[ignored] = 0
            for name, actual, expected in zip(Found._fields, found, same, strict=True):
                agree = (actual.isfinite() == expected.isfinite()) & (actual.isnan() == expected.isnan())
                assert bool(agree.all()), (name, classes, options, actual, expected)
            if bool(same.loss.isfinite()):
                assert_close(found, wanted_ce(logits, target, clean, **options))


@pytest.mark.parametrize("path", NATIVE)
@pytest.mark.parametrize("classes", [10, 80])
def test_logits_far_from_zero_keep_their_precision(classes, path):
    """As torch's log_softmax: a difference of logits is exact, whatever they have in common."""
    logits, target, _ = batch(20, classes)
    logits = (logits * 64).round() / 64
    near, far = (run(loreun_cross_entropy, path, x, target, eta=0.3, direction="forget") for x in (logits, logits + 1e4))
    for name, a, b in zip(Found._fields, near, far, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-6, atol=1e-9, msg=name)


@pytest.mark.parametrize("path", NATIVE)
@pytest.mark.parametrize("rise", [1.0, 39.0, 50.0, 300.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_rows_whose_largest_classes_come_late(smoothing, rise, path):
    """Each block of a long row is `rise` above the one before: a little, or past overflow."""
    logits, target, clean = batch(6, 5000)
    logits = logits + rise * (torch.arange(5000) // 2048)
    options = {"eta": 0.01, "direction": "forget", "label_smoothing": smoothing}  # small: losses are 600 apart
    found = run(loreun_cross_entropy, path, logits, target, clean, **options)
    assert_close(found, wanted_ce(logits, target, clean, **options))


@compiled
@pytest.mark.parametrize("classes", [5, 100, 3000])  # three ways to make the gradient
def test_a_row_that_is_masked_whole_has_no_gradient_even_where_its_score_is_given(classes):
    x = torch.zeros(3, classes)
    x[1] = -INF
    x.requires_grad_()
    loss = loreun_cross_entropy(x, torch.zeros(3, dtype=torch.int64), eta=0.1, direction="forget", score_loss=torch.ones(3))
    (found,) = torch.autograd.grad(loss, x)
    assert found[1].isnan().all()
    assert found[[0, 2]].isfinite().all()
