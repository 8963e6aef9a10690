"""Pins that what a plug-in of this track reads is part of what decides whether a result is taken from the store."""

from __future__ import annotations

import json

import pytest
from helpers import generation_config as config
from helpers import usually

from loreun_bench import api

METHOD = """
import json
from dataclasses import dataclass
from pathlib import Path
import torch
from loreun_bench import method
from loreun_bench.generation import {base}

@method("mine", uses={{"forget", "retain"}}, track="generation")
@dataclass(frozen=True)
class Mine({base}):
    "A method."
    def samples(self, sizes):
        return 1
    def unlearn(self, pipeline, data, context):
        context.meter.forward_samples += 1
        {body}
"""
DATA = """
import subprocess
import sys
from pathlib import Path
import torch
from loreun_bench import dataset
from loreun_bench.generation import Pictures

HERE = Path(__file__).parent
SHOWN = f"print(open({str(HERE / 'level.txt')!r}).read())"

@dataset("greys", classes=2, embedded=True, track="generation")
def greys(root, split):
    "Greys."
    labels = torch.arange(40) % 2
    level = float((Path(__file__).parent / 'level.txt').read_text())
    def load(positions, size):
        return (labels[positions] * level - 0.5)[:, None, None, None].expand(-1, 3, size, size).clone()
    return Pictures(("seven", "two"), labels, load)
"""
SCALE = (
    "by = json.loads((Path(__file__).parent / 'by.json').read_text())\n"
    "        with torch.no_grad():\n            next(pipeline.unet.parameters()).mul_(by)"
)


def swept(values, out, plugin, workers=0):
    heard = []
    records = api.sweep(values, out, workers=workers, plugins=[plugin], listen=heard.append)
    started = [event.stage.label for event in heard if event.kind == "started"]
    return {(r.method, r.weighting): r for r in records}, started, [e.text for e in heard if e.kind == "note"]


@pytest.mark.parametrize("workers", usually(0, of=[0, 1]))
def test_a_json_that_a_method_reads(random_pipeline, classifier_file, store, tmp_path, workers):
    plugin = tmp_path / "mine.py"
    plugin.write_text(METHOD.format(base="Method", body=SCALE))
    values = config(random_pipeline, classifier_file, methods={"mine": {}}, weightings=["none"])
    (tmp_path / "by.json").write_text("2")
    first, _, _ = swept(values, tmp_path / "one", plugin, workers)
    (tmp_path / "by.json").write_text("3")
    second, started, notes = swept(values, tmp_path / "two", plugin, workers)
    assert notes == ["by.json changed: what used it is made again"]
    assert len(started) == 3  # the method, its pictures, their measuring
    assert first["mine", "none"].artifact != second["mine", "none"].artifact
    assert first["Original", "none"] == second["Original", "none"]
    (tmp_path / "by.json").write_text("2")
    third, started, _ = swept(values, tmp_path / "three", plugin, workers)
    assert (third, started) == (first, [])


@pytest.mark.parametrize("workers", usually(0, of=[0, 1]))
def test_a_variable_and_a_file_that_is_not_there(random_pipeline, classifier_file, store, tmp_path, workers, monkeypatch):
    body = SCALE.replace("by = json", "import os\n        by = float(os.environ.get('BY', '2'))\n"
        "        p = Path(__file__).parent / 'parts' / 'by.json'\n        if p.exists(): by = json"
    ).replace("(Path(__file__).parent / 'by.json')", "p")  # fmt: skip
    plugin = tmp_path / "mine.py"
    plugin.write_text(METHOD.format(base="Method", body=body))
    monkeypatch.delenv("BY", raising=False)
    values = config(random_pipeline, classifier_file, methods={"mine": {}}, weightings=["none"])
    found = [swept(values, tmp_path / "one", plugin, workers)]
    assert swept(values, tmp_path / "again", plugin, workers)[1] == []
    monkeypatch.setenv("BY", "3")
    found.append(swept(values, tmp_path / "two", plugin, workers))
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "by.json").write_text("4")
    found.append(swept(values, tmp_path / "three", plugin, workers))
    told = ["$BY is new: what used it is made again", "parts/by.json is new: what used it is made again"]
    assert [notes for _, _, notes in found[1:]] == [[each] for each in told]
    assert len({rows["mine", "none"].artifact for rows, _, _ in found}) == 3


@pytest.mark.parametrize(
    "read",
    [
        pytest.param("(HERE / 'level.txt').read_text()", marks=pytest.mark.slow),
        "subprocess.check_output([sys.executable, '-c', SHOWN])",
    ],
    ids=["seen", "unseen"],
)
def test_a_file_that_a_data_set_reads(random_pipeline, classifier_file, store, tmp_path, read):
    """Its pixels tell it from what it was, also where nobody sees the file being opened."""
    plugin = tmp_path / "data.py"
    plugin.write_text(DATA.replace("(Path(__file__).parent / 'level.txt').read_text()", read))
    changes = {"dataset": "greys", "methods": {"RL": {"batch_size": 4, "epochs": 1}}, "weightings": ["none"]}
    values = config(random_pipeline, classifier_file, **changes)
    found = []
    for number, level in enumerate(("0.5", "0.9", "0.5")):
        (tmp_path / "level.txt").write_text(level)
        found.append(swept(values, tmp_path / str(number), plugin))
    first, second, third = ({row: record.artifact for row, record in records.items()} for records, *_ in found)
    assert first["RL", "none"] != second["RL", "none"]
    assert {label.split()[-1] for label in found[1][1]} >= {"RL", "none"}
    assert (third, found[2][1]) == (first, [])


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ("return torch.nn.Linear(1, 1)", "failed", "change the given pipeline in place"),
        ("pipeline.unet.extra = torch.nn.Linear(1, 1)", "failed", "another architecture"),
        ("next(pipeline.unet.parameters()).data.fill_(float('inf'))", "diverged", "NaN or infinite"),
        ("return pipeline", "ok", ""),
    ],
)
def test_what_unlearn_may_return_and_leave(random_pipeline, classifier_file, store, tmp_path, body, status, says):
    plugin = tmp_path / "mine.py"
    plugin.write_text(METHOD.format(base="Method", body=body))
    values = config(random_pipeline, classifier_file, methods={"mine": {}}, weightings=["none"])
    row = swept(values, tmp_path / "run", plugin)[0]["mine", "none"]
    assert (row.status, says in row.reason) == (status, True)


def test_a_gradient_method_with_an_unlearn_of_its_own_has_one_row(random_pipeline, classifier_file, store, tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(METHOD.format(base="GradientMethod", body="pass"))
    values = config(random_pipeline, classifier_file, methods={"mine": {}})
    rows = swept(values, tmp_path / "run", plugin)[0]
    assert [row for row in rows if row[0] == "mine"] == [("mine", "none")]


def test_the_manifest_names_versions(random_pipeline, classifier_file, store, tmp_path):
    values = config(random_pipeline, classifier_file, methods={"FMN": {"steps": 1}}, weightings=["none"])
    api.sweep(values, tmp_path / "run", workers=0)
    manifests = [json.loads(path.read_text()) for path in store.glob("artifacts/*/*/manifest.json")]
    assert all({"python", "torch", "diffusers", "loreun_bench"} <= each["versions"].keys() for each in manifests)
