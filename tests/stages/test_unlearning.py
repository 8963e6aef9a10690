"""The unlearning loop: who is seen how often, with which labels and weights, and that rows of a seed are comparable."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from loreun_bench.classification.methods.ga import GradientAscent
from loreun_bench.classification.methods.neggrad import NegGradPlus
from loreun_bench.classification.methods.rl import RandomLabel
from loreun_bench.classification.methods.salun import SalUn, forget_gradient
from loreun_bench.classification.unlearning import phase as unlearning
from loreun_bench.classification.unlearning.method import Data
from loreun_bench.errors import Diverged, UserError
from loreun_bench.registry import registry
from loreun_bench.training.loop import epoch
from loreun_bench.training.saliency import top_fraction
from loreun_bench.weightings import Phase

WEIGHTINGS = ["none", "w_f", "w_r", "w_f+w_r", "loreun-s", "loreun-d"]


def phases(name):
    return registry("weightings").get(name).item().phases()


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


class Spy:
    """Records what the operator was called with, and calls it."""

    def __init__(self, monkeypatch):
        self.calls = []
        real = unlearning.loreun_cross_entropy

        def spy(logits, target, score_target=None, **options):
            self.calls.append({"target": target, "score_target": score_target, **options})
            return real(logits, target, score_target, **options)

        monkeypatch.setattr(unlearning, "loreun_cross_entropy", spy)


def seen(toy, monkeypatch, method):
    """How often each image was asked for while unlearning."""
    count = Counter()
    real = type(toy.dataset.train).batch

    def batch(self, index, augment=None, generator=None):
        if augment is not None:
            count.update(index.tolist())
        return real(self, index, augment, generator)

    monkeypatch.setattr(type(toy.dataset.train), "batch", batch)
    method.unlearn(toy.model(), toy.data(), toy.context())
    return count


@pytest.mark.parametrize("batch_size", [7, 16, 1000])
def test_every_sample_is_seen_once_an_epoch_the_last_partial_batch_included(toy, monkeypatch, batch_size):
    count = seen(toy, monkeypatch, RandomLabel(epochs=3, batch_size=batch_size))
    everyone = toy.split.forget.tolist() + toy.split.retain.tolist()
    assert set(everyone) == set(count)
    assert set(count.values()) == {3}


def test_paired_steps_cycle_through_all_forget_samples_not_the_first_batch(toy, monkeypatch):
    count = seen(toy, monkeypatch, RandomLabel(epochs=1, batch_size=8, schedule="paired"))
    times = [count[i] for i in toy.split.forget.tolist()]
    assert min(times) >= 2  # 22 retain batches of 8 against 43 forget samples
    assert max(times) - min(times) <= 1 or min(times) >= 3


def test_validation_images_are_never_trained_on(toy, monkeypatch):
    count = seen(toy, monkeypatch, RandomLabel(epochs=2))
    assert not set(count) & set(toy.split.validation.tolist())


def test_random_labels_are_never_the_true_one_and_all_others_occur(toy):
    labels = torch.arange(3).repeat(1000)
    drawn = RandomLabel().forget_targets(labels, toy.data(), toy.context())
    assert (drawn != labels).all()
    assert {(int(a), int(b)) for a, b in zip(labels, drawn, strict=True)} == {
        (a, b) for a in range(3) for b in range(3) if a != b
    }


def test_protocol_paper_may_draw_the_true_label(make_toy):
    toy = make_toy(protocol="paper")
    labels = torch.arange(3).repeat(1000)
    drawn = RandomLabel().forget_targets(labels, toy.data(), toy.context())
    assert 0.3 < (drawn == labels).float().mean() < 0.37


@pytest.mark.parametrize(("relabel", "kinds"), [("pass", 3), ("fixed", 1)])
def test_labels_are_redrawn_each_pass_or_fixed(toy, relabel, kinds):
    context, method = toy.context(), RandomLabel(relabel=relabel)
    labels = torch.zeros(200, dtype=torch.int64)
    drawn = {tuple(method.forget_targets(labels, toy.data(), context).tolist()) for _ in range(3)}
    assert len(drawn) == kinds


def test_the_clean_label_sets_the_weight_and_the_random_label_is_optimised(toy, monkeypatch):
    spy = Spy(monkeypatch)
    RandomLabel(epochs=1, batch_size=1000).unlearn(toy.model(), toy.data(), toy.context(phases("w_f")))
    forget, retain = spy.calls
    clean = toy.image_set("forget").labels
    assert torch.equal(forget["score_target"].sort().values, clean.sort().values)
    assert (forget["target"] != forget["score_target"]).all()
    assert (forget["eta"], forget["direction"]) == (0.1, "forget")
    assert torch.equal(retain["target"], retain["score_target"])
    assert retain["eta"] == 0.0


def test_the_uniform_weighting_goes_through_the_same_operator(toy, monkeypatch):
    spy = Spy(monkeypatch)
    RandomLabel(epochs=1, batch_size=1000).unlearn(toy.model(), toy.data(), toy.context(phases("none")))
    assert [call["eta"] for call in spy.calls] == [0.0, 0.0]


def test_the_retain_weight_grows_with_the_loss(toy, monkeypatch):
    spy = Spy(monkeypatch)
    RandomLabel(epochs=1, batch_size=1000).unlearn(toy.model(), toy.data(), toy.context(phases("w_r")))
    assert (spy.calls[1]["eta"], spy.calls[1]["direction"]) == (0.25, "retain")


def test_static_scores_are_each_samples_own_loss_on_the_original_model(toy, monkeypatch):
    spy = Spy(monkeypatch)
    model = toy.model()
    expected = unlearning.losses_of(model, toy.image_set("forget"), toy.context())
    RandomLabel(epochs=2, batch_size=16).unlearn(model, toy.data(), toy.context(phases("loreun-s")))
    scores = [call["score_loss"] for call in spy.calls if call.get("score_loss") is not None]
    per_epoch = torch.cat(scores).sort().values.view(-1)
    torch.testing.assert_close(per_epoch, expected.repeat(2).sort().values)


def test_static_scores_are_computed_in_evaluation_mode_and_counted(toy):
    model = toy.model().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    context = toy.context()
    unlearning.losses_of(model, toy.image_set("forget"), context)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model.training
    assert context.meter.forward_samples == len(toy.split.forget)


def test_loreun_d_is_w_f_with_one_over_its_temperature(toy):
    rows = []
    for phase in (
        registry("weightings").get("loreun-d").item(temperature=4.0),
        registry("weightings").get("w_f").item(eta_f=0.25),
    ):
        rows.append(weights(RandomLabel(epochs=2).unlearn(toy.model(), toy.data(), toy.context(phase.phases()))))
    assert torch.equal(*rows)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_every_weighting_gets_the_same_steps_and_backward_samples(toy, weighting):
    context = toy.context(phases(weighting))
    RandomLabel(epochs=2).unlearn(toy.model(), toy.data(), context)
    trained = 2 * (len(toy.split.forget) + len(toy.split.retain))
    reference_pass = len(toy.split.forget) if weighting == "loreun-s" else 0
    assert (context.meter.backward_samples, context.meter.forward_samples) == (trained, trained + reference_pass)


def test_weightings_and_methods_of_a_seed_see_the_same_batches_and_labels(toy, monkeypatch):
    traces = []
    for method, weighting in ((RandomLabel(epochs=2), "none"), (RandomLabel(epochs=2), "w_f+w_r"), (SalUn(epochs=2), "w_f")):
        spy = Spy(monkeypatch)
        method.unlearn(toy.model(), toy.data(), toy.context(phases(weighting), crop=1, flip=True))
        traces.append(torch.cat([call["target"] for call in spy.calls]))
        monkeypatch.undo()
    assert torch.equal(traces[0], traces[1])
    assert torch.equal(traces[0], traces[2])


@pytest.mark.parametrize("weighting", ["w_f", "w_r", "w_f+w_r", "loreun-s", "loreun-d"])
def test_a_weighting_changes_the_result(toy, weighting):
    results = [
        weights(RandomLabel(epochs=2).unlearn(toy.model(), toy.data(), toy.context(phases(name))))
        for name in ("none", weighting)
    ]
    assert not torch.equal(*results)


def test_unlearning_repeats_to_the_bit(toy):
    runs = [weights(SalUn(epochs=2).unlearn(toy.model(), toy.data(), toy.context(crop=1, flip=True))) for _ in range(2)]
    assert torch.equal(*runs)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_salun_moves_at_most_its_share_of_weights(toy, optimizer):
    model = toy.model()
    before = weights(model)
    SalUn(epochs=2, density=0.25, optimizer=optimizer, weight_decay=0.1).unlearn(model, toy.data(), toy.context())
    assert 0 < (weights(model) != before).sum() <= round(0.25 * len(before))


def test_under_protocol_paper_saluns_other_weights_move_too(make_toy):
    toy = make_toy(protocol="paper")
    model = toy.model()
    before = weights(model)
    SalUn(epochs=2, density=0.25, weight_decay=0.1).unlearn(model, toy.data(), toy.context())
    assert (weights(model) != before).float().mean() > 0.5


def test_the_mask_is_of_all_forget_samples_signed_before_magnitude_and_leaves_the_model_alone(toy, monkeypatch):
    model = toy.model().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    forget = toy.image_set("forget")
    model.eval()
    whole = torch.nn.functional.cross_entropy(model(forget.images.batch(forget.index)), forget.labels)
    expected = torch.autograd.grad(whole, list(model.parameters()))
    monkeypatch.setattr(unlearning, "EVALUATION_BATCH", 10)  # batches must add up, the first included
    found = forget_gradient(model, toy.data(), toy.context(crop=2, flip=True), 256)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_frozen_batchnorm_keeps_its_statistics_and_others_drift(toy):
    drift = []
    for freeze in (True, False):
        model = toy.model()
        RandomLabel(epochs=1, freeze_batchnorm=freeze).unlearn(model, toy.data(), toy.context())
        drift.append(float(model[1].running_mean.abs().sum()))
    assert drift[0] == 0
    assert drift[1] > 0


def test_gradient_ascent_raises_the_forget_loss_and_never_reads_retain(toy):
    model = RandomLabel(epochs=3, lr=0.05).unlearn(toy.model(), toy.data(), toy.context())
    forget = toy.image_set("forget")
    before = unlearning.losses_of(model, forget, toy.context()).mean()
    GradientAscent(epochs=2, lr=0.01).unlearn(model, toy.data(uses=("forget",)), toy.context())
    assert unlearning.losses_of(model, forget, toy.context()).mean() > before


def test_neggrad_combines_both_batches_in_each_step(toy, monkeypatch):
    spy = Spy(monkeypatch)
    method = NegGradPlus(epochs=1, batch_size=32, beta=0.9)
    method.unlearn(toy.model(), toy.data(), toy.context())
    assert (method.forget_scale, method.retain_scale) == (pytest.approx(-0.1), 0.9)
    retain_steps = -(-len(toy.split.retain) // 32)
    assert len(spy.calls) == 2 * retain_steps


def test_reading_an_undeclared_set_is_an_error(toy):
    with pytest.raises(UserError, match="read the forget set but declares"):
        RandomLabel(epochs=1).unlearn(toy.model(), toy.data(uses=("retain",)), toy.context())
    data = Data({"forget": toy.image_set("forget")}, frozenset({"forget"}), 3)
    assert len(data.forget) == len(toy.split.forget)


def test_divergence_is_raised_not_returned(toy):
    with pytest.raises(Diverged):
        NegGradPlus(epochs=20, lr=1e4, beta=0.1).unlearn(toy.model(), toy.data(), toy.context())


def test_step_limit_stops_early(toy):
    context = toy.context()
    context.limit_steps = 2
    RandomLabel(epochs=5, batch_size=8).unlearn(toy.model(), toy.data(), context)
    assert context.meter.backward_samples == 16


def test_phase_score_is_current_by_default():
    assert Phase("forget", 0.1).score == "current"


def test_protocol_papers_mask_adds_up_batch_means_and_rounds_down(make_toy):
    """43 forget samples in batches of 20: the three of the last batch weigh as much as twenty."""
    toy = make_toy(protocol="paper")
    model, context = toy.model(), toy.context()
    found = forget_gradient(model, toy.data(), context, 20)
    forget, order = toy.image_set("forget"), epoch(43, 20, toy.context().stream("order", "mask"))
    assert [len(part) for part in order] == [20, 20, 3]
    model.eval()
    total = [torch.zeros_like(p) for p in model.parameters()]
    for part in order:
        logits = model(forget.images.batch(forget.index[part]))
        loss = torch.nn.functional.cross_entropy(logits, forget.labels[part])
        for sum_, gradient in zip(total, torch.autograd.grad(loss, list(model.parameters())), strict=True):
            sum_ += gradient
    for ours, theirs in zip(found, total, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
    masks = top_fraction([torch.arange(1.0, 8.0)], 0.5, int)
    assert int(masks[0].sum()) == 3
