"""The benchmark suite runs, what it saves is small and names no machine, and only what is beyond the noise is told."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
changes = runpy.run_path(str(ROOT / "benchmarks" / "changes.py"))["changes"]


def suite(*words):
    command = [sys.executable, "-m", "pytest", *map(str, words), "--quick", "--device", "cpu"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}  # of xdist: no timing
    found = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def test_every_benchmark_runs():
    said = suite("benchmarks", "--benchmark-disable")
    assert "Liger's kernels run on a GPU only" in said
    assert "failed" not in said


def test_what_is_saved_is_small_and_names_no_machine(tmp_path):
    path = tmp_path / "found.json"
    words = ("-k", "step", "--benchmark-max-time=0.01", "--benchmark-min-rounds=2", f"--benchmark-json={path}")
    said = suite("benchmarks/test_operator.py", *words)
    assert "× copy    1.00" in said
    assert "suite-cpu-torch" in said  # compared with what is committed, or said that nothing is
    result = json.loads(path.read_text())
    assert {"device_name", "torch", "commit", "backend", "threads"} <= set(result["machine_info"])
    assert "node" not in result["machine_info"]
    rows = {(row["group"], row["name"]): row for row in result["benchmarks"]}
    ours = rows["step 256x10+256x10 fp32, forward+backward", "loreun"]
    copy = rows["step 256x10+256x10 fp32, forward+backward", "copy (roofline)"]
    assert ours["extra_info"]["x_copy"] == pytest.approx(ours["stats"]["min"] / copy["stats"]["min"], rel=0.01)
    assert ours["extra_info"]["gradient_error"] < 1e-6
    assert path.stat().st_size < 600 * len(rows)
    compare = [sys.executable, "-m", "pytest_benchmark", "compare", str(path), "--columns=min", "--name=short"]
    table = subprocess.run(compare, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "loreun, with stats" in table


def result(times, **machine):
    rows = [{"group": "g", "name": name, "stats": {"min": least}, "extra_info": {"role": role}}
            for (role, name), least in times.items()]  # fmt: skip
    return {"machine_info": {"device_name": "x", "commit": "abc"} | machine, "benchmarks": rows}


PEERS = {("peer", str(i)): 1e-4 * (1 + i) for i in range(20)}


def scaled(peers, ours):
    """Everything 1.5 times slower, as on a busy machine, but for a peer that jumps; and ours by more or less."""
    noisy = {key: 1.5 * least * (1 + 0.02 * (-1) ** i) for i, (key, least) in enumerate(peers.items())}
    return result(noisy | {("peer", "3"): 1.0} | {("ours", name): 1.5e-5 * by for name, by in ours.items()})


def test_what_changed_beyond_the_noise_is_told_and_the_machines_drift_is_divided_out():
    before = result(PEERS | {("ours", name): 1e-5 for name in ("same", "slow", "fast", "gone")})
    head, *lines = changes(before, scaled(PEERS, {"same": 1.04, "slow": 1.3, "fast": 0.5, "new": 1.0}), "file")
    assert "commit abc" in head
    assert "×1.5" in head
    assert "±5%" in head
    assert [line.split()[0] for line in lines] == ["slower", "faster"]
    assert "g: slow (10 → 19.5 µs)" in lines[0]
    assert changes(before, scaled(PEERS, {"same": 1.0}), "file")[1] == "  none of 1 rows of ours changed by more"


def test_what_cannot_be_compared_is_said():
    one = result({("ours", "same"): 1.0})
    assert changes(None, one, "file") == ["file is not committed yet: nothing to compare with"]
    assert changes(result({}, device_name="y"), one, "file") == ["file was measured elsewhere (y): not compared"]
