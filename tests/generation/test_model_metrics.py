"""Metrics that look at the model itself, each against a small computation of its own."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from loreun_bench.config import load
from loreun_bench.decorators import metric
from loreun_bench.errors import UserError
from loreun_bench.generation.data.latents import LatentSet
from loreun_bench.generation.datasets.digits import WORDS, digits
from loreun_bench.generation.metrics.attack import attack
from loreun_bench.generation.metrics.gap import gap
from loreun_bench.generation.metrics.relearn import relearn
from loreun_bench.generation.metrics.shift import shift
from loreun_bench.generation.pipeline import sampling
from loreun_bench.generation.pipeline.sampling import Request
from loreun_bench.generation.scene import Scene
from loreun_bench.generation.scoring.classifiers import load_small
from loreun_bench.generation.scoring.images import Images
from loreun_bench.generation.scoring.model import Model
from loreun_bench.generation.unlearning.curve import timesteps
from loreun_bench.generation.unlearning.method import Context, Data
from loreun_bench.generation.unlearning.protocols import PROTOCOLS
from loreun_bench.harness.plan import build
from loreun_bench.harness.seeding import derive
from loreun_bench.training.clock import Meter

PROMPTS = tuple(f"an image of {word}" for word in WORDS)
SEVEN = 7
SEED = 3


def context():
    return Context(
        device="cpu", precision="fp32", protocol=PROTOCOLS["corrected"], phases={}, curve={}, seed=SEED, meter=Meter("cpu")
    )


@pytest.fixture
def model(tiny):
    """The random pipeline with a damaged denoiser, measured beside the whole one."""
    pictures = digits(Path(), "train")
    parts = {"forget": pictures.of(SEVEN)[:6], "retain": pictures.others(SEVEN)[:6]}
    sets = {name: LatentSet(tiny, pictures, index, pictures.labels[index]) for name, index in parts.items()}
    data = Data(sets, frozenset(sets), PROMPTS, tiny.embed(PROMPTS), (SEVEN,))
    damaged = copy.deepcopy(tiny.unet)
    for tensor in damaged.conv_out.parameters():
        tensor.data.zero_()
    asked = [Request(f"7-{n}", PROMPTS[SEVEN], seed=n, guidance=3.0, label=SEVEN) for n in range(5)]
    return Model(replace(tiny, unet=damaged), tiny, data, context, asked, steps=3, batch_size=2)


@pytest.fixture
def scene(model, classifier_file):
    return Scene(images=Images(()), forget=(SEVEN,), classifier=load_small(classifier_file), model=model)


def stream(*name):
    return torch.Generator().manual_seed(derive(SEED, *name))


def test_the_gap_is_of_losses_with_the_same_noise(model, scene):
    """A denoiser that says 0 has the noise's mean square for a loss."""
    found = gap(scene)
    steps = timesteps("interpolated", 8, model.pipeline.timesteps)
    assert scene.details["gap"]["timesteps"] == steps
    for key, pictures in (("forget_gap", model.data.forget), ("kept_gap", model.data.retain)):
        order = torch.randperm(len(pictures), generator=stream("curve", "order"))
        posterior, noises = stream("curve", "posterior"), stream("curve", "noise")
        ratios = []
        for step in steps:
            latents = pictures.draw(order, posterior)
            noise = torch.randn(latents.shape, generator=noises)
            t = torch.full((len(order),), step)
            text = model.data.texts[pictures.concepts[order]]
            with torch.no_grad():
                said = model.original.predict(model.original.noised(latents, noise, t), t, text)
            ratios.append(float(noise.square().mean() / (said - noise).square().mean()))
        assert found[key] == pytest.approx(100 * (sum(ratios) / len(ratios) - 1), rel=1e-5)
        assert scene.details["gap"][key] == pytest.approx([100 * (r - 1) for r in ratios], rel=1e-3, abs=1e-3)
    same = replace(scene, model=replace(model, pipeline=model.original))
    assert gap(same) == {"forget_gap": 0, "kept_gap": 0}


def test_pictures_of_the_forgotten_class_are_made_anew_and_recognised(model):
    seen = []

    def predict(pixels):
        seen.append(pixels)
        return torch.tensor([SEVEN, 0])[: len(pixels)]

    parts = (model.asked[:2], model.asked[2:4], model.asked[4:])
    assert model.recognised(SimpleNamespace(predict=predict)) == (3, 5)
    assert model.recognised(SimpleNamespace(predict=predict), model.original) == (3, 5)
    for number, pipeline in enumerate((model.pipeline, model.original)):
        made = torch.cat([sampling.pictures(pipeline, part, 3) for part in parts])
        assert torch.equal(torch.cat(seen[3 * number : 3 * number + 3]), made.permute(0, 3, 1, 2).float() / 255)


def told(monkeypatch):
    """What `recognised` is given from now on."""
    seen = SimpleNamespace()

    def recognised(self, classifier, pipeline=None, texts=None):
        seen.pipeline, seen.texts = pipeline, texts
        return 2, 5

    monkeypatch.setattr(Model, "recognised", recognised)
    return seen


def test_relearning_is_some_steps_of_the_denoising_loss_on_a_copy(model, scene, monkeypatch):
    before, seen = copy.deepcopy(model.pipeline.unet.state_dict()), told(monkeypatch)
    scene = replace(scene, settings={"relearn_steps": 3, "relearn_lr": 0.01})
    found = relearn(scene)
    assert (found, found.counts) == ({"relearned": 40}, {"relearned": [2, 5]})
    assert all(torch.equal(value, before[name]) for name, value in model.pipeline.unet.state_dict().items())

    own, pictures = copy.deepcopy(model.pipeline.unet).requires_grad_(True), model.data.forget
    optimiser = torch.optim.Adam(own.parameters(), lr=0.01)
    order, posterior = stream("order", "relearn"), stream("posterior", "relearn")
    noises = stream("noise", "relearn")
    for _ in range(3):
        positions = torch.randperm(6, generator=order)
        latents = pictures.draw(positions, posterior)
        noise = torch.randn(latents.shape, generator=noises)
        t = torch.randint(1000, (6,), generator=noises)
        noisy = model.pipeline.noised(latents, noise, t)
        text = model.data.texts[SEVEN].expand(6, -1, -1)
        loss = (own(noisy, t, encoder_hidden_states=text).sample - noise).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    for name, value in seen.pipeline.unet.state_dict().items():
        torch.testing.assert_close(value, own.state_dict()[name], rtol=1e-3, atol=1e-5)


def test_the_attack_seeks_some_tokens_and_leaves_the_model(model, scene, monkeypatch):
    model = replace(model, pipeline=model.original)
    before, seen = copy.deepcopy(model.pipeline.unet.state_dict()), told(monkeypatch)
    scene = replace(scene, model=model, settings={"attack_tokens": 2, "attack_steps": 3})
    found = attack(scene)
    assert (found, found.counts) == ({"recovered": 40}, {"recovered": [2, 5]})
    assert all(torch.equal(value, before[name]) for name, value in model.pipeline.unet.state_dict().items())
    assert not any(parameter.requires_grad for parameter in model.pipeline.unet.parameters())
    assert set(seen.texts) == {SEVEN}

    empty, pictures = model.pipeline.no_text[0], model.data.forget
    own = empty.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([own], lr=0.05 * float(model.data.texts.std()))
    order, posterior = stream("order", "attack"), stream("posterior", "attack")
    noises = stream("noise", "attack")
    for _ in range(3):
        latents = pictures.draw(torch.randperm(6, generator=order), posterior)
        noise = torch.randn(latents.shape, generator=noises)
        t = torch.randint(1000, (6,), generator=noises)
        said = model.pipeline.predict(model.pipeline.noised(latents, noise, t), t, own.expand(6, -1, -1))
        optimiser.zero_grad()
        (said - noise).square().mean().backward()
        own.grad[:1], own.grad[3:] = 0, 0
        optimiser.step()
    torch.testing.assert_close(seen.texts[SEVEN], own.detach(), rtol=1e-3, atol=1e-5)
    assert not torch.equal(seen.texts[SEVEN][1:3], empty[1:3])


def test_the_shift_is_one_minus_the_cosine_of_features_at_equal_seed(tmp_path):
    sides = {"now": [(9, 1, 0), (200, 0, 0), (0, 90, 0)], "before": [(9, 1, 0), (200, 0, 0), (0, 0, 30)]}
    for side, colours in sides.items():
        for n, colour in enumerate(colours):
            path = tmp_path / side / ("six", "seven", "seven")[n] / f"{n}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), colour).save(path)
    classes = ("six", "seven")
    now, before = (Images.open(tmp_path / side, classes) for side in sides)
    colour = SimpleNamespace(name="colour", features=lambda pixels: pixels.mean((2, 3)))
    scene = Scene(images=now, classes=classes, forget=(1,), classifier=colour, original=before)
    found = shift(scene)
    assert found == {"kept_shift": pytest.approx(0, abs=1e-6), "forget_shift": pytest.approx(0.5, abs=1e-6)}
    assert shift(replace(scene, forget=(0,)))["kept_shift"] == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("item", [gap, relearn, attack, shift])
def test_pictures_alone_are_refused_in_one_line(item, classifier_file):
    scene = Scene(images=Images(()), forget=(SEVEN,), classifier=load_small(classifier_file))
    with pytest.raises(UserError, match="sweep's metrics"):
        item(scene)


@pytest.mark.parametrize("name", ["relearn", "attack", "shift"])
def test_what_is_about_classes_is_refused_for_concepts_when_planned(name, random_pipeline, store):
    values = {
        "track": "generation", "pipeline": str(random_pipeline), "seeds": 1, "methods": {"UCE": {}}, "metrics": [name],
        "scenarios": [{"kind": "concept", "name": "seven", "forget_prompt": "seven", "retain_prompt": "one"}],
    }  # fmt: skip
    with pytest.raises(UserError, match=f"{name} is about classes"):
        build(load(values))


def test_no_metric_of_pictures_can_ask_for_retrain():
    with pytest.raises(UserError, match="must be of"):
        metric("never", columns={"never": "n"}, track="generation", needs={"retrain"})(lambda scene: {})
