"""What several test files check in the same words."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

LIMIT = 180  # seconds after which a test gives up waiting
CLASS = {"kind": "class", "forget_class": "seven"}


def usually(*usual, of):
    """All these cases as a test's parameters; those that are not the usual ones are slow (`make test-all`)."""
    assert set(usual) < set(of)
    cases = {case: case if isinstance(case, tuple) else (case,) for case in of}
    return [pytest.param(*each, marks=() if case in usual else pytest.mark.slow) for case, each in cases.items()]


def refused(result, says):
    """Exit code 2, and one line on stderr that says it."""
    code, _, err = result
    assert code == 2, err
    lines = [line for line in err.splitlines() if not line.startswith("note:")]
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert says in lines[0]


def generation_config(folder, classifier="small", **changes):
    return {
        "track": "generation", "name": "t", "pipeline": str(folder), "seeds": 1, "scenarios": [CLASS], "device": "cpu",
        "sampling": {"steps": 2, "guidance": 2.0, "images": 2, "batch_size": 8}, "curve": {"points": 4, "samples": 8},
        "limit_steps": 1, "metrics": ["ua"], "classifier": str(classifier),
        "methods": {"RL": {"batch_size": 4, "epochs": 1}, "ESD-x": {"ddim_steps": 2}, "FMN": {"steps": 1}},
        "weightings": ["none", "w_f", "loreun-s"],
    } | changes  # fmt: skip


def launched(*words, stdout=subprocess.DEVNULL, **environment):
    """Python with these words, leading a process group, and hearing Ctrl-C, which a shell's background job ignores."""
    return subprocess.Popen(
        [sys.executable, *map(str, words)], env=os.environ | environment, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def until(condition: Callable[[], bool]) -> None:
    """Polls; fails the test if the condition does not come true."""
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def group_is_gone(group: int) -> bool:
    """Whether no process of the group is alive; a zombie that nobody collects is not alive."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    stats = [stat_of(path) for path in Path("/proc").glob("[0-9]*/stat")]
    return bool(stats) and not any(fields[2] == str(group) and fields[0] not in "ZX" for fields in stats if fields)


def stat_of(path: Path) -> list[str]:
    """State, parent, group, … of a process; nothing if it has just ended."""
    try:
        return path.read_text().rpartition(")")[2].split()
    except OSError:
        return []


def swept(folder: Path, config: dict) -> Path:
    """A folder with a store of its own, and in it the run of a sweep."""
    import loreun_bench

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOREUN_STORE", str(folder / "store"))
        loreun_bench.sweep(config, out=folder / "run", workers=0)
    return folder


def copied(stored: Path, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """A copy of the run that `swept` made, for a test to change; it finds the store."""
    monkeypatch.setenv("LOREUN_STORE", str(stored / "store"))
    (folder / "run").mkdir()
    for name in ("config.yaml", "records.jsonl"):
        (folder / "run" / name).write_text((stored / "run" / name).read_text())
    return folder / "run"


def unsigned(path):
    """The rows as one who changes them by hand would leave them: without checksums, by which a reader would refuse them."""
    rows = map(json.loads, path.read_text().splitlines())
    return [{key: value for key, value in row.items() if key != "check"} for row in rows]
