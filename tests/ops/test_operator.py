"""The operator against the paper's formulas, written out, and the facts that follow from them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from loreun_bench.ops import loreun_cross_entropy, loreun_weights

DOUBLE = torch.float64


def batch(n=16, c=5, seed=0, dtype=DOUBLE):
    g = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, c, generator=g, dtype=DOUBLE)
    return logits.to(dtype), torch.randint(c, (n,), generator=g), torch.randint(c, (n,), generator=g)


@pytest.mark.parametrize(("direction", "sign"), [("forget", -1), ("retain", 1)])
@pytest.mark.parametrize("distance", ["difference", "ratio"])
def test_loss_is_the_papers_formula(direction, sign, distance):
    logits, random, clean = batch()
    reference = torch.rand(16, dtype=DOUBLE) + 0.5
    score = F.cross_entropy(logits, clean, reduction="none")
    excess = score - reference if distance == "difference" else score / reference
    raw = torch.exp(sign * 0.3 * excess)
    expected = (raw / raw.sum() * F.cross_entropy(logits, random, reduction="none")).sum()
    loss = loreun_cross_entropy(logits, random, clean, eta=0.3, direction=direction, ref_loss=reference, distance=distance)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)


def test_forgetting_weighs_well_remembered_samples_more_and_retaining_less():
    losses = torch.tensor([0.1, 2.0, 5.0])
    assert loreun_weights(losses, eta=0.5, direction="forget").argmax() == 0
    assert loreun_weights(losses, eta=0.5, direction="retain").argmax() == 2


@given(st.floats(-50, 50), st.floats(0, 2), st.sampled_from(["forget", "retain"]))
@settings(max_examples=50, deadline=None)
def test_a_scalar_reference_cancels_in_difference_form(reference, eta, direction):
    losses = torch.rand(9, dtype=DOUBLE)
    plain = loreun_weights(losses, eta=eta, direction=direction)
    torch.testing.assert_close(loreun_weights(losses, eta=eta, direction=direction, ref_loss=reference), plain)


def test_a_reference_matters_in_ratio_form_and_per_sample():
    losses, reference = torch.rand(9, dtype=DOUBLE) + 1, torch.rand(9, dtype=DOUBLE) + 1
    plain = loreun_weights(losses, eta=1.0, direction="forget")
    for other in (
        loreun_weights(losses, eta=1.0, direction="forget", ref_loss=3.0, distance="ratio"),
        loreun_weights(losses, eta=1.0, direction="forget", ref_loss=reference),
    ):
        assert not torch.allclose(other, plain)


def test_eta_zero_is_the_plain_mean():
    logits, target, clean = batch()
    loss = loreun_cross_entropy(logits, target, clean, eta=0.0, direction="forget")
    assert loss.item() == pytest.approx(F.cross_entropy(logits, target).item(), rel=1e-14)


def test_one_sample_has_weight_one_and_permuting_permutes():
    assert loreun_weights(torch.tensor([7.0]), eta=3.0, direction="forget").item() == 1.0
    losses, order = torch.rand(8, dtype=DOUBLE), torch.randperm(8)
    weights = loreun_weights(losses, eta=0.7, direction="retain")
    torch.testing.assert_close(loreun_weights(losses[order], eta=0.7, direction="retain"), weights[order])
    assert weights.sum().item() == pytest.approx(1)


def test_large_losses_do_not_overflow():
    weights = loreun_weights(torch.tensor([0.0, 900.0, 1e4]), eta=0.25, direction="retain")
    assert torch.isfinite(weights).all()
    assert weights[2] == 1


def test_gradient_is_w_times_softmax_minus_onehot_and_weights_are_detached():
    logits, target, clean = batch()
    logits.requires_grad_()
    loss, stats = loreun_cross_entropy(logits, target, clean, eta=0.4, direction="forget", return_stats=True)
    loss.backward()
    expected = stats.weights[:, None] * (logits.detach().softmax(1) - F.one_hot(target, 5))
    torch.testing.assert_close(logits.grad, expected, rtol=1e-12, atol=1e-15)
    assert stats.effective_samples.item() == pytest.approx(1 / stats.weights.square().sum().item())


def test_undetached_weights_carry_gradient():
    logits, target, clean = batch(6, 4)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: loreun_cross_entropy(x, target, clean, eta=0.4, direction="forget", detach_weights=False), logits
    )


def test_given_scores_set_the_weights():
    logits, target, _ = batch()
    scores = torch.rand(16, dtype=DOUBLE)
    _, stats = loreun_cross_entropy(logits, target, eta=2.0, direction="forget", score_loss=scores, return_stats=True)
    torch.testing.assert_close(stats.weights, torch.softmax(-2 * scores, 0))


def test_ignored_rows_have_no_weight_and_no_gradient():
    logits, target, _ = batch()
    logits.requires_grad_()
    target[::3] = -100
    loss = loreun_cross_entropy(logits, target, eta=0.2, direction="retain")
    loss.backward()
    assert (logits.grad[::3] == 0).all()
    kept = target != -100
    assert loss.item() == pytest.approx(
        loreun_cross_entropy(logits[kept], target[kept], eta=0.2, direction="retain").item(), rel=1e-12
    )


def test_nothing_to_average_is_nan_and_nan_propagates():
    assert math.isnan(
        loreun_cross_entropy(torch.empty(0, 3), torch.empty(0, dtype=torch.int64), eta=0.1, direction="forget")
    )
    assert math.isnan(loreun_cross_entropy(torch.rand(2, 3), torch.tensor([-100, -100]), eta=0.1, direction="forget"))
    logits = torch.rand(2, 3)
    logits[0, 0] = math.nan
    assert math.isnan(loreun_cross_entropy(logits, torch.tensor([0, 1]), eta=0.1, direction="forget"))


def test_masked_classes_and_sixteen_bit_logits_work():
    logits, target, _ = batch(dtype=torch.float32)
    logits[:, 4] = -math.inf
    target.clamp_(max=3)
    assert torch.isfinite(loreun_cross_entropy(logits, target, eta=0.1, direction="forget"))
    loss = loreun_cross_entropy(logits.bfloat16(), target, eta=0.1, direction="forget")
    assert loss.dtype == torch.float32


def test_label_smoothing_is_torchs():
    logits, target, _ = batch()
    loss = loreun_cross_entropy(logits, target, eta=0.0, direction="forget", label_smoothing=0.1)
    assert loss.item() == pytest.approx(F.cross_entropy(logits, target, label_smoothing=0.1).item(), rel=1e-12)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"logits": torch.rand(4)}, ValueError, "logits"),
        ({"logits": torch.ones(4, 3, dtype=torch.int64)}, ValueError, "floating"),
        ({"logits": torch.rand(4, 0)}, ValueError, "C > 0"),
        ({"target": torch.zeros(5, dtype=torch.int64)}, ValueError, "target"),
        ({"target": torch.zeros(4)}, ValueError, "int64"),
        ({"target": torch.tensor([0, 1, 9, 2])}, IndexError, r"target\[2\] = 9"),
        ({"score_target": torch.tensor([0, -1, 1, 2])}, IndexError, r"score_target\[1\] = -1"),
        ({"eta": math.nan}, ValueError, "finite"),
        ({"eta": math.inf}, ValueError, "finite"),
        ({"direction": "sideways"}, ValueError, "direction"),
        ({"distance": "ratio"}, ValueError, "positive"),
        ({"distance": "ratio", "ref_loss": math.nan}, ValueError, "finite"),
        ({"ref_loss": torch.rand(4, 1)}, ValueError, "number or"),
        ({"ref_loss": math.inf}, ValueError, "finite"),
        ({"score_loss": torch.rand(3)}, ValueError, "score_loss"),
    ],
)
def test_wrong_arguments_are_named(change, error, says):
    arguments = {"logits": torch.rand(4, 3), "target": torch.tensor([0, 1, 2, 0]), "eta": 0.1, "direction": "forget"}
    with pytest.raises(error, match=says):
        loreun_cross_entropy(**(arguments | change))
