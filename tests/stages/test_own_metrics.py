"""A user's metric cannot change what the other metrics of its row find, and is named with its line when it fails."""

from __future__ import annotations

import pytest

import loreun_bench
from loreun_bench.classification.stages import build_model
from loreun_bench.errors import UserError
from loreun_bench.plugins import load_plugin

HOSTILE = """
import random
import numpy as np
import torch
from loreun_bench import metric

@metric("bad{0}", columns={{"bad{0}": "bad", "drawn{0}": "drawn"}})
def bad{0}(outputs):
    "It zeroes all that it is given, and draws from every stream of randomness."
    total = float(sum(each.losses.abs().sum() + each.labels.sum() for each in outputs.sets.values()))
    total += float(outputs.true_labels.sum()) + sum(float(each.sum()) for each in outputs.buffers.values())
    for each in outputs.sets.values():
        each.losses.zero_()
        each.log_probabilities.zero_()
        each.logits.zero_()
        each.labels.zero_()
    outputs.true_labels.zero_()
    for each in outputs.buffers.values():
        each.zero_()
    outputs.sets.clear()
    return {{"bad{0}": total, "drawn{0}": random.random() + np.random.rand() + float(torch.rand(()))}}
"""
FAILING = """from loreun_bench import metric


@metric("fails", columns={"fails": "fails"})
def fails(outputs):
    "It raises."
    return one(outputs)

def one(outputs): raise ValueError("nothing to see")
"""


def plugin(folder, name, text):
    (folder / f"{name}.py").write_text(text)
    return load_plugin(folder / f"{name}.py")


def test_a_metric_that_changes_its_input_changes_no_other(tmp_path):
    for number in (1, 2):
        plugin(tmp_path, f"bad{number}", HOSTILE.format(number))
    model, usual = build_model("small-cnn", {}, 1, 10, (8, 8)), ["accuracy", "loss"]
    alone = loreun_bench.evaluate(model, "digits", metrics=[*usual, "bad2"])
    found = loreun_bench.evaluate(model, "digits", metrics=["bad1", "bad2", *usual])
    assert {key: found[key] for key in alone} == alone
    assert found["bad1"] == found["bad2"] > 0
    assert found["drawn1"] != found["drawn2"]
    assert loreun_bench.evaluate(model, "digits", metrics=["bad2"]) == {k: alone[k] for k in ("bad2", "drawn2")}


def test_a_metric_of_an_installed_package_gets_a_copy_too(tmp_path, monkeypatch):
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "installed_metric.py").write_text(HOSTILE.format(3))
    monkeypatch.syspath_prepend(folder)
    __import__("installed_metric")
    plugin(tmp_path, "bad4", HOSTILE.format(4))
    found = loreun_bench.evaluate(build_model("small-cnn", {}, 1, 10, (8, 8)), "digits", metrics=["bad3", "bad4"])
    assert found["bad3"] == found["bad4"] > 0


def test_a_metric_that_fails_is_named_with_its_line(tmp_path):
    path = plugin(tmp_path, "own", FAILING)
    with pytest.raises(UserError, match=r"metric 'fails' .*own.py:9 raised ValueError: nothing to see"):
        loreun_bench.evaluate(build_model("small-cnn", {}, 1, 10, (8, 8)), "digits", metrics=["fails"])
    small = {"epochs": 1, "batch_size": 512}
    change = {"name": "t", "seeds": 1, "train": small, "noise_floor": False, "methods": {"FT": small}, "metrics": ["fails"],
              "weightings": ["none"], "scenarios": [{"kind": "random", "fraction": 0.1}]}  # fmt: skip
    records = loreun_bench.sweep(change, tmp_path / "run", workers=0, plugins=[path])
    assert all("own.py:9 raised ValueError: nothing to see" in record.reason for record in records)


@pytest.mark.parametrize(("raised", "status"), [("MemoryError()", "oom"), ("Diverged('NaN')", "diverged")])
def test_what_a_metric_raises_keeps_its_status(tmp_path, raised, status):
    from loreun_bench.errors import Diverged
    from loreun_bench.harness.work import classify

    text = FAILING.replace("raise ValueError", f"from loreun_bench.errors import Diverged; raise {raised}; raise ValueError")
    plugin(tmp_path, "own", text)
    with pytest.raises((MemoryError, Diverged)) as error:
        loreun_bench.evaluate(build_model("small-cnn", {}, 1, 10, (8, 8)), "digits", metrics=["fails"])
    assert classify(error.value) == status


@pytest.mark.parametrize("value", ["None", "'much'", "outputs"])
def test_a_value_that_is_no_number_is_told(tmp_path, value):
    text = FAILING.replace('return one(outputs)', f'return {{"fails": {value}}}')
    plugin(tmp_path, "own", text)
    with pytest.raises(UserError, match=r"metric .fails. returned .* as fails; expected a number"):
        loreun_bench.evaluate(build_model("small-cnn", {}, 1, 10, (8, 8)), "digits", metrics=["fails"])
