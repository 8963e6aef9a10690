"""The rival weightings and the controls: against their formulas, and in what they are told and leave in the record."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import lambertw
from torch.nn import functional as F

import loreun_bench
from loreun_bench import config as configuration
from loreun_bench.classification.methods.rl import RandomLabel
from loreun_bench.harness.plan import build
from loreun_bench.registry import registry
from loreun_bench.training.tally import MOST, WeightTally
from loreun_bench.weightings import Batch, Phase, phases_of

FLOOR = -2 / math.e + 1e-15  # the branch point itself is one rounding from having no value
LOSSES = np.array([0.01, 0.2, 1.0, 2.5, 7.0])


def item(name: str, **settings):
    return registry("weightings").get(name).item(**settings)


def batch(**more) -> Batch:
    """Ten classes; each row's clean loss is one of LOSSES."""
    labels = torch.tensor([0, 1, 1, 0, 2])
    loss = torch.tensor(LOSSES, dtype=torch.float32)
    logits = torch.zeros(5, 10)
    logits[torch.arange(5), labels] = torch.log(9 / torch.expm1(loss))
    clean = F.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(clean, loss, rtol=1e-4, atol=1e-6)
    return Batch(clean, clean + 1, labels, logits, "forget", 0, 0, **more)


def falw(t):
    mean, deviation = np.array([0.9, 0.5]), np.array([0.1, 0.2])
    p, labels = np.exp(-LOSSES), np.array([0, 1, 1, 0, 2])
    z = (p - np.append(mean, 0.3)[labels]) / np.append(deviation, 0.0)[labels].clip(1e-6)
    return 1 + np.sign(z) * np.tanh(abs(z)) ** (1 / t)


UNSEEN = torch.tensor([[0.9, 0.5, 0.3] + [0.0] * 7, [0.1, 0.2, 0.0] + [1.0] * 7])
ORIGINAL = torch.tensor([0.3, 0.3, 0.1, 5.0, 0.0])
FORMULAS = {
    "sfron": ({"power": 0.7}, LOSSES**-0.7, {}),
    "wga": ({"beta": 0.5}, np.exp(-LOSSES) ** 0.5, {}),
    "satimp": ({}, np.exp(-LOSSES) ** 5 * (1 - np.exp(-LOSSES)), {}),
    "npo": ({"beta": 0.8}, 2 / (1 + np.exp(0.8 * (LOSSES - ORIGINAL.numpy()))), {"original": ORIGINAL}),
    "superloss": (
        {"regularisation": 0.6},
        np.exp(-lambertw(0.5 * np.maximum(FLOOR, (LOSSES - math.log(10)) / 0.6)).real), {},
    ),
    "falw": ({"temperature": 2.0}, falw(2.0), {"unseen": UNSEEN}),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMULAS)
def test_a_rival_is_its_papers_formula(name):
    settings, wanted, told = FORMULAS[name]
    rule = phases_of(item(name, **settings))["forget"]
    found = rule.weights(batch(**told)).double().numpy()
    np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=1e-6)
    assert rule.normalize == ("batch" if name == "sfron" else "mean")
    assert (rule.score, rule.validation) == ("original" if name == "npo" else "current", name == "falw")


def test_superloss_is_finite_from_nothing_to_much():
    values = torch.tensor([0.0, 1e-6, 0.1, 1.0, 30.0, 1e4])
    seen = Batch(values, values, torch.zeros(6, dtype=torch.long), torch.zeros(6, 10), "forget", 0, 0)
    for scale in (0.05, 1.0, 10.0):
        found = item("superloss", regularisation=scale).weights(seen)
        wanted = np.exp(-lambertw(np.maximum(FLOOR, (values.double().numpy() - math.log(10)) / scale) / 2).real)
        np.testing.assert_allclose(found.numpy(), wanted, rtol=2e-3, atol=1e-6)


def test_no_weighting_breaks_at_a_loss_of_nothing():
    values = torch.tensor([0.0, 1e-45, 100.0])
    told = {"original": values, "unseen": torch.zeros(2, 10), "generator": torch.Generator()}
    seen = Batch(values, values, torch.zeros(3, dtype=torch.long), torch.zeros(3, 10), "forget", 0, 0, **told)
    for name in (*FORMULAS, "random"):
        found = phases_of(item(name))["forget"].of(seen)
        assert bool((found.isfinite() & (found >= 0)).all()), name


def test_the_controls_are_w_f_turned_round_and_dealt_out():
    seen = batch(generator=torch.Generator().manual_seed(3))
    w_f = torch.softmax(-0.4 * seen.clean_losses, 0)
    dealt = phases_of(item("random", eta_f=0.4))["forget"].of(seen)
    torch.testing.assert_close(dealt.sort().values, w_f.sort().values)
    assert not torch.equal(dealt, w_f)
    assert phases_of(item("inverted", eta_f=0.4)) == {"forget": Phase("retain", 0.4)}  # exp(+0.4 loss)


@pytest.mark.parametrize("name", [entry.name for entry in registry("weightings").entries()])
def test_every_weighting_trains(toy, name):
    rules = phases_of(item(name))
    context = toy.context(phases=rules)
    model = RandomLabel(epochs=2, batch_size=16).unlearn(toy.model(), toy.data(), context)
    assert all(bool(p.isfinite().all()) for p in model.parameters())
    found = context.uneven().get("weights", {})
    assert found.keys() == rules.keys()
    for summary in found.values():
        assert len(summary["effective"]) == len(summary["largest"]) == 2
        assert all(0 < share <= 1 for share in summary["effective"])
        assert all(largest >= 1 for largest in summary["largest"])


def test_unseen_pictures_are_the_validation_set_as_the_original_sees_it(toy):
    model, told = toy.model(), []

    class Spy:
        name, needs_validation = "spy", True

        def weights(self, seen):
            told.append(seen.unseen_probabilities)
            return torch.ones(len(seen.labels))

    RandomLabel(epochs=1).unlearn(model, toy.data(), toy.context(phases=phases_of(Spy())))
    kept, before = toy.image_set("validation"), toy.model().eval()
    p = before(kept.images.batch(kept.index)).softmax(1)[torch.arange(len(kept)), kept.labels].detach()
    wanted = torch.stack([torch.stack([p[kept.labels == c].mean() for c in range(3)]),
                          torch.stack([p[kept.labels == c].std() for c in range(3)])])  # fmt: skip
    torch.testing.assert_close(told[0], wanted, rtol=1e-4, atol=1e-6)
    assert all(each is told[0] for each in told)


def test_a_tally_is_of_batches_by_epoch_and_no_longer_than_a_record_can_hold():
    tally = WeightTally()
    for epoch, weights in ((0, [1.0, 1.0, 2.0]), (0, [0.5]), (1, [0.0, 3.0]), (2, [0.0, 0.0])):
        tally.add(epoch, torch.tensor(weights))
    share = (16 / 6 / 3 * 3 + 1 * 1) / 4
    assert tally.summary() == {
        "effective": pytest.approx([share, 0.5, 0.0], abs=1e-4), "largest": pytest.approx([1.5, 2.0, 0.0])
    }  # fmt: skip
    assert WeightTally().summary() == {}
    for epoch in range(3, 300):
        tally.add(epoch, torch.tensor([1.0, 1.0 + epoch]))
    found = tally.summary()["largest"]
    assert len(found) == MOST
    assert (found[0], found[-1]) == (1.5, pytest.approx(2 * 300 / 301, abs=1e-3))


def test_weights_are_in_the_record(tmp_path):
    values = {
        "dataset": "digits", "seeds": 1, "limit_images": 300, "scenarios": [{"kind": "class", "forget_class": 3}],
        "train": {"epochs": 1}, "methods": {"Retrain": {}, "RL": {"epochs": 3}}, "weightings": ["none", "w_f", "random"],
    }  # fmt: skip
    run = loreun_bench.sweep(values, out=tmp_path / "run", workers=0)
    found = {r.weighting: r.weights for r in run if r.method == "RL"}
    assert found["none"] == {}
    for name in ("w_f", "random"):
        assert len(found[name]["forget"]["effective"]) == 3


def test_falw_without_validation_pictures_is_left_out():
    values = {
        "dataset": "digits", "seeds": 1, "scenarios": [{"kind": "class", "forget_class": 3}],
        "methods": {"RL": {}, "GA": {}}, "weightings": ["none", "falw"],
    }  # fmt: skip
    plan = build(configuration.load(values | {"validation": 0}))
    assert [cell.record.weighting for cell in plan.cells if cell.record.method == "RL"] == ["none"]
    assert plan.notes.count("falw left out: it needs validation pictures, and there are none: set `validation`") == 1
    plan = build(configuration.load(values))
    assert [cell.record.weighting for cell in plan.cells if cell.record.method == "RL"] == ["none", "falw"]
