"""Sampling: what diffusers' pipeline gives, picture by picture, and resumed after any interruption."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from loreun_bench.generation.pipeline import sampling
from loreun_bench.generation.pipeline.sampling import Request

STEPS = 4


def requests(count=5, guidance=7.5):
    words = ("zero", "one", "two", "three", "four")
    return [Request(f"p{i}", f"an image of {words[i % 5]}", 10 + i, guidance, i % 5, words[i % 5]) for i in range(count)]


def names(folder):
    return sorted(path.name for path in folder.glob("*.png"))


@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_pictures_are_those_of_the_diffusers_pipeline(tiny, random_pipeline, guidance):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(random_pipeline, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    asked = requests(3, guidance)
    theirs = pipeline(
        prompt=[r.prompt for r in asked], num_inference_steps=STEPS, guidance_scale=guidance, output_type="np",
        generator=[torch.Generator().manual_seed(r.seed) for r in asked],
    ).images  # fmt: skip
    ours = sampling.pictures(tiny, asked, STEPS).numpy()
    assert ours.shape == theirs.shape == (3, 64, 64, 3)
    assert abs(ours.astype(int) - (theirs * 255).round().astype(int)).max() <= 1


def test_a_picture_does_not_depend_on_its_batch_and_each_has_its_own_guidance(tiny):
    asked = [*requests(2), Request("x", "an image of nine", 3, 1.0)]
    together = sampling.pictures(tiny, asked, STEPS)
    alone = torch.cat([sampling.pictures(tiny, [r], STEPS) for r in asked])
    assert (together.int() - alone.int()).abs().max() <= 1
    assert not torch.equal(together[0], together[1])


def test_a_stopped_run_goes_on_where_it_was(tiny, tmp_path, monkeypatch):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    sampling.sample(tiny, requests(), whole, steps=STEPS, batch_size=2)
    made, original = [], sampling.pictures

    def stops(pipeline, batch, *rest):
        if made:
            raise KeyboardInterrupt
        made.extend(r.name for r in batch)
        return original(pipeline, batch, *rest)

    monkeypatch.setattr(sampling, "pictures", stops)
    with pytest.raises(KeyboardInterrupt):
        sampling.sample(tiny, requests(), resumed, steps=STEPS, batch_size=2)
    assert names(resumed) == ["p0.png", "p1.png"]
    assert not (resumed / sampling.INDEX).is_file()
    picture = (resumed / "p1.png").read_bytes()
    (resumed / "p1.png").write_bytes(picture[: len(picture) // 2])  # it is made again with p0, which stays as it is
    before = (resumed / "p0.png").stat().st_mtime_ns
    again = []
    monkeypatch.setattr(sampling, "pictures", lambda p, batch, *rest: again.append(len(batch)) or original(p, batch, *rest))
    sampling.sample(tiny, requests(), resumed, steps=STEPS, batch_size=2)
    assert again == [2, 2, 1]
    assert (resumed / "p0.png").stat().st_mtime_ns == before
    for name in names(whole):
        assert (whole / name).read_bytes() == (resumed / name).read_bytes(), name
    assert not list(resumed.glob(".*"))


def test_prompt_seed_and_guidance_of_every_picture_are_recorded(tiny, tmp_path):
    sampling.sample(tiny, requests(2), tmp_path, steps=1, batch_size=8)
    about = json.loads((tmp_path / sampling.INDEX).read_text())
    assert about["p1"] == {"prompt": "an image of one", "seed": 11, "guidance": 7.5, "label": 1, "concept": "one"}
    assert Image.open(tmp_path / "p1.png").size == (64, 64)


def test_denoising_in_part_is_the_beginning_of_the_whole(tiny):
    start, text = sampling.first_latents(tiny, requests(2)), tiny.embed([r.prompt for r in requests(2)])
    guidance = torch.tensor([3.0, 3.0])
    assert torch.equal(sampling.denoise(tiny, start, text, guidance, STEPS, slice(0)), start)
    part = sampling.denoise(tiny, start, text, guidance, STEPS, slice(STEPS))
    assert torch.equal(part, sampling.denoise(tiny, start, text, guidance, STEPS))
