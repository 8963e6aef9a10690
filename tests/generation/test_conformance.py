"""What `check` says of broken plug-ins of the generation track."""

from __future__ import annotations

import pytest

METHOD = """
from dataclasses import dataclass
from loreun_bench import method
from loreun_bench.generation.unlearning.method import Method

@method("odd-{number}", uses={{"forget"}}, track="generation")
@dataclass(frozen=True)
class Odd{number}(Method):
    "Odd."
    def unlearn(self, pipeline, data, context):
        {body}
"""
LOOKS = """
from loreun_bench import metric

@metric("looks", columns={"looks": "looks"}, track="generation", needs={"model", "data", "original"})
def looks(scene):
    "Looks at all there is."
    model = scene.need_model("looks")
    seen = len(model.data.forget), len(model.asked), len(scene.source("original")), model.steps
    return {"looks": float(seen == (16, 3, 30, 5))}
"""
METRIC = """
from loreun_bench import metric

@metric("odd-{number}", columns={{"odd": "odd"}}, track="generation")
def odd(scene):
    "Odd."
    return {body}
"""
DATASET = """
import torch
from loreun_bench import dataset
from loreun_bench.generation.scoring.pictures import Pictures

@dataset("odd-{number}", embedded=True, track="generation")
def odd(root, split):
    "Odd."
    return Pictures(("a", "b"), torch.arange(8) % 2, {body})
"""
WRONG = [
    (METHOD, "data.retain", "read the retain set but declares uses=['forget']"),
    (METHOD, "pass", "no samples were counted"),
    (METHOD, "pipeline.unet.conv_in.weight.data.fill_(float('nan'))", "NaN"),
    (METHOD, "pipeline.unet.extra = type(pipeline.unet.conv_in)(1, 1, 1)", "another architecture"),
    (METRIC, "{'other': 1.0}", "expected a dict with keys ['odd']"),
    (METRIC, "{'odd': float('nan')}", "odd is nan"),
    (DATASET, "lambda positions, size: torch.zeros(2, 1, size, size)", "load gave [2, 1, 16, 16]"),
    (DATASET, "lambda positions, size: torch.full((2, 3, size, size), 255.0)", "floats in [-1, 1]"),
    (DATASET.replace("% 2", "* 0"), "lambda positions, size: torch.zeros(2, 3, size, size)", "labels must be 0 … 1"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_check_says_what_is_wrong(command, tmp_path, number):
    template, body, says = WRONG[number]
    file = tmp_path / "odd.py"
    file.write_text(template.format(number=number, body=body))
    code, out, _ = command("check", file)
    assert code == 2
    assert out.startswith("wrong ")
    assert says in out


def test_check_gives_a_metric_what_it_needs(command, tmp_path):
    file = tmp_path / "looks.py"
    file.write_text(LOOKS)
    code, out, err = command("check", file)
    assert (code, "looks=1" in out.replace(" ", "")) == (0, True), out + err


SCENARIO = """
from dataclasses import dataclass
from loreun_bench import scenario
from loreun_bench.generation import Concepts

@scenario("odd-scenario", track="generation")
@dataclass(frozen=True)
class Odd:
    "Odd."
    label = "odd"
    def draw(self, classes, prompt):
        prompts = tuple(prompt.replace("{{}}", name) for name in classes)
        return {body}
"""


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("prompts", "draw returned tuple, not Concepts"),
        ("Concepts(prompts, tuple(classes), tuple(range(10)), tuple(classes), prompts)", "one concept at least is kept"),
        ("Concepts(prompts, tuple(classes), (3,), (), ())", "has one of each"),
        ("Concepts(prompts, tuple(classes), (10,), ('a',), ('a',))", "forgot the concepts [10] of 10"),
        (
            "Concepts(prompts[:9], tuple(classes)[:9], (3,), (classes[3],), (prompts[3],))",
            "scenario odd gives 9 prompts for 10 classes: one each is needed",
        ),
        ("Concepts(prompts, tuple(classes), (3,), (classes[3],), (prompts[3],))", "odd: three of 10 concepts"),
    ],
)
def test_check_says_what_is_wrong_with_a_scenario(command, tmp_path, body, says):
    file = tmp_path / "odd.py"
    file.write_text(SCENARIO.format(body=body))
    code, out, _ = command("check", file)
    assert code == (0 if says.endswith("concepts") else 2)
    assert says in out
