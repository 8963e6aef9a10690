"""A user's metric of pictures cannot change what the other metrics find in the same scene."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from loreun_bench.generation.datasets.digits import digits
from loreun_bench.generation.scene import Scene
from loreun_bench.generation.scoring.classifiers import small, train_small
from loreun_bench.generation.scoring.images import Images, to_uint8
from loreun_bench.harness.measuring import measure
from loreun_bench.plugins import load_plugin

HOSTILE = """
import torch
from loreun_bench import metric

@metric("bad{0}", columns={{"bad{0}": "bad"}}, unit="", track="generation")
def bad{0}(scene):
    "It zeroes all that it is given, and all that is computed for it."
    network, everything = scene.need_classifier("bad"), torch.arange(len(scene.images))
    features = [scene.features(network, side) for side in ("images", "reference")]
    labels, found = scene.recognised(network)
    given = [scene.images.labels, scene.reference.labels, network.meaning, *scene.known.values(), *features, labels, found]
    total = sum(float(each.sum()) for each in given)
    for each in given:
        each.zero_()
    for _, pixels in scene.stream("images", everything, "bad"):
        pixels.zero_()
    scene.settings["own"].clear()
    scene.settings["seed"] = 5
    scene.details["ua"] = scene.details["bad{0}"] = {{"told": total}}
    return {{"bad{0}": total + len(scene.settings["own"])}}
"""
USUAL = ["ua", "fd"]


@pytest.fixture(scope="module")
def network():
    train = digits(Path(), "train")
    return small(train.classes, train_small(train, 8, seed=0, steps=60))


@pytest.fixture
def scene(tmp_path, network):
    """A function that opens the same scene anew: eight pictures a digit, beside the real ones, whose features are known."""
    test = digits(Path(), "test")
    for label, name in enumerate(test.classes):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number, pixels in enumerate(to_uint8((test.load(test.of(label)[:8], 8) + 1) / 2).permute(0, 2, 3, 1).numpy()):
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{number}.png")

    def opened(forget=(7,), **known):
        images = Images.open(tmp_path / "pictures", test.classes)
        settings = {"own": {"a": 1}, "resamples": 0, "size": 8}
        return Scene(images, test.classes, forget, network, digits(Path(), "test"), settings, known=known)

    features = opened(forget=()).features(network, "reference")
    return lambda: opened(**{network.name: features.clone()})


def test_a_metric_that_changes_its_scene_changes_no_other(tmp_path, scene):
    for number in (1, 2):
        (tmp_path / f"bad{number}.py").write_text(HOSTILE.format(number))
        load_plugin(tmp_path / f"bad{number}.py")
    alone, together = scene(), scene()
    expected = measure(USUAL, "generation", alone)
    for first in (["bad1", "bad2"], USUAL, ["bad2", *USUAL]):  # before them, after them, and as `score` does, one by one
        found = measure([*first, *USUAL], "generation", together)
        assert {key: found[key] for key in expected} == expected
    assert found["bad2"] == measure(["bad1"], "generation", together)["bad1"] != 0
    told = {name: together.details.pop(name)["told"] for name in ("bad1", "bad2")}
    assert told["bad1"] == told["bad2"]
    assert together.details == alone.details


def test_a_picture_that_only_a_users_metric_looked_at_is_known_to_be_bad(tmp_path, scene):
    (tmp_path / "pictures" / "seven" / "broken.png").write_text("no picture")
    (tmp_path / "bad1.py").write_text(HOSTILE.format(1))
    load_plugin(tmp_path / "bad1.py")
    found = scene()
    measure(["bad1"], "generation", found)
    assert [path.name for path, _ in found.images.bad] == ["broken.png"]
