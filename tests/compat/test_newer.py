"""What a newer version wrote is refused in one line that says which, and nothing of it is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from helpers import refused

from loreun_bench import config
from loreun_bench.api import claim
from loreun_bench.errors import UserError
from loreun_bench.harness import environment, records, stage
from loreun_bench.harness.leases import Leases
from loreun_bench.harness.stage import Output, Stage
from loreun_bench.harness.store import Store
from loreun_bench.versions import CONFIG

FROZEN = Path(__file__).parent
THEIRS = "written by loreun_bench 7.1: install it or newer"
KEY = "ab" * 32


def newer_run(folder, **about):
    """A run folder whose last record is of the next schema."""
    lines = (FROZEN / "models" / "records.jsonl").read_text().splitlines()
    values = {**json.loads(lines[-1]), "schema": records.SCHEMA + 1, "what": {"is": "new"}, **about}
    folder.mkdir()
    (folder / "records.jsonl").write_text("\n".join([*lines[:-1], json.dumps(values)]) + "\n")
    return folder


@pytest.mark.parametrize("verb", ["leaderboard", "compare", "report"])
def test_a_newer_record_names_its_version(verb, command, tmp_path):
    run = newer_run(tmp_path / "run", environment={"loreun_bench": "7.1"})
    found = command(verb, run)
    refused(found, f"records.jsonl:8: schema {records.SCHEMA + 1} is newer")
    refused(found, f"understands ({records.SCHEMA}); {THEIRS}")


@pytest.mark.parametrize("environment", [{}, None, [], {"loreun_bench": 7}, {"loreun_bench": "\n"}])
def test_a_newer_record_that_names_no_version_is_one_line_too(environment, command, tmp_path):
    refused(command("leaderboard", newer_run(tmp_path / "run", environment=environment)), "install the newest")


def test_a_newer_configuration_names_its_version(command, tmp_path):
    (tmp_path / "new.yaml").write_text(f"schema: {CONFIG + 1}\nloreun_bench: '7.1'\nmethods: of another kind\n")
    found = command("plan", tmp_path / "new.yaml")
    refused(found, f"new.yaml: schema {CONFIG + 1} is newer")
    refused(found, f"understands ({CONFIG}); {THEIRS}")


def test_a_run_folder_of_a_newer_configuration_stays_as_it_is(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(f"schema: {CONFIG + 1}\nloreun_bench: '7.1'\n")
    with pytest.raises(UserError, match=THEIRS):
        claim(tmp_path, config.load("digits"))
    assert path.read_text() == f"schema: {CONFIG + 1}\nloreun_bench: '7.1'\n"


def test_a_configuration_says_who_wrote_it(tmp_path):
    claim(tmp_path, config.load("digits"))
    found = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert (found["schema"], found["loreun_bench"]) == (CONFIG, environment.package_version())


@pytest.fixture
def theirs(tmp_path):
    """A store with a whole artifact of the next schema, at a key of ours."""
    store = Store(tmp_path / "store")
    folder = store.put(KEY, Output({"w": torch.ones(2)}), {}).folder
    (folder / "manifest.json").write_text(json.dumps({"schema": stage.SCHEMA + 1, "environment": {"loreun_bench": "7.1"}}))
    shutil.copytree(folder, tmp_path / "before")
    return folder


@pytest.fixture
def untouched(theirs, tmp_path):
    yield
    before = {path.name: path.read_bytes() for path in (tmp_path / "before").iterdir()}
    assert {path.name: path.read_bytes() for path in theirs.iterdir()} == before


@pytest.mark.usefixtures("untouched")
def test_a_newer_artifact_is_not_there(tmp_path):
    with Leases(Store(tmp_path / "store")) as leases:
        store = leases.store
        assert store.find(KEY) is None
        assert store.verified(KEY) is None


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("replace", [False, True])
def test_a_newer_artifact_keeps_its_place(replace, tmp_path):
    with pytest.raises(UserError, match=THEIRS):
        Store(tmp_path / "store").put(KEY, Output({"w": torch.zeros(2)}), {}, replace)


def test_artifacts_of_two_schemas_have_two_places(monkeypatch):
    one = Stage("m:f", {"a": 1})
    ours = one.key({})
    monkeypatch.setattr(stage, "SCHEMA", stage.SCHEMA + 1)
    assert one.key({}) != ours
