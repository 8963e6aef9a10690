"""Data sets that lie in one file, as `data prepare` keeps them, and the pipelines that are trained on them."""

from __future__ import annotations

import json

import pytest
import torch
from helpers import refused
from safetensors.torch import save_file

from loreun_bench import api
from loreun_bench.errors import UserError
from loreun_bench.generation.data import concepts
from loreun_bench.generation.pipeline import embedded, pipelines
from loreun_bench.generation.scoring.pictures import Pictures

NAMES = ("T-shirt/top", "Trouser", "Pullover")


@pytest.fixture
def clothes(tmp_path, monkeypatch):
    """Fashion-MNIST of three classes and nine pictures, of which number i is as bright as i."""
    monkeypatch.setenv("LOREUN_DATA", str(tmp_path / "data"))

    def write(brightest=8):
        images = torch.arange(9, dtype=torch.uint8)[:, None, None, None].clamp(max=brightest).expand(9, 28, 28, 1)
        labels = torch.arange(9) % 3
        tensors = {f"{part}_{kind}": each.clone()
                   for part in ("train", "test") for kind, each in (("images", images), ("labels", labels))}  # fmt: skip
        (tmp_path / "data").mkdir(exist_ok=True)
        save_file(tensors, tmp_path / "data" / "fashion-mnist.safetensors", {"classes": json.dumps({"names": NAMES})})

    write()
    return write


def test_pictures_are_those_of_the_file_enlarged_and_on_three_channels(clothes):
    found = concepts.dataset("fashion-mnist", "train")
    assert (found.classes, found.labels.tolist()) == (NAMES, [0, 1, 2] * 3)
    pixels = found.load(torch.tensor([7, 0]), 32)
    assert pixels.shape == (2, 3, 32, 32)
    torch.testing.assert_close(pixels[0], torch.full((3, 32, 32), 7 / 127.5 - 1))
    assert pixels[1].unique().tolist() == [-1]


def test_another_file_is_another_data_set(clothes):
    before = concepts.identity("fashion-mnist")
    clothes()
    assert concepts.identity("fashion-mnist") == before
    clothes(brightest=7)
    assert concepts.identity("fashion-mnist") != before


def test_what_is_not_prepared_or_damaged_is_said(clothes, tmp_path):
    path = tmp_path / "data" / "fashion-mnist.safetensors"
    with pytest.raises(UserError, match="unknown split 'val'"):
        concepts.dataset("fashion-mnist", "val")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="damaged: run `loreun-bench data prepare fashion-mnist` again"):
        concepts.dataset("fashion-mnist", "train")
    path.unlink()
    with pytest.raises(UserError, match="not prepared: run `loreun-bench data prepare fashion-mnist`"):
        concepts.dataset("fashion-mnist", "train")


def test_limited_pictures_are_the_first_of_each_class():
    whole = Pictures(("a", "b"), torch.tensor([0, 1, 1, 1, 0, 0]), lambda at, size: at[:, None, None, None].float())
    few = whole.limited(4)
    assert few.labels.tolist() == [0, 0, 1, 1]
    assert few.load(torch.arange(4), 1).flatten().tolist() == [0, 4, 1, 2]
    assert whole.limited(None) is whole
    assert whole.limited(1).labels.tolist() == [0, 1]
    assert len(whole.limited(100)) == 6


def test_a_limit_is_in_the_records_and_in_what_is_trained_on(store, tmp_path):
    values = {
        "track": "generation", "pipeline": "digits", "dataset": "digits", "seeds": 1, "precision": "fp32",
        "scenarios": [{"kind": "class", "forget_class": "seven"}], "methods": {"RL": {"epochs": 1, "batch_size": 4}},
        "weightings": {"none": {}, "w_f": {}}, "sampling": {"steps": 2, "images": 1}, "metrics": ["ua"], "limit_images": 40,
        "curve": {"points": 4, "samples": 40},
    }  # fmt: skip
    records = api.sweep(values, out=tmp_path / "run", workers=0)
    assert {record.status for record in records} == {"ok"}
    assert all(record.limits == {"images": 40} for record in records)
    rows = {record.weighting: record.cost["backward_samples"] for record in records if record.method == "RL"}
    assert rows["none"] == 2 * 4  # a step on the four sevens, with as many others


def test_a_pipeline_is_made_of_its_recipe_and_serves(tmp_path):
    recipe = embedded.Recipe("digits", 16, (8, 8, 16), (8, 16), steps=20)
    told = []
    embedded.build(tmp_path / "made", recipe, lambda what, share: told.append((what, share)))
    assert told[-1] == ("denoiser", 1)
    found = pipelines.load(pipelines.find(str(tmp_path / "made")).folder, "cpu")
    assert (found.latent_shape, found.image_size) == ((4, 4, 4), (16, 16))
    assert found.embed(["an image of seven"]).shape == (1, 12, 64)


def test_words_of_classes_are_tokens_of_their_own(tmp_path):
    tokenizer = embedded.make_tokenizer(tmp_path, ("T-shirt/top", "Ankle boot"))
    ends = [token.removesuffix("</w>") for token in tokenizer.tokenize("an image of T-shirt/top, ankle boot")]
    assert ends == ["an", "image", "of", "t", "-", "shirt", "/", "top", ",", "ankle", "boot"]


def test_a_pipeline_that_nobody_knows_is_refused_in_a_line(command):
    refused(command("data", "prepare", "fashion-pipeline"), "unknown pipeline 'fashion-pipeline'")
