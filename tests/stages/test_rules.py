"""Weightings that are a function of the batch: what they are told, what becomes of their weights, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch.nn import functional as F

import loreun_bench
from loreun_bench.classification.methods.rl import RandomLabel
from loreun_bench.errors import UserError
from loreun_bench.harness.conformance import check_plugin
from loreun_bench.registry import registry
from loreun_bench.weightings import Batch, Rule, phases_of


def trained(toy, phases, **settings) -> torch.Tensor:
    torch.manual_seed(0)
    model = RandomLabel(epochs=2, batch_size=16, **settings).unlearn(toy.model(), toy.data(), toy.context(phases=phases))
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("schedule", ["sequential", "paired"])
def test_a_batch_is_what_it_says(toy, schedule):
    model = toy.model()
    original = {
        name: F.cross_entropy(model.eval()(part.images.batch(part.index)), part.labels, reduction="none").detach()
        for name, part in ((name, getattr(toy.data(), name)) for name in ("forget", "retain"))
    }
    seen: list[Batch] = []

    def weights(batch: Batch) -> torch.Tensor:
        seen.append(batch)
        return torch.ones_like(batch.clean_losses)

    torch.manual_seed(0)
    phases = {name: Rule(weights, score="original", name="spy") for name in ("forget", "retain")}
    chosen = RandomLabel(epochs=2, batch_size=16, schedule=schedule)
    chosen.unlearn(model, toy.data(), toy.context(phases=phases))
    for batch in seen:
        torch.testing.assert_close(batch.clean_losses, F.cross_entropy(batch.logits, batch.labels, reduction="none"))
        torch.testing.assert_close(batch.probabilities, batch.logits.softmax(1))
        assert not batch.logits.requires_grad
        assert not batch.objective_losses.requires_grad
        known = original[batch.phase]
        assert all(float((known - value).abs().min()) < 1e-5 for value in batch.original_losses)
        if batch.phase == "retain":
            assert torch.equal(batch.clean_losses, batch.objective_losses)
        else:
            assert not torch.equal(batch.clean_losses, batch.objective_losses)
    for name in ("forget", "retain"):
        of_phase = [batch for batch in seen if batch.phase == name]
        assert [batch.step for batch in of_phase] == list(range(len(of_phase)))
        assert [batch.epoch for batch in of_phase] == sorted(batch.epoch for batch in of_phase)
    assert {batch.epoch for batch in seen if batch.phase == "retain"} == {0, 1}


def test_weights_of_one_are_the_plain_mean_and_a_softmax_is_loreun(toy):
    ones = Rule(lambda batch: torch.ones_like(batch.clean_losses))
    torch.testing.assert_close(trained(toy, {"forget": ones, "retain": ones}), trained(toy, {}), rtol=1e-4, atol=1e-6)
    softmax = Rule(lambda batch: torch.exp(-0.5 * batch.clean_losses), normalize="batch")
    loreun = dict(registry("weightings").get("w_f").item(eta_f=0.5).phases())
    found, wanted = trained(toy, {"forget": softmax}), trained(toy, loreun)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(wanted, trained(toy, {}), rtol=1e-4, atol=1e-6)
    half = Rule(lambda batch: torch.full_like(batch.clean_losses, 0.5))
    assert not torch.allclose(trained(toy, {"forget": half}), trained(toy, {}), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        (lambda batch: batch.clean_losses[:-1], r"weighting 'odd': weights must give floating \[16\]"),
        (lambda batch: -batch.clean_losses, r"weighting 'odd': weights must be finite and not negative"),
        (lambda batch: batch.clean_losses / 0, r"weighting 'odd': weights must be finite and not negative"),
        (lambda batch: 1.0, r"weighting 'odd': weights must give floating \[16\], .* gave float"),
        (lambda batch: batch.original_losses, r"needs_original = True"),
    ],
)
def test_what_are_no_weights_is_refused(toy, weights, says):
    with pytest.raises(UserError, match=says):
        trained(toy, {"forget": Rule(weights, name="odd")})


def test_what_a_function_needs_is_read_from_it_or_said():
    @dataclass(frozen=True)
    class Reads:
        name = "reads"

        def weights(self, batch):
            return sum(1 / (1 + each) for each in [batch.original_losses])

    @dataclass(frozen=True)
    class Says:
        name = "says"
        active = ("retain", "forget")
        normalize = "batch"
        needs_original = True

        def weights(self, batch):
            return getattr(batch, "original" + "_losses")

    class Odd(Says):
        active = ("both",)

    assert {name: rule.score for name, rule in phases_of(Reads()).items()} == {"forget": "original"}
    found = phases_of(Says())
    assert list(found) == ["retain", "forget"]
    assert {(rule.score, rule.normalize) for rule in found.values()} == {("original", "batch")}
    with pytest.raises(ValueError, match="both"):
        phases_of(Odd())


PLUGIN = """
from dataclasses import dataclass
from loreun_bench import weighting

@weighting("{name}")
@dataclass(frozen=True)
class Mine:
    "Samples that are remembered well weigh more."
    beta: float = 1.0
    {says}

    def weights(self, batch):
        return {weights}
"""


def plugin(tmp_path, name: str, weights: str, says: str = ""):
    file = tmp_path / f"{name.replace('-', '_')}.py"
    file.write_text(PLUGIN.format(name=name, weights=weights, says=says))
    return file


@pytest.mark.parametrize("kept", ["frozen=True", "frozen=True, slots=True"])
def test_ten_lines_are_a_row(tmp_path, kept):
    file = plugin(tmp_path, "confidence", "(-self.beta * batch.clean_losses).exp()")
    file.write_text(file.read_text().replace("frozen=True", kept))
    assert check_plugin(file)[0].startswith("ok weighting confidence: weights forget")
    config = {
        "name": "own", "seeds": 1, "train": {"epochs": 1, "batch_size": 32}, "noise_floor": False,
        "scenarios": [{"kind": "class", "forget_class": 1}], "metrics": ["accuracy"],
        "methods": {"Retrain": {}, "RL": {"epochs": 1}}, "weightings": ["none", "confidence"],
    }  # fmt: skip
    records = loreun_bench.sweep(config, tmp_path / "run", workers=0, plugins=[file])
    assert [record.reason for record in records if record.status != "ok"] == []
    assert [record.weighting for record in records if record.method == "RL"] == ["none", "confidence"]


@pytest.mark.parametrize(
    ("weights", "says", "wrong"),
    [
        ("batch.clean_losses[:3]", "", "weights must give floating"),
        ("batch.losses", "", "AttributeError"),
        ("batch.clean_losses", "active = ('all',)", "active"),
        ("batch.clean_losses", "normalize = 'sum'", "normalize"),
    ],
)
def test_check_says_what_is_wrong(tmp_path, weights, says, wrong):
    (line,) = check_plugin(plugin(tmp_path, f"odd-{len(weights)}{len(says)}", weights, says))[:1]
    assert line.startswith("wrong weighting")
    assert wrong in line
