"""Results of every shape that was ever written still load, render and serve; see README.md."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from loreun_bench import load_records
from loreun_bench.api import claim, resolve
from loreun_bench.harness import records
from loreun_bench.harness.records import Record
from loreun_bench.harness.store import Store
from loreun_bench.training import loop

FROZEN = Path(__file__).parent
RUNS = sorted(path.parent.name for path in FROZEN.glob("*/records.jsonl"))
KEYS = sorted(path.parent.name for path in FROZEN.glob("store/artifacts/*/*/manifest.json"))


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A copy: a store sets aside what it cannot read."""
    shutil.copytree(FROZEN / "store", tmp_path / "frozen")
    monkeypatch.setenv("LOREUN_STORE", str(tmp_path / "frozen"))
    return Store(tmp_path / "frozen")


def fields(run):
    return {key for line in (FROZEN / run / "records.jsonl").read_text().splitlines() for key in json.loads(line)}


@pytest.mark.parametrize("run", RUNS)
def test_records_load_with_every_value_that_they_have(run):
    lines = [json.loads(line) for line in (FROZEN / run / "records.jsonl").read_text().splitlines()]
    found = [dataclasses.asdict(record) for record in load_records(FROZEN / run)]
    for line in lines:
        if line.get("conditions", {}).get("precision") == "auto":
            line["conditions"]["precision"] = "fp32"  # what it was on the CPU
    assert [{key: new[key] for key in old} for old, new in zip(lines, found, strict=True)] == lines


@pytest.mark.parametrize("run", RUNS)
def test_records_written_anew_are_the_same_records(run, tmp_path):
    found = load_records(FROZEN / run)
    records.append(tmp_path / "records.jsonl", found)
    assert load_records(tmp_path) == found


@pytest.mark.parametrize("form", ["text", "md", "csv"])
@pytest.mark.parametrize("run", RUNS)
def test_leaderboards_show_every_row(run, form, command):
    code, out, err = command("leaderboard", FROZEN / run, "--format", form)
    assert code == 0, err
    assert all(record.method in out and record.weighting in out for record in load_records(FROZEN / run))


@pytest.mark.parametrize("run", RUNS)
def test_rows_are_compared_and_shown_in_a_page(run, command, tmp_path):
    for words in (["compare", FROZEN / run], ["report", FROZEN / run, "--out", tmp_path / "page.html"]):
        code, _, err = command(*words)
        assert code == 0, err
    assert "RL" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("run", RUNS)
def test_a_configuration_loads_and_its_run_is_gone_on_with(run, tmp_path, monkeypatch):
    shutil.copy(FROZEN / run / "config.yaml", tmp_path)
    monkeypatch.setattr(loop, "automatic", lambda device: "bf16")
    found = resolve(FROZEN / run / "config.yaml")
    assert found.precision == "fp32"  # which its rows were made in, whatever is automatic here
    assert claim(tmp_path, found) == ""
    assert (tmp_path / "config.yaml").read_bytes() == (FROZEN / run / "config.yaml").read_bytes()


@pytest.mark.parametrize("key", KEYS)
def test_artifacts_are_found_and_whole(store, key):
    artifact = store.verified(key)
    assert artifact is not None
    assert artifact.manifest["files"].keys() == {path.name for path in artifact.folder.iterdir()} - {"manifest.json"}
    assert isinstance(artifact.values(), dict)


@pytest.mark.parametrize(("run", "row"), [("sweep", "RL/w_f"), ("watched", "RL/half")])
def test_models_are_exported(store, run, row, command, tmp_path):
    code, out, err = command("export", FROZEN / run, "--row", row, "--seed", 0, "--to", tmp_path / "model.safetensors")
    assert code == 0, err
    assert "20 tensors" in out


def test_every_field_of_a_record_is_frozen():
    assert {field.name for field in dataclasses.fields(Record)} <= set().union(*map(fields, RUNS)), "see README.md"
