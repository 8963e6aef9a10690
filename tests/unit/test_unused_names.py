"""Names that are given and match nothing are refused, or the plan says so."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import refused

from loreun_bench import config as configuration
from loreun_bench.classification.data.arrays import Arrays, checked
from loreun_bench.classification.data.lists import read_list
from loreun_bench.errors import UserError
from loreun_bench.harness.plan import build

X = np.random.default_rng(0).integers(0, 256, (24, 4, 4, 1)).astype(np.uint8)
Y = np.arange(24) % 3
DATA = """
import numpy as np
from loreun_bench import dataset
from loreun_bench.classification import Arrays

@dataset("own", embedded=True, {declared})
def own(root, download):
    "Noise."
    labels = np.arange(90) % 3
    images = np.random.default_rng(0).integers(0, 256, (90, 4, 4, 1)).astype(np.uint8)
    return Arrays(images, labels, images, labels, {given})
"""


def test_settings_of_rows_that_a_sweep_has_not_are_noted():
    scenario = {"kind": "random", "fraction": 0.1, "methods": {"SalUn": {"lr": 1}}, "weightings": {"w_r": {}, "none": {}}}
    values = {"seeds": 1, "methods": ["RL"], "scenarios": [scenario], "weightings": ["none"], "device": "cpu"}
    notes = build(configuration.load(values)).notes
    assert "random-10%: its settings of SalUn, w_r are for rows that the sweep has not" in notes
    scenario |= {"methods": {"RL": {"lr": 0.1}}, "weightings": {"none": {}}}
    assert not [note for note in build(configuration.load(values)).notes if "its settings" in note]


@pytest.mark.parametrize("labels", [Y, np.array(["ant", "bee", "cow"])[Y]], ids=["numbers", "text"])
def test_classes_that_are_named_and_do_not_occur_are_noted(labels):
    found = checked("own", Arrays(X, labels, X, labels, names=("ant", "bee", "cow", "dog", "eel")))
    assert found.names == ("ant", "bee", "cow")
    assert found.note == "no picture is of the class 'dog' or 'eel', whose name is given and not used"
    assert checked("own", Arrays(X, labels, X, labels, names=("ant", "bee", "cow"))).note == ""
    fine = checked("own", Arrays(X, Y, X, Y, train_subclasses=Y, test_subclasses=Y, subclass_names="abcd", note="One."))
    assert fine.note == "One.; no picture is of the subclass 'd', whose name is given and not used"


def test_a_list_that_has_no_set_forget_says_which_it_has(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("index,set\n3,Forget\n4,keep\n5,forget\n")
    assert read_list(path, {}, 24).tolist() == [3, 5]
    path.write_text("index,set\n3,forgot\n4,keep\n")
    with pytest.raises(UserError, match=r"list.csv lists no picture: no row's `set` is forget; its sets: forgot, keep"):
        read_list(path, {}, 24)


@pytest.mark.parametrize(
    ("declared", "given", "says"),
    [
        ("names=('ant', 'bee')", "", "classes are called 0, 1, 2, not ant, bee"),
        ("names=('ant', 'bee', 'cow', 'dog')", "", "classes are called ant, bee, cow, not ant, bee, cow, dog"),
        ("names=('ant', 'bee', 'cow')", "names=('ant', 'bee', 'dog')", "called ant, bee, dog, not ant, bee, cow"),
        ("classes=4", "", "3 classes, not 4"),
        ("shape=(4, 4, 3)", "", "images 4×4×1, not 4×4×3"),
        ("names=('a', 'a', 'b')", "", "are called 'a'"),
        ("classes=4, names=('a', 'b', 'c')", "", "it declares 4 classes and 3 names"),
        ("names=('a', '', 'c')", "", "two classes, or one without a name, are called ''"),
    ],
)
def test_a_data_set_that_is_not_as_declared_is_refused_by_the_plan_and_by_check(command, tmp_path, declared, given, says):
    path = tmp_path / "own.py"
    path.write_text(DATA.format(declared=declared, given=given))
    refused(command("plan", "--set", "dataset=own", "--set", "scenarios=[{kind: random, count: 9}]", "--plugin", path), says)
    code, out, err = command("check", path)
    assert (code, says in out + err) == (2, True), out


def test_a_data_set_as_declared_passes(command, tmp_path):
    path = tmp_path / "own.py"
    path.write_text(DATA.format(declared="shape=(4, 4, 1), classes=3, names=('ant', 'bee', 'cow')", given=""))
    code, out, _ = command("check", path)
    assert (code, "3 classes" in out) == (0, True), out


def test_counts_are_declared_for_each_class(command, tmp_path):
    path = tmp_path / "own.py"
    path.write_text(DATA.format(declared="classes=3, counts=([30, 30, 30], [30, 30])", given=""))
    refused(command("check", path), "it declares 3 classes and 3 training counts and 2 test counts: give as many")


GREYS = """
import torch
from loreun_bench import dataset
from loreun_bench.generation import Pictures

@dataset("greys", classes=2, embedded=True, track="generation")
def greys(root, split):
    "Greys."
    load = lambda positions, size: torch.zeros(len(positions), 3, size, size)
    return Pictures(("two", "seven"), torch.arange(20) % 2, load)
"""


def test_classes_that_a_classifiers_file_knows_and_the_data_lack_are_noted(tmp_path):
    from loreun_bench.generation.data import concepts
    from loreun_bench.generation.scoring import classifiers
    from loreun_bench.plugins import load_plugin

    (tmp_path / "own.py").write_text(GREYS)
    load_plugin(tmp_path / "own.py")
    digits = concepts.dataset("digits", "train")
    file = tmp_path / "digits.safetensors"
    classifiers.save_small(file, digits.classes, classifiers.train_small(digits, 8, seed=0, steps=1))
    values = {"track": "generation", "seeds": 1, "device": "cpu", "methods": {"FMN": {"steps": 1}}, "metrics": ["ua"],
              "scenarios": [{"kind": "class", "forget_class": "seven"}], "classifier": str(file)}  # fmt: skip
    found = {name: build(configuration.load(values | {"dataset": name})).notes for name in ("digits", "greys")}
    said = {name: [note for note in notes if "knows classes that the data lack" in note] for name, notes in found.items()}
    assert said["digits"] == []
    assert said["greys"][0].endswith("zero, one, three, four, five, six, eight, nine")
