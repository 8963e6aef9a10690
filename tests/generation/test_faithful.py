"""Where papers and reference code are followed, and where not: each difference from them that was found, measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from loreun_bench import api
from loreun_bench.decorators import weighting
from loreun_bench.errors import UserError
from loreun_bench.generation.data.latents import LatentSet
from loreun_bench.generation.datasets.digits import WORDS, digits
from loreun_bench.generation.pipeline import pipelines, sampling
from loreun_bench.generation.unlearning import curve as curves
from loreun_bench.generation.unlearning import gradient as unlearning
from loreun_bench.generation.unlearning.method import Context, Data
from loreun_bench.generation.unlearning.protocols import PROTOCOLS
from loreun_bench.registry import registry
from loreun_bench.training.clock import Meter
from loreun_bench.training.constraints import GradientMask, HardMask
from loreun_bench.training.optimiser import make_optimiser

PROMPTS = tuple(f"an image of {word}" for word in WORDS)
SEVEN = 7
GRID = [0, 3, 7, 20, 50, 85, 120, 250, 450, 600, 800, 950]


def context(protocol="corrected", seed=0):
    return Context(
        device="cpu", precision="fp32", protocol=PROTOCOLS[protocol], phases={}, curve={}, seed=seed, meter=Meter("cpu")
    )  # fmt: skip


def method(name, **settings):
    return registry("methods", "generation").get(name).item(**settings)


# ---- SalUn


def test_the_mask_is_of_saluns_own_form_of_guidance(tiny, monkeypatch):
    """(1 + 7.5) ε(c) - 7.5 ε(∅) is ε(∅) + 8.5 (ε(c) - ε(∅))."""
    pictures, gradients = digits(Path(), "train"), []
    forget = pictures.of(SEVEN)[:4]
    sets = {"forget": LatentSet(tiny, pictures, forget, pictures.labels[forget])}
    data = Data(sets, frozenset(sets), PROMPTS, tiny.embed(PROMPTS), (SEVEN,))
    chosen = method("SalUn", batch_size=4)
    weights = list(unlearning.open_parameters(tiny, unlearning.trainable(tiny.unet, "full")).values())
    gradients = chosen._gradient(tiny, weights, data, context())
    batch = unlearning.noised(tiny, sets["forget"], torch.arange(4), context(), "mask")
    text, empty = data.texts[batch.concepts], tiny.no_text.expand(4, -1, -1)
    with_text, without = (tiny.predict(batch.noisy, batch.t, each) for each in (text, empty))
    loss = ((1 + 7.5) * with_text - 7.5 * without - batch.noise).square().mean()
    expected = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
    for own, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(own, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()) + 1e-9)
    assert "hard_mask" not in PROTOCOLS["paper"].__dataclass_fields__


def test_adam_without_decay_moves_no_weight_that_never_had_a_gradient():
    """So that masking gradients, as SalUn's code did, and holding weights are the same here: there is nothing to repeat."""
    found = []
    for constraint in (HardMask, GradientMask):
        torch.manual_seed(0)
        weights = [torch.nn.Parameter(torch.randn(50)), torch.nn.Parameter(torch.randn(3, 4))]
        masks = [torch.rand(w.shape) < 0.5 for w in weights]
        held, optimiser = constraint(weights, masks), make_optimiser(weights, "adam", 0.1, 0.0, 0.0)
        for step in range(20):
            optimiser.zero_grad()
            sum((w * (w - step)).sum() for w in weights).backward()
            held.before_step()
            optimiser.step()
            held.after_step()
        found.append([w.detach().clone() for w in weights])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


# ---- ESD


@pytest.mark.parametrize(("protocol", "first", "last"), [("corrected", -1, 19), ("paper", 20, 59)])
def test_the_timestep_that_esd_trains_at_against_the_noise_that_is_left(tiny, monkeypatch, protocol, first, last):
    """In ESD's first code t is up to 58 above the noise of x_t, with 50 steps; above timestep 1, where that is left."""
    tiny.scheduler.set_timesteps(50)
    steps, part, seen = tiny.scheduler.timesteps.tolist(), [], []
    monkeypatch.setattr(sampling, "denoise", lambda p, latents, words, g, n, own, *rest: part.append(own) or latents)
    monkeypatch.setattr(unlearning, "predict", lambda p, noisy, t, words, c: seen.append(int(t[0])) or noisy)
    run, chosen = context(protocol), method("ESD-x")
    for _ in range(300):
        chosen._loss(tiny, replace(tiny), tiny.no_text, tiny.no_text, run)
    left = [(steps[own.stop] if own.stop < 50 else None, t) for own, t in zip(part, seen[::3], strict=True)]
    above = [t - noise for noise, t in left if noise is not None]
    assert {own.start for own in part} == {0 if protocol == "corrected" else 1}
    assert first <= min(above)
    assert max(above) <= last
    assert max(above) > last - 5


# ---- the curve


def test_interpolated_goes_through_the_losses_without_a_hump_and_begins_where_they_change():
    steps = curves.timesteps("interpolated", 10, 1000)
    assert steps == [0, 12, 49, 111, 197, 308, 444, 604, 789, 999]
    assert curves.timesteps("interpolated", 30, 50)[-1] == 49  # no more than there are
    means = np.array([0.9, 0.5, 0.2, 0.1, 0.05, 0.03, 0.02, 0.015, 0.012, 0.011])
    about, curve = curves.through("interpolated", steps, means, 1000)
    assert curve[steps] == pytest.approx(means)
    assert (np.diff(curve) <= 1e-12).all()
    assert about["off"] == [1.0] * 10
    assert curves.told({"all": about}) == "interpolated"
    with pytest.raises(UserError, match="not all positive"):
        curves.through("interpolated", steps, means - 0.011, 1000)


def test_how_far_an_exponential_is_off_is_told_beyond_a_quarter():
    steps = curves.timesteps("exponential", 10, 1000)
    exact = 0.8 * np.exp(-0.004 * np.asarray(steps)) + 0.02
    about, _ = curves.through("exponential", steps, exact, 1000)
    assert curves.told({"all": about}) == "exponential"
    steep, _ = curves.through("exponential", steps, np.array([4 * exact[0], *exact[1:]]), 1000)
    assert max(steep["off"]) == steep["off"][0] > 1.25
    assert curves.told({"all": steep}) == f"exponential, off by a factor {steep['off'][0]:.3g} at t = 0"
    low = steep | {"off": [0.5, 1.0], "timesteps": [0, 100]}
    assert curves.told({"forget": about, "retain": low}).endswith("off by a factor 2 at t = 0 of the retain set")


def test_on_the_digits_the_exponential_misses_small_timesteps_and_the_interpolation_does_not():
    pipeline, pictures = pipelines.load(pipelines.find("digits").folder, "cpu"), digits(Path(), "train")
    samples, texts = LatentSet(pipeline, pictures, torch.arange(len(pictures)), pictures.labels), pipeline.embed(PROMPTS)
    true = curves.measure(pipeline, samples, texts, GRID, 256, context(seed=1)).mean(1).double().numpy()
    off = {}
    for fit in ("exponential", "interpolated"):
        steps = curves.timesteps(fit, 10, 1000)
        means = curves.measure(pipeline, samples, texts, steps, 256, context()).mean(1).double().numpy()
        off[fit] = true / curves.through(fit, steps, means, 1000)[1][GRID]
    assert off["exponential"][0] > 4
    assert off["exponential"][3] > 1.8
    assert np.abs(np.log(off["interpolated"])).max() < np.log(1.2)


def sweep(folder, **changes):
    return {
        "track": "generation", "name": "t", "pipeline": str(folder), "seeds": 1, "device": "cpu", "limit_steps": 1,
        "scenarios": [{"kind": "class", "forget_class": "seven"}], "metrics": ["ua"],
        "sampling": {"steps": 1, "guidance": 2.0, "images": 1, "batch_size": 16}, "curve": {"points": 5, "samples": 3},
        "methods": {"RL": {"batch_size": 2, "epochs": 1}}, "weightings": ["w_f+w_r"],
    } | changes  # fmt: skip


def test_curves_by_set_are_measured_on_their_sets_and_the_record_says_how(
    random_pipeline, classifier_file, store, tmp_path, command
):
    samples = {}
    for name, own in (("one", {}), ("two", {"per_set": True, "fit": "interpolated"})):
        values = sweep(random_pipeline, curve={"points": 5, "samples": 3} | own, classifier=str(classifier_file))
        _, row = api.sweep(values, tmp_path / name, workers=0)
        assert row.reason == ""
        samples[name] = row.cost["forward_samples"]
        assert row.environment["loss_curve"].startswith(own.get("fit", "exponential"))
        assert command("figures", tmp_path / name)[0] == 0
    assert samples["two"] == samples["one"] + 5 * 3


def test_each_phase_is_relative_to_its_own_sets_curve(tiny, monkeypatch):
    from loreun_bench import ops

    pictures, seen = digits(Path(), "train"), []
    sets = {n: LatentSet(tiny, pictures, i, pictures.labels[i]) for n, i in
            (("forget", pictures.of(SEVEN)[:4]), ("retain", pictures.others(SEVEN)[:4]))}  # fmt: skip

    def spy(prediction, *_, ref_loss, **options):
        seen.append(ref_loss)
        return prediction.square().mean(), SimpleNamespace(weights=torch.ones(4))

    monkeypatch.setattr(ops, "loreun_mse_loss", spy)
    run = replace(context(), phases=dict(registry("weightings").get("w_f+w_r").item().phases()))
    run.curve = {"forget": torch.full((1000,), 2.0), "retain": torch.full((1000,), 3.0)}
    data = Data(sets, frozenset(sets), PROMPTS, tiny.embed(PROMPTS), (SEVEN,))
    method("RL", epochs=1, batch_size=4).unlearn(tiny, data, run)
    assert [set(each.tolist()) for each in seen] == [{2.0}, {3.0}]


# ---- defaults of a track


@pytest.mark.parametrize("rule", ["w_r", "w_f+w_r"])
def test_eta_r_is_the_papers_of_each_track(rule, random_pipeline, command):
    def eta(values):
        plan = api.planning.build(api.resolve(values))
        return next(s for s in plan.stages if s.run.endswith(":unlearn") and "RL" in s.label).config["weighting_settings"]

    assert eta(sweep(random_pipeline, weightings=[rule]))["eta_r"] == 0.2
    assert eta(sweep(random_pipeline, weightings={rule: {"eta_r": 0.3}}))["eta_r"] == 0.3
    other = {"dataset": "digits", "seeds": 1, "device": "cpu", "scenarios": [{"kind": "random", "fraction": 0.1}],
             "methods": ["RL"], "weightings": [rule]}  # fmt: skip
    assert eta(other)["eta_r"] == 0.25
    assert "in the generation track: eta_r = 0.2" in command("show", "weightings", rule)[1]


def test_a_default_of_a_track_must_be_one_of_its_settings(random_pipeline, tmp_path):
    from dataclasses import dataclass

    @weighting("odd", defaults={"generation": {"eta": 1.0}})
    @dataclass(frozen=True)
    class Odd:
        """Odd."""

        def phases(self):
            return {}

    with pytest.raises(UserError, match="unknown setting 'eta'"):
        api.planning.build(api.resolve(sweep(random_pipeline, weightings=["odd"])))
