"""What the tests of faults share: boxes, and an undisturbed run to compare with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from boxes import CONFIG, Box, Ended, Warm

from loreun_bench import load_records
from loreun_bench.harness.records import Record


class Sweep:
    """The tiny sweep in a box: its configuration, its store, its run folder."""

    def __init__(self, box: Box, folder: Path, data: Path) -> None:
        self.box, self.folder = box, folder
        self.store, self.out, self.config = folder / "store", folder / "run", folder / "tiny.yaml"
        self.config.write_text(CONFIG)
        box.env = {"LOREUN_STORE": str(self.store), "LOREUN_DATA": str(data)}

    def fill(self, path: Path) -> Path:
        """Put a file system without room at `path`; the file that takes it."""
        self.box.mount(path, "4k")
        ballast = self.box.inside(path) / "ballast"
        ballast.write_bytes(bytes(4096))
        return ballast

    def start(self, *words: object) -> int:
        return self.box.start("sweep", self.config, "--out", self.out, *(words or ("--workers", 0)))

    def run(self, *words: object) -> Ended:
        return self.box.ended(self.start(*words))

    @property
    def metrics(self) -> dict:
        """What the records say was measured, by cell."""
        return {r.cell: (r.status, r.metrics) for r in load_records(self.box.inside(self.out))}

    def finished(self, other: Sweep) -> bool:
        """Whether all of the run folder is there, and its numbers are those of the other."""
        names = {path.name for path in self.box.inside(self.out).iterdir()}
        return {"config.yaml", "records.jsonl", "leaderboard.md"} <= names and self.metrics == other.metrics

    @property
    def artifacts(self) -> dict[str, int]:
        """What is finished, with the time at which it was written."""
        found = self.box.inside(self.store).glob("artifacts/*/*/manifest.json")
        return {path.parent.name: path.stat().st_mtime_ns for path in found}


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def warm(data, tmp_path_factory):
    try:
        subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs user and mount namespaces (Linux, where they are allowed)")
    config = tmp_path_factory.mktemp("warm") / "tiny.yaml"
    config.write_text(CONFIG)
    process = Warm(config, data)
    yield process
    process.close()


@pytest.fixture
def sweep(warm, data, tmp_path):
    """The sweep in a box of its own, nothing run yet."""
    yield from _sweep(warm, data, tmp_path)


def _sweep(warm, data, folder):
    box = warm.box(folder)
    yield Sweep(box, folder, data)
    box.close()


@pytest.fixture(scope="session")
def undisturbed(warm, data, tmp_path_factory):
    """The sweep that nothing happened to."""
    for sweep in _sweep(warm, data, tmp_path_factory.mktemp("undisturbed")):
        ended = sweep.run()
        assert ended.code == 0, ended.err
        yield sweep


OWN = """
import os
from dataclasses import dataclass
import torch
from loreun_bench import method

@method("Own", uses={{"forget"}})
@dataclass(frozen=True)
class Own:
    "A method."
    def unlearn(self, model, data, context):
{body}
        context.meter.forward_samples += 1
        return model
"""


class Here:
    """The sweep with a method of the user's own, by the command line in this process: workers are forked faster."""

    def __init__(self, command, folder: Path) -> None:
        self._command, self._folder, self.out = command, folder, folder / "run"
        (folder / "tiny.yaml").write_text(CONFIG)

    def run(self, body: str, *words: object) -> Ended:
        """Run it, with the method's code."""
        (self._folder / "own.py").write_text(OWN.format(body=body))
        words = ("--out", self.out, "--workers", 1, "--plugin", self._folder / "own.py", "--set", "methods.+Own={}", *words)
        return Ended(*self._command("sweep", self._folder / "tiny.yaml", *words))

    @property
    def own(self) -> Record:
        """The method's row."""
        return next(record for record in load_records(self.out) if record.method == "Own")

    @property
    def others(self) -> dict:
        """The other rows' numbers."""
        return {r.cell: (r.status, r.metrics) for r in load_records(self.out) if r.method != "Own"}


@pytest.fixture
def here(command, data, tmp_path, monkeypatch):
    monkeypatch.setenv("LOREUN_DATA", str(data))
    return Here(command, tmp_path)
