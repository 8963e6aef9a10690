"""Pins what a method with an `unlearn` of its own may return, leave and answer, and which rows it has (cases 29 to 31)."""

from __future__ import annotations

from typing import Any

import pytest
from helpers import usually

import loreun_bench
from loreun_bench import config as configuration
from loreun_bench.errors import UserError
from loreun_bench.harness.plan import build
from loreun_bench.plugins import load_plugin

CONFIG = {
    "name": "own", "dataset": "digits", "seeds": 1, "device": "cpu", "train": {"epochs": 1}, "noise_floor": False,
    "scenarios": [{"kind": "random", "fraction": 0.2}], "methods": {"mine": {}}, "limit_images": 300,
    "weightings": ["none", "w_f", "w_r", "w_f+w_r"], "metrics": ["accuracy", "mia"],
}  # fmt: skip
PLUGIN = """
from dataclasses import dataclass
import torch
from loreun_bench import method
from loreun_bench.classification import GradientMethod, Method

@method("mine", uses={{"forget", "retain"}})
@dataclass(frozen=True)
class Mine{base}:
    "A method."
    epochs: int = 1
    {active}
    def unlearn(self, model, data, context):
        context.meter.forward_samples += 1
        {body}
"""
ALL = ["none", "w_f", "w_r", "w_f+w_r"]
GRADIENT = "(GradientMethod)"


@pytest.fixture
def plugin(tmp_path):
    def write(body: str, base: str = "", active: str = ""):
        (tmp_path / "mine.py").write_text(PLUGIN.format(body=body, base=base, active=active))
        return tmp_path / "mine.py"

    return write


def rows(path: Any) -> tuple[list[str], tuple[str, ...]]:
    """The weightings with which a sweep has the plug-in's method, and the plan's notes."""
    load_plugin(path)
    plan = build(configuration.load(CONFIG))
    return [cell.record.weighting for cell in plan.cells if cell.record.method == "mine"], plan.notes


def ends(path: Any, tmp_path: Any, **change: Any) -> tuple[str, str]:
    """Status and reason of the method's row."""
    config = CONFIG | {"weightings": ["none"]} | change
    records = loreun_bench.sweep(config, tmp_path / "run", workers=0, plugins=[path])
    found = next(r for r in records if r.method == "mine")
    return found.status, found.reason


@pytest.mark.parametrize("base", [GRADIENT, ""])
def test_an_unlearn_that_reads_no_weighting_has_one_row_and_the_plan_and_check_say_so(plugin, base, command):
    path = plugin("return model", base)
    found, notes = rows(path)
    assert found == ["none"]
    assert any("mine × weightings left out" in note for note in notes)
    code, out, _ = command("check", path)
    assert code == 0
    assert "weightings cannot act on it: one row" in out


ACTING = [  # body, active
    ("return super().unlearn(model, data, context)", ""),
    (
        "from loreun_bench.classification.unlearning.gradient import descend\n"
        "        return descend(self, model, data, context)",
        "",
    ),
    (
        "def step():\n            return [context.phases.get(n) for n in ('forget', 'retain')]\n"
        "        step()\n        return model",
        "",
    ),
    (
        "return self.run(model, context)",
        "def active(self):\n        return ('forget', 'retain')\n"
        "    def run(self, model, context):\n        dict(context.phases)\n        return model\n",
    ),
]


@pytest.mark.parametrize(("body", "active"), ACTING)
def test_an_unlearn_that_hands_over_to_the_loop_or_reads_its_phases_has_all_rows(plugin, body, active, command):
    path = plugin(body, GRADIENT, active)
    assert rows(path)[0] == ALL
    code, out, _ = command("check", path)
    assert code == 0, out
    assert "one row" not in out


def test_an_unlearn_that_reads_its_phases_has_all_rows_whatever_the_base_class_says_of_none(plugin):
    assert rows(plugin("context.phases\n        return model", "(Method)"))[0] == ALL
    assert rows(plugin("return model", "(Method)"))[0] == ["none"]


def test_a_method_that_says_no_phase_is_weighed_has_one_row_and_no_note(plugin):
    path = plugin("context.phases\n        return model", GRADIENT, "def active(self):\n        return ()\n")
    found, notes = rows(path)
    assert found == ["none"]
    assert not any("mine" in note for note in notes)


def test_a_weighting_that_was_not_read_is_no_row_of_equal_numbers(plugin, tmp_path):
    path = plugin("return model", GRADIENT, "def active(self):\n        return ('forget', 'retain')\n")
    status, reason = ends(path, tmp_path, weightings=["w_f"])
    assert status == "failed"
    assert "did not read the weighting's forget phase" in reason


NAN = [
    "with torch.no_grad():\n            next(model.parameters())[0] = float('nan')\n        return model",
    "with torch.no_grad():\n            next(model.parameters())[0] = float('-inf')\n        return model",
    "next(b for b in model.buffers() if b.is_floating_point())[0] = float('nan')\n        return model",
    "with torch.no_grad():\n            [p.mul_(1e30) for p in model.parameters()]\n        return model",
]


@pytest.mark.parametrize("body", NAN)
def test_weights_or_outputs_that_are_not_finite_are_diverged(plugin, tmp_path, body):
    status, reason = ends(plugin(body), tmp_path)
    assert status == "diverged", reason
    assert reason.startswith("the logits of" if "1e30" in body else "unlearn left")
    assert "NaN or infinite" in reason


WRONG = [
    ("return None", "unlearn returned NoneType, not the model: end it with `return model`"),
    ("pass", "unlearn returned NoneType, not the model: end it with `return model`"),
    ("return model.state_dict()", "unlearn returned OrderedDict, not the model"),
    ("return torch.nn.Linear(3, 3)", "another architecture"),
    ("return torch.nn.Sequential(model)", "another architecture"),
    ("model.add_module('more', torch.nn.Linear(1, 1))\n        return model", "another architecture ('more.bias')"),
]


@pytest.mark.parametrize(("body", "says"), WRONG)
def test_what_is_no_model_that_fits_is_one_line_in_a_sweep_and_in_check(plugin, tmp_path, command, body, says):
    path = plugin(body)
    status, reason = ends(path, tmp_path)
    assert status == "failed"
    assert says in reason
    code, out, _ = command("check", path)
    assert code == 2
    assert says in out


ANSWERS = [
    ("active", "raise KeyError('x')", "mine.py:[0-9]+ raised KeyError: 'x'"),
    ("active", "yield from [3]", r"active\(\) returned \[3\], not some of 'forget' and 'retain'"),
    ("active", "return None", "returned None, not some of"),
    ("active", "return 'forget'", "returned 'forget', not some of"),
    ("samples", "return 1 / 0", "mine.py:[0-9]+ raised ZeroDivisionError"),
    ("samples", "return None", r"samples\(\) returned None, not how many"),
    ("samples", "return float('nan')", "returned nan, not how many"),
    ("samples", "return -1", "returned -1, not how many"),
    ("check", "return 1 / 0", "mine.py:[0-9]+ raised ZeroDivisionError"),
]
GENERATION = {
    "track": "generation", "seeds": 1, "device": "cpu", "methods": ["mine"], "weightings": ["none", "w_f"],
    "scenarios": [{"kind": "class", "forget_class": "seven"}],
}  # fmt: skip


@pytest.mark.parametrize("derived", usually(True, of=[False, True]))
@pytest.mark.parametrize(("track", "config"), [("classification", CONFIG), ("generation", GENERATION)])
def test_what_the_plan_asks_of_a_method_is_blamed_on_its_file(plugin, track, config, derived) -> None:
    """Of a class of the user's alone, too, which answers nothing that it does not define."""
    path = plugin("context.phases", base="(Base)" if derived else "", active="{hook}")
    text = path.read_text().replace('"retain"}', f'"retain"}}, track="{track}"')
    text = text.replace("import GradientMethod, Method", "import Method").replace("(Base)", "(Method)")
    text = text.replace("loreun_bench.classification", f"loreun_bench.{track}")
    for name, body, says in ANSWERS if track == "generation" else ANSWERS[:-1]:
        path.write_text(text.replace("{hook}", f"def {name}(self, *asked):\n        {body}"))
        with pytest.raises(UserError, match=f"method 'mine'.*{says}"):
            load_plugin(path), build(configuration.load(config))
    path.write_text(text.replace("{hook}", ""))
    load_plugin(path)
    cells = [cell for cell in build(configuration.load(config)).cells if cell.record.method == "mine"]
    assert [cell.record.weighting for cell in cells] == config["weightings"]
