"""What comes from others, damaged in hundreds of ways: read, or refused in one line. `benchmarks/mutated.py` has more."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")
INPUTS = {
    "configurations": 120, "records": 150, "prompts": 400, "tables": 400, "pictures": 100, "arrays": 400, "checkpoints": 200,
    "published": 60, "pipelines": 60, "stored": 100,
}  # fmt: skip


@pytest.fixture
def mutated(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import mutated

    yield mutated
    for name in ("mutated", "kinds", "binaries", "mutations"):
        sys.modules.pop(name, None)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", INPUTS)
def test_whatever_is_damaged_is_read_or_refused_in_one_line(kind, mutated, tmp_path):
    found, first = mutated.tested(kind, INPUTS[kind], 0, tmp_path)
    faults = {said: (times, first[said]) for said, times in found.items() if said not in ("accepted", "refused")}
    assert not faults
    assert min(found["accepted"], found["refused"]) > 0, found


def test_no_kind_is_left_out(mutated):
    from kinds import KINDS

    assert KINDS.keys() == INPUTS.keys()


def test_the_guard_tells_faults_from_refusals(mutated, tmp_path):
    from loreun_bench.errors import UserError

    guard = mutated._guard()
    guard.folder = str(tmp_path)

    def raising(error):
        def feed():
            raise error

        return feed

    assert mutated.outcome(guard, lambda: None) == "accepted"
    assert mutated.outcome(guard, raising(UserError("no"))) == "refused"
    assert mutated.outcome(guard, raising(KeyError("x"))).startswith("KeyError at")
    assert mutated.outcome(guard, raising(SystemExit(1))).startswith("SystemExit at")
    outside = tmp_path.parent / "outside"
    assert mutated.outcome(guard, lambda: outside.write_text("")).startswith("Outside at")
    assert not outside.exists()
    assert mutated.outcome(guard, lambda: (tmp_path / "inside").write_text("")) == "accepted"
