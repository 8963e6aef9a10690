"""RL, SalUn, ESD and FMN on denoisers: their objectives, what they may move, and the reference code's bugs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from loreun_bench import ops
from loreun_bench.errors import UserError
from loreun_bench.generation.data.latents import LatentSet
from loreun_bench.generation.datasets.digits import WORDS, digits
from loreun_bench.generation.methods.fmn import concept_positions
from loreun_bench.generation.pipeline import sampling
from loreun_bench.generation.pipeline.attention import watched
from loreun_bench.generation.unlearning import curve as curves
from loreun_bench.generation.unlearning import gradient as unlearning
from loreun_bench.generation.unlearning.gradient import trainable
from loreun_bench.generation.unlearning.method import Context, Data
from loreun_bench.generation.unlearning.protocols import PROTOCOLS
from loreun_bench.ops import loreun_mse_loss
from loreun_bench.registry import registry
from loreun_bench.training.clock import Meter
from loreun_bench.weightings import Rule

PROMPTS = tuple(f"an image of {word}" for word in WORDS)
SEVEN = 7


def context(protocol="corrected", phases=(), curve=None, limit=None):
    return Context(
        device="cpu", precision="fp32", protocol=PROTOCOLS[protocol], phases=dict(phases), seed=0,
        curve={} if curve is None else {"forget": curve, "retain": curve},
        meter=Meter("cpu"), limit_steps=limit,
    )  # fmt: skip


def method(name, **settings):
    return registry("methods", "generation").get(name).item(**settings)


def data(pipeline, uses=("forget", "retain"), count=12, forgotten=(SEVEN,)):
    pictures = digits(Path(), "train")
    parts = {"forget": pictures.of(SEVEN)[:count], "retain": pictures.others(SEVEN)[: 2 * count]}
    sets = {name: LatentSet(pipeline, pictures, index, pictures.labels[index]) for name, index in parts.items()}
    return Data(sets, frozenset(uses), PROMPTS, pipeline.embed(PROMPTS), forgotten, tuple(WORDS[k] for k in forgotten))


def weights(pipeline):
    return {name: tensor.clone() for name, tensor in pipeline.unet.state_dict().items()}


def moved(pipeline, before):
    return {name for name, tensor in pipeline.unet.state_dict().items() if not torch.equal(tensor, before[name])}


SMALL = {
    "RL": {"epochs": 1, "batch_size": 8}, "SalUn": {"epochs": 1, "batch_size": 8, "density": 0.25},
    "ESD-x": {"iterations": 2, "ddim_steps": 4}, "ESD-u": {"iterations": 2, "ddim_steps": 4},
    "FMN": {"steps": 2, "lr": 1e-3}, "CA": {"epochs": 1, "batch_size": 2},
    "EraseDiff": {"epochs": 1, "batch_size": 8}, "SA": {"epochs": 1, "batch_size": 2, "fisher_pictures": 2},
}  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_only_what_may_move_moves(tiny, name):
    before, chosen = weights(tiny), method(name, **SMALL[name])
    run = context()
    with run.meter:
        chosen.unlearn(tiny, data(tiny, chosen.uses), run)
    changed = moved(tiny, before)
    allowed = set(trainable(tiny.unet, chosen.parameters))
    assert changed
    assert changed <= allowed
    assert len(changed) > len(allowed) / 2 or name == "FMN"
    assert run.meter.forward_samples >= run.meter.backward_samples / getattr(chosen, "backward_passes", 1) > 0
    assert not any(parameter.requires_grad for parameter in tiny.unet.parameters())


def test_the_three_parameter_sets_are_those_of_esd(tiny):
    names = dict(tiny.unet.named_parameters())
    x, u, whole = (set(trainable(tiny.unet, which)) for which in ("cross-attention", "no-cross-attention", "full"))
    assert whole == set(names)
    assert x == {name for name in names if ".attn2." in name}
    left_out = whole - x - u
    assert not x & u
    assert {name.split(".")[0] for name in left_out} == {"time_embedding", "conv_out", "conv_norm_out"}


@pytest.mark.parametrize("protocol", ["corrected", "paper"])
def test_salun_moves_exactly_the_masked_share(tiny, protocol):
    before = weights(tiny)
    chosen = method("SalUn", epochs=1, batch_size=8, density=0.25)
    chosen.unlearn(tiny, data(tiny), context(protocol))
    now = tiny.unet.state_dict()
    share = sum(int((now[n] != before[n]).sum()) for n in before) / sum(t.numel() for t in before.values())
    assert 0.2 < share <= 0.25 + 1e-6  # Adam at rest moves nothing that never had a gradient, under either protocol


@pytest.mark.parametrize("forgotten", [(SEVEN,), (2, SEVEN)])
def test_the_other_concept_is_never_a_forgotten_one_and_differs_from_sample_to_sample(tiny, monkeypatch, forgotten):
    seen = []
    monkeypatch.setattr(unlearning, "predict", lambda p, noisy, t, text, c: seen.append(text) or noisy)
    known, run = data(tiny, forgotten=forgotten), context()
    concepts = torch.full((64,), SEVEN)
    method("RL").forget_target(tiny, lambda: torch.zeros(64, 4, 8, 8), concepts, concepts, known, run)
    found = [next(k for k in range(10) if torch.equal(row, known.texts[k])) for row in seen[0]]
    assert set(found) == set(range(10)) - set(forgotten)
    method("RL").forget_target(tiny, lambda: torch.zeros(64, 4, 8, 8), concepts, concepts, known, context("paper"))
    assert all(torch.equal(row, known.texts[SEVEN + 1]) for row in seen[1])


def test_the_other_concepts_prediction_is_a_fixed_target(tiny):
    unlearning.open_parameters(tiny, trainable(tiny.unet, "full"))
    concepts = torch.full((2,), SEVEN)
    target = method("RL").forget_target(tiny, lambda: torch.zeros(2, 4, 8, 8), concepts, concepts, data(tiny), context())
    assert not target.requires_grad


def test_an_epoch_passes_over_every_forget_picture_and_the_reference_code_over_its_first_batch(tiny):
    known = data(tiny)
    for protocol, wanted in (("corrected", 12), ("paper", 5)):
        sets = {"forget": known.forget, "retain": known.retain}
        steps = list(unlearning._steps(method("RL", batch_size=5), sets, context(protocol), 6))
        assert len(torch.cat([step["forget"] for step in steps[:3]]).unique()) == wanted
    retain = torch.cat([step["retain"] for step in steps[:5]])
    assert sorted(retain.tolist()) == list(range(24))  # the last, smaller batch is not left out, and nothing comes twice


def test_as_many_epochs_as_are_asked_for(tiny):
    run = context()
    with run.meter:
        method("RL", epochs=2, batch_size=5, alpha=0.0).unlearn(tiny, data(tiny), run)
    assert run.meter.backward_samples == 2 * 12


def test_a_pass_ends_with_a_smaller_batch(tiny):
    known, run = data(tiny), context()
    losses = unlearning.PhaseLoss(method("RL", batch_size=5), "forget", tiny, known, run)
    epochs = []
    for losses.step in range(9):
        epochs.append(losses._epoch())
    assert epochs == [0, 0, 0, 1, 1, 1, 2, 2, 2]  # 12 pictures


def test_both_branches_see_one_latent_and_the_reference_code_draws_another(tiny):
    known = data(tiny)
    for protocol, same in (("corrected", True), ("paper", False)):
        run, seen = context(protocol), []
        take = lambda p, noisy, *rest, seen=seen: seen.append(noisy()) or seen[-1]  # noqa: E731
        chosen = SimpleNamespace(forget_target=take, pictures=lambda phase, known: known.forget)
        losses = unlearning.PhaseLoss(chosen, "forget", tiny, known, run)
        batch = unlearning.noised(tiny, known.forget, torch.arange(4), run, "forget")
        losses._forget_target(batch, torch.arange(4))
        assert torch.equal(seen[0], batch.noisy) is same


@pytest.mark.parametrize("rule", ["none", "w_f", "w_r", "w_f+w_r", "loreun-s", "loreun-d"])
def test_each_weighting_is_the_operator_with_its_settings(tiny, rule, monkeypatch):
    """The weights of every phase against the plain formula on the losses that the operator saw."""
    calls = []

    def spy(prediction, target, score_target=None, return_stats=False, **options):
        loss, stats = loreun_mse_loss(prediction, target, score_target, return_stats=True, **options)
        calls.append((prediction.detach(), target, score_target, options, stats))
        return (loss, stats) if return_stats else loss

    drawn, original = [], unlearning.noised
    monkeypatch.setattr(unlearning, "noised", lambda *args: drawn.append(original(*args)) or drawn[-1])
    monkeypatch.setattr(ops, "loreun_mse_loss", spy)
    phases = dict(registry("weightings").get(rule).item().phases())
    curve = torch.linspace(1.0, 0.1, 1000)
    method("RL", epochs=1, batch_size=6, lr=1e-4).unlearn(tiny, data(tiny), context(phases=phases, curve=curve, limit=1))
    for phase, batch, (prediction, _, _, options, stats) in zip(("forget", "retain"), drawn, calls, strict=True):
        rule_of = phases.get(phase)
        if rule_of is None:
            assert torch.allclose(stats.weights, torch.full((6,), 1 / 6))
            continue
        sign = -1 if phase == "forget" else 1
        if rule_of.score == "original":
            score = options["score_loss"]
        else:
            score = (prediction - batch.noise).square().flatten(1).mean(1) / curve[batch.t]  # of the clean concept, always
        torch.testing.assert_close(stats.weights, torch.softmax(sign * rule_of.eta * score, 0))


def test_a_function_of_the_batch_weighs_both_phases(tiny):
    """What it is told, and that weights of 1 are the plain mean."""
    seen, curve = [], torch.linspace(1.0, 0.1, 1000)

    def spy(batch):
        seen.append(batch)
        return torch.ones_like(batch.clean_losses)

    start = {name: value.clone() for name, value in tiny.unet.state_dict().items()}
    found = []
    for phases in ({}, dict.fromkeys(("forget", "retain"), Rule(spy))):
        tiny.unet.load_state_dict(start)
        run = context(phases=phases, curve=curve)
        method("RL", epochs=2, batch_size=6, lr=1e-4).unlearn(tiny, data(tiny), run)
        found.append(torch.cat([value.flatten() for value in tiny.unet.state_dict().values()]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6)
    for batch in seen:
        assert torch.equal(batch.original_losses, curve[batch.timesteps])
        assert batch.clean_losses.shape == batch.objective_losses.shape == batch.labels.shape == (6,)
        assert batch.logits.shape[0] == 6
        assert set(batch.labels.tolist()) == {SEVEN} or batch.phase == "retain"
        same = torch.equal(batch.clean_losses, batch.objective_losses)
        assert same == (batch.phase == "retain")
    forget = [batch for batch in seen if batch.phase == "forget"]
    assert [(batch.step, batch.epoch) for batch in forget] == [(0, 0), (1, 0), (2, 1), (3, 1)]
    with pytest.raises(UserError, match="no class probabilities"):
        _ = forget[0].probabilities


def test_the_curve_divides_by_the_original_models_loss_at_the_samples_timestep(tiny, monkeypatch):
    seen = []
    stats = SimpleNamespace(weights=torch.ones(4))

    def spy(prediction, *_, ref_loss, return_stats=False, **options):
        seen.append(ref_loss)
        loss = prediction.square().mean()
        return (loss, stats) if return_stats else loss

    monkeypatch.setattr(ops, "loreun_mse_loss", spy)
    curve = torch.arange(1000.0) + 1
    phases = dict(registry("weightings").get("w_f").item().phases())
    run = context(phases=phases, curve=curve, limit=1)
    known = data(tiny)
    drawn = []
    original = unlearning.noised
    monkeypatch.setattr(unlearning, "noised", lambda *a: drawn.append(original(*a)) or drawn[-1])
    method("RL", epochs=1, batch_size=4).unlearn(tiny, known, run)
    assert torch.equal(seen[0], drawn[0].t + 1.0)


def test_all_rows_of_a_seed_see_the_same_batches_noise_and_timesteps(tiny):
    def drawn(rule):
        run = context(phases=registry("weightings").get(rule).item().phases(), curve=torch.ones(1000))
        known = data(tiny)
        losses = unlearning.PhaseLoss(method("RL"), "forget", tiny, known, run)
        order = next(unlearning._steps(method("RL"), {"forget": known.forget, "retain": known.retain}, run, 1))["forget"]
        return order, unlearning.noised(tiny, known.forget, order, losses.context, "forget")

    (order, one), (again, two) = drawn("none"), drawn("loreun-s")
    assert torch.equal(order, again)
    assert torch.equal(one.t, two.t)
    assert torch.equal(one.noise, two.noise)


# ---- ESD


@pytest.mark.parametrize("eta", [1.0, 2.0])
def test_esd_steers_away_from_the_concept_of_the_original_model(tiny, eta, monkeypatch):
    """The target is ε°(∅) - eta (ε°(c) - ε°(∅)), as in the paper's equation; the newer code's eta is one more."""
    import copy
    from dataclasses import replace

    chosen, run = method("ESD-x", eta=eta, ddim_steps=4), context()
    original = replace(tiny, unet=copy.deepcopy(tiny.unet))
    text, empty = tiny.embed([PROMPTS[SEVEN]]), tiny.embed([""])
    seen = []
    real = unlearning.predict

    def spy(pipeline, noisy, t, words, about):
        seen.append((pipeline.unet is original.unet, words, real(pipeline, noisy, t, words, about)))
        return seen[-1][2]

    monkeypatch.setattr(unlearning, "predict", spy)
    loss = chosen._loss(tiny, original, text, empty, run)
    (_, _, plain), (_, _, concept), (_, _, ours) = seen
    assert [frozen for frozen, *_ in seen] == [True, True, False]
    assert torch.equal(seen[0][1], empty)
    assert torch.equal(seen[1][1], text)
    expected = (ours - (plain - eta * (concept - plain))).square().mean()
    torch.testing.assert_close(loss, expected)
    newer = concept - (eta + 1) * (concept - plain)  # from the concept, as the newer code has it
    torch.testing.assert_close(newer, plain - eta * (concept - plain), rtol=1e-4, atol=1e-5)


def test_esd_denoises_from_the_model_that_is_asked_for_down_to_the_timestep_it_trains_at(tiny, monkeypatch):
    import copy
    from dataclasses import replace

    original = replace(tiny, unet=copy.deepcopy(tiny.unet))
    text, empty = tiny.embed([PROMPTS[SEVEN]]), tiny.embed([""])
    seen, real = [], unlearning.predict
    monkeypatch.setattr(unlearning, "predict", lambda p, n, t, w, c: seen.append(int(t[0])) or real(p, n, t, w, c))
    for start, frozen in (("original", True), ("current", False)):
        chosen, run, used = method("ESD-x", ddim_steps=10, start_from=start), context(), []

        def spy(pipeline, latents, *rest, used=used):
            used.append((pipeline.unet is original.unet, rest[3].stop))
            return latents

        monkeypatch.setattr(sampling, "denoise", spy)
        for _ in range(20):
            chosen._loss(tiny, original, text, empty, run)
            done = used[-1][1]
            assert (9 - done) * 100 <= seen[-1] < (10 - done) * 100  # done steps of ten leave the noise of this timestep
        assert {frozen_ for frozen_, _ in used} == {frozen}
        assert len({until for _, until in used}) > 5


# ---- FMN


def test_fmn_marks_the_concepts_words_and_the_first_end_of_text_only(tiny):
    tokens = tiny.tokens([PROMPTS[SEVEN]]).input_ids[0]
    assert (tokens == tiny.tokenizer.eos_token_id).sum() > 60  # the pipeline pads with the end of text, as SD 1.4
    kept = PROMPTS[:SEVEN]
    for words in ("all", "own"):
        assert concept_positions(tiny.tokenizer, PROMPTS[SEVEN], kept, "seven", words, True) == [4, 5]
        assert concept_positions(tiny.tokenizer, PROMPTS[SEVEN], kept, "seven", words, False) == [4]
    with pytest.raises(UserError, match="no word that tells 'nudity' from what is kept"):
        concept_positions(tiny.tokenizer, "an image of one", ("an image of one two",), "nudity", "all", True)


def test_attention_is_watched_on_every_cross_attention_and_changes_nothing(tiny):
    noisy, t, text = torch.randn(2, 4, 8, 8), torch.tensor([5, 700]), tiny.embed(PROMPTS[:2])
    expected = tiny.predict(noisy, t, text)
    before = [m.processor for n, m in tiny.unet.named_modules() if n.endswith("attn2")]
    with watched(tiny.unet) as seen:
        torch.testing.assert_close(tiny.predict(noisy, t, text), expected, rtol=1e-4, atol=1e-5)
    assert len(seen) == len(before) == 16
    for layer in seen:
        assert layer.shape[::2] == (2, 77)
        torch.testing.assert_close(layer.sum(-1), torch.ones(layer.shape[:2]))
    assert [m.processor for n, m in tiny.unet.named_modules() if n.endswith("attn2")] == before


def test_fmn_takes_attention_away(tiny):
    known, words = data(tiny, {"forget"}), [4, 5]
    noisy, t = torch.randn(4, 4, 8, 8), torch.full((4,), 500)

    def paid():
        with torch.no_grad(), watched(tiny.unet) as seen:
            tiny.predict(noisy, t, known.texts[SEVEN].expand(4, -1, -1))
        return float(torch.cat([layer[:, :, words].flatten() for layer in seen]).norm())

    before = paid()
    method("FMN", steps=10, lr=1e-2, batch_size=4).unlearn(tiny, known, context())
    assert paid() < 0.9 * before


# ---- the curve


def test_the_curve_is_fitted_and_refused_where_it_is_not_positive():
    import numpy as np

    steps = list(range(0, 1000, 100))
    means = 0.8 * np.exp(-0.004 * np.asarray(steps)) + 0.02
    (a, b, c), values = curves.exponential(steps, means, 1000)
    assert (a, b, c) == pytest.approx((0.8, -0.004, 0.02), rel=1e-4)
    assert values[500] == pytest.approx(0.8 * np.exp(-2.0) + 0.02, rel=1e-6)
    with pytest.raises(UserError, match="not positive everywhere"):
        curves.exponential(steps, 0.5 * np.exp(-0.004 * np.asarray(steps)) - 0.0093, 1000)  # positive where it was measured


def test_losses_of_the_curve_are_those_of_the_denoiser(tiny):
    pictures = digits(Path(), "train")
    samples = LatentSet(tiny, pictures, torch.arange(10), pictures.labels[:10])
    found = curves.losses_at(tiny, samples, torch.arange(10), tiny.embed(PROMPTS), 999, context())
    assert found.shape == (10,)
    assert 0.2 < float(found.mean()) < 5  # a random denoiser is about as wrong as predicting nothing, whose loss is 1
    steps = curves.timesteps("exponential", 4, 1000)
    losses = curves.measure(tiny, samples, tiny.embed(PROMPTS), steps, 6, context())
    assert steps == [0, 250, 500, 750]
    assert losses.shape == (4, 6)


def test_pictures_are_encoded_once(tiny, monkeypatch):
    known, asked = data(tiny), []
    monkeypatch.setattr(tiny, "encode", lambda pixels: asked.append(len(pixels)) or torch.zeros(len(pixels), 2, 4, 8, 8))
    stream = context().stream("x")
    for positions in (torch.tensor([0, 1]), torch.tensor([1, 2, 2]), torch.tensor([0, 2])):
        assert known.forget.draw(positions, stream).shape[0] == len(positions)
    assert asked == [2, 1]
