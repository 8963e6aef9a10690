"""A user's way to choose what is forgotten: what `draw` and `gone` return is what is meant, or is refused in one line."""

from __future__ import annotations

import importlib
import random
import re
import sys

import numpy as np
import pytest

import loreun_bench
from loreun_bench.config import load
from loreun_bench.errors import UserError
from loreun_bench.harness.plan import artifacts, build
from loreun_bench.harness.store import Store, default_root
from loreun_bench.plugins import load_plugin

SCENARIO = '''from dataclasses import dataclass
import random
import numpy as np
from loreun_bench import scenario

CALLS = []

@scenario("mine"{options})
@dataclass(frozen=True)
class Mine:
    """Some of them."""

    lists: tuple[str, ...] = ()

    def draw(self, labels, names, table, stream, original=None):
        CALLS.append(0)
        return {draw}

    {more}
'''
BASE = {
    "name": "own", "seeds": 1, "train": {"epochs": 1, "lr": 0.1, "batch_size": 64}, "noise_floor": False, "device": "cpu",
    "methods": {"Retrain": {}}, "metrics": ["accuracy"], "limit_images": 100, "scenarios": [{"kind": "mine"}],
}  # fmt: skip


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Writes and loads the plug-in, in the folder where the test runs."""
    monkeypatch.chdir(tmp_path)

    def write(draw="np.arange(9)", more="", options=""):
        path = tmp_path / "mine.py"
        path.write_text(SCENARIO.format(draw=draw, more=more, options=options))
        load_plugin(path)
        return path

    return write


def planned(**change):
    return build(load(BASE | change))


def notes(draw, mine):
    mine(draw)
    return " ".join(planned().notes)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Imports a module as the entry point of an installed package does."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)

    def put(name, text):
        (folder / f"{name}.py").write_text(text)
        importlib.import_module(name)
        return folder / f"{name}.py"

    yield put
    for path in folder.glob("*.py"):
        sys.modules.pop(path.stem, None)


def test_a_scenario_of_an_installed_package_is_looked_at_as_that_of_a_file_is(installed):
    installed("afar_scenario", SCENARIO.format(draw="[len(CALLS)]", more="", options=""))
    with pytest.raises(UserError, match="draw chose other pictures the second time"):
        planned()


def test_a_data_set_of_an_installed_package_is_read_at_each_plan(installed):
    path = installed(
        "afar_data",
        "import numpy as np\nfrom pathlib import Path\nfrom loreun_bench import dataset\n"
        "from loreun_bench.classification import Arrays\n"
        "@dataset('afar', shape=(6, 7, 1), classes=4, embedded=True)\n"
        "def afar(root, download):\n    'Shades.'\n    labels = np.arange(200) % 4\n"
        "    images = np.random.default_rng(0).integers(0, 50, (200, 6, 7, 1)) + 50 * labels[:, None, None, None]\n"
        "    images = (images + int((Path(__file__).parent / 'rows.csv').read_text())).astype(np.uint8)\n"
        "    return Arrays(images[:150], labels[:150], images[150:], labels[150:])\n",
    )
    found = []
    for rows in ("2", "40"):
        (path.parent / "rows.csv").write_text(rows)
        plan = planned(dataset="afar", limit_images=None, scenarios=[{"kind": "random", "fraction": 0.1}])
        found.append(plan.cells[0].record.conditions["data"])
    assert len(set(found)) == 2


@pytest.mark.parametrize(
    ("draw", "count"),
    [
        ("range(9)", 9), ("(3, 5)", 2), ("(3, 5, 7)", 3), ("[n % 10 == 0 for n in range(len(labels))]", 9),
        ("np.array([], int).tolist() + [4]", 1), ("random.sample(range(len(labels)), 9)", 9),
        ("np.random.permutation(len(labels))[:9]", 9),
    ],
)  # fmt: skip
def test_positions_in_any_plain_form_are_taken(mine, draw, count):
    assert f"mine: {count} of 90 training images are forgotten" in notes(draw, mine)


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        ("[[1], [2, 3]]", "draw returned what makes no array"), ("(n for n in range(9))", "draw returned object"),
        ("{1, 2}", "draw returned object"), ("np.ones(3, bool)", r"expected positions \[m\] or booleans \[90\]"),
        ("[1, 1]", "each once"), ("[-1]", "positions from 0 to 89"), ("range(len(labels))", "the retain set is empty"),
        ("[len(CALLS)]", "draw chose other pictures the second time"),
        ("(range(9), (labels[:9] + 1) % 10)", r"say so with @scenario\('mine', relabels=True\)"),
    ],
)  # fmt: skip
def test_what_else_a_draw_returns_is_one_line(mine, draw, says):
    with pytest.raises(UserError, match=says) as found:
        notes(draw, mine)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("draw", ["random.sample(range(len(labels)), 9)", "np.random.permutation(len(labels))[:9]"])
def test_global_randomness_is_the_same_in_every_process(mine, draw):
    def drawn():
        random.seed()
        np.random.seed()
        split = next(stage for stage in planned().stages if stage.run.endswith(":split") and stage.config["scenario"])
        return split.function()(split.config, {}, "cpu").tensors["forget"].tolist()

    mine(draw)
    assert drawn() == drawn()


@pytest.mark.parametrize(
    ("gone", "count", "says"),
    [
        ("labels == 3", 10, ""), ("np.flatnonzero(labels == 3)", 10, ""), ("[3, 5]", 2, ""),
        ("np.ones(1, bool)", 0, "gone returned bool"),
        ("None", 0, "gone returned object"), ("labels >= 0", 0, "no test image is left, all 359 are of what is forgotten"),
    ],
)  # fmt: skip
def test_test_pictures_that_are_gone_are_counted_or_refused(mine, gone, count, says):
    mine(more=f"def gone(self, labels, names, table):\n        return {gone}")
    if says:
        with pytest.raises(UserError, match=says):
            planned(limit_images=None)
        return
    (note,) = [note for note in planned(limit_images=None).notes if note.startswith("mine")]
    assert int(re.search(r"; (\d+) test images", note)[1]) >= count


def test_what_gone_does_to_the_labels_reaches_no_other_request(mine):
    mine(more="def gone(self, labels, names, table):\n        return labels.fill(0) or labels < 0")
    asked = [{"kind": "mine"}, {"kind": "class", "forget_class": 3}]
    notes = planned(scenarios=[{"kind": "sequence", "requests": asked}], limit_images=None).notes
    assert "test images of it are tested on apart" in notes[-1]


@pytest.mark.parametrize(
    ("label", "says"), [("5", "must be a text, got 5"), ("''", "must be a text"), ("1 / 0", "mine.py:.* raised Zero")]
)
def test_a_label_that_is_none_is_one_line(mine, label, says):
    mine(more=f"@property\n    def label(self):\n        return {label}")
    with pytest.raises(UserError, match=says):
        planned()


def test_without_a_label_of_its_own_its_settings_are_one_whatever_the_folder(mine, tmp_path):
    mine(more="def files(self):\n        return self.lists")
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "one.txt").touch()
        plan = planned(scenarios=[{"kind": "mine", "lists": [str(tmp_path / folder / "one.txt"), "mine.py"]}])
        assert plan.cells[0].record.scenario == "mine-one.txt+mine.py"


def test_a_long_label_of_many_lines_is_one_that_fits_a_record(mine):
    mine(more="@property\n    def label(self):\n        return 'a\\nb' * 3000")
    (record,) = loreun_bench.sweep(BASE | {"methods": {"RL": {"epochs": 1}}}, "run", workers=0)[:1]
    assert record.status == "ok", record.reason
    assert len(record.scenario) <= 80
    assert record.scenario.startswith("a ba b")


def test_wrong_labels_are_those_that_the_original_is_trained_on(mine):
    mine("(np.arange(9), (labels[:9] + 1) % 10)", options=", relabels=True")
    plan = planned()
    (original,) = [stage for stage in plan.stages if stage.run.endswith(":train")]
    (measured,) = [cell for cell in plan.cells if cell.record.method == "Original"]
    assert original.inputs["split"].recipe == measured.evaluation.inputs["split"].recipe
    split = original.inputs["split"].function()(original.inputs["split"].config, {}, "cpu").tensors
    plain = build(load(BASE | {"scenarios": [{"kind": "random", "count": 9}]})).stages
    (usual,) = [stage.inputs["split"] for stage in plain if stage.run.endswith(":train")]
    true = usual.function()(usual.config, {}, "cpu").tensors["labels"]
    assert (split["labels"] != true).nonzero().flatten().tolist() == split["forget"].tolist()


def test_what_the_original_is_trained_on_cannot_be_chosen_by_its_losses(mine):
    for option in ("explicit", "relabels"):
        with pytest.raises(UserError, match=f"with {option} it decides what the original is trained on"):
            mine(options=f", {option}=True, needs=('original',)")


def test_scenarios_with_wrong_labels_go_with_no_checkpoint_and_in_no_sequence(mine, tmp_path):
    mine("(np.arange(9), (labels[:9] + 1) % 10)", options=", relabels=True")
    with pytest.raises(UserError, match="a request cannot be of kind mine"):
        planned(scenarios=[{"kind": "sequence", "requests": [{"kind": "mine"}, {"kind": "random", "count": 3}]}])
    import torch

    from loreun_bench.classification.unlearning.networks import build_model

    torch.save(build_model("small-cnn", {}, 1, 10, (8, 8)).state_dict(), tmp_path / "w.pt")
    with pytest.raises(UserError, match="never saw the wrong labels of scenario mine"):
        planned(checkpoint=str(tmp_path / "w.pt"))


def test_in_a_sequence_what_is_named_by_chance_is_what_the_original_was_trained_on(mine):
    mine("stream('x').permutation(len(labels))[:30]", options=", explicit=True")
    asked = [{"kind": "class", "forget_class": 3}, {"kind": "mine"}]
    plan = planned(scenarios=[{"kind": "sequence", "requests": asked}], limit_images=300)
    drawn = {}
    for stage in plan.stages:
        if stage.run.endswith(":split"):
            drawn[stage.label] = stage.function()(stage.config, {}, "cpu").tensors["trained"].tolist()
    assert len(drawn) == 3
    assert len(set(map(tuple, drawn.values()))) == 1


@pytest.mark.parametrize("how", ["tables", "files"])
def test_a_file_that_a_scenario_reads_is_part_of_its_result(mine, tmp_path, how):
    """One that it names as a table and nowhere else; and one in a list of its settings."""
    path = tmp_path / "who.csv"
    rows = ["anna" if n % 5 == 0 else "ben" for n in range(1438)]

    def write():
        path.write_text("\n".join(["index,who", *(f"{n},{name}" for n, name in enumerate(rows))]) + "\n")

    def forgotten():
        config = BASE | {"scenarios": [{"kind": "mine", "lists": ["who.csv" if how == "files" else str(path)]}]}
        loreun_bench.sweep(config | {"dataset": "digits"}, tmp_path / f"run-{rows.count('anna')}", workers=0)
        plan = build(load(config))
        made = artifacts(plan, Store(default_root()))
        split = next(cell.evaluation.inputs["split"] for cell in plan.cells)
        return len(made[split.recipe].tensors()["forget"])

    if how == "tables":
        mine("np.flatnonzero(table['who'] == 'anna')", more="def tables(self):\n        return self.lists")
    else:
        mine(
            "[n for n, row in enumerate(open(self.lists[0]).read().split()[1:]) if 'anna' in row and n < len(labels)]",
            more="def files(self):\n        return self.lists",
        )
    write()
    before = forgotten()
    rows[:] = ["anna" if n % 2 == 0 else "ben" for n in range(1438)]
    write()
    assert before < forgotten()
