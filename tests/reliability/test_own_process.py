"""Pins that what the user's code does to a process ends with it: the other rows are the same to the bit without it."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers import group_is_gone, launched, until, usually

import loreun_bench
from loreun_bench.harness.store import Store
from loreun_bench.plugins import load_plugin

CONFIG = {
    "name": "own", "dataset": "digits", "seeds": 1, "device": "cpu", "train": {"epochs": 1}, "noise_floor": False,
    "scenarios": [{"kind": "random", "fraction": 0.2}], "methods": {"Retrain": {}, "RL": {"epochs": 1}},
    "weightings": ["none", "w_f"], "metrics": ["accuracy", "mia"],
}  # fmt: skip
EVIL = """
import os, random, sys, torch, numpy as np

def ruin():
    torch.nn.functional.cross_entropy = torch.nn.functional.linear = None
    torch.Tensor.log_softmax = torch.Tensor.double
    torch.optim.SGD.step = lambda self, *args: None
    torch.set_grad_enabled(False)
    torch.set_num_threads(2)
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(666); np.random.seed(666); random.seed(666)
    os.chdir("/")
    os.environ["LOREUN_DATA"] = os.environ["LOREUN_STORE"] = "/nowhere"
    import loreun_bench.training.loop as loop
    loop.run_steps = lambda *args, **options: None
    sys.path.insert(0, "/nowhere")
"""
HEAD = "from dataclasses import dataclass\nfrom loreun_bench import method\n"
METHOD = """
@method("{name}", uses={{"forget"}})
@dataclass(frozen=True)
class {name}:
    "A method."
    def unlearn(self, model, data, context):
        {body}
        context.meter.forward_samples += 1
        return model
"""
NICE = "import torch\n        with torch.no_grad():\n            next(model.parameters()).mul_(0.5 + 0.1 * torch.rand(()))"


def rows(
    tmp_path: Path, monkeypatch: Any, name: str, methods: list[str], plugins: list[Path], workers: int = 1
) -> dict[Any, Any]:
    """A sweep, the plug-ins' methods first, with a store of its own: each row's status, metrics, hash of the weights."""
    monkeypatch.setenv("LOREUN_STORE", str(tmp_path / name / "store"))
    config = {**CONFIG, "methods": {**{method: {} for method in methods}, **CONFIG["methods"]}}
    records = loreun_bench.sweep(config, tmp_path / name / "run", workers=workers, plugins=plugins)
    store = Store(tmp_path / name / "store")
    found = {}
    for record in records:
        artifact = store.find(record.artifact)
        found[record.method, record.weighting] = (record.status, record.metrics, artifact.digest if artifact else "")
    return found


def test_a_hostile_plug_in_changes_no_row_but_its_own_and_leaves_this_process_as_it_was(tmp_path, monkeypatch) -> None:
    evil, nice = tmp_path / "evil.py", tmp_path / "nice.py"
    evil.write_text(HEAD + EVIL + METHOD.format(name="Evil", body="ruin()") + "\nruin()\n")
    nice.write_text(HEAD + METHOD.format(name="Nice", body=NICE))
    threads, state = torch.get_num_threads(), (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())
    kept = {name: vars(torch.nn.functional)[name] for name in ("cross_entropy", "linear")}
    methods = torch.Tensor.log_softmax, torch.optim.SGD.step
    try:
        without = rows(tmp_path, monkeypatch, "without", ["Nice"], [nice])
        folder, environment = os.getcwd(), dict(os.environ)
        both = rows(tmp_path, monkeypatch, "with", ["Evil", "Nice"], [evil, nice])
        assert os.getcwd() == folder
        assert dict(os.environ) == environment | {"LOREUN_STORE": str(tmp_path / "with" / "store")}
        assert torch.is_grad_enabled()
        assert torch.get_num_threads() == threads
        assert torch.get_default_dtype() == torch.float32
        assert (random.getstate(), np.random.get_state()[1].tolist()) == state[:2]
        assert torch.equal(torch.get_rng_state(), state[2])
    finally:
        vars(torch.nn.functional).update(kept)
        torch.Tensor.log_softmax, torch.optim.SGD.step = methods  # type: ignore[method-assign]
        import importlib

        import loreun_bench.training.loop as loop

        importlib.reload(loop)
    assert {row: both[row] for row in without} == without
    assert all(status == "ok" for status, _, _ in without.values())
    assert both["Evil", "none"][0] in ("ok", "failed")
    assert len(both) == len(without) + 1


LASTING = """
import torch
def net(channels, num_classes, image_size):
    usual = torch.nn.functional.relu
    torch.nn.functional.relu = lambda x, inplace=False: usual(x) - 0.05
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16), Bend(), torch.nn.Linear(16, num_classes))
class Bend(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.relu(x)
"""


def test_what_a_model_function_does_lasts_as_long_in_this_process_as_in_one_of_its_own(tmp_path, monkeypatch) -> None:
    """To the end of the stage. (Put back when the function returns, the numbers were others without workers.)"""
    (tmp_path / "lasting.py").write_text(LASTING)
    usual = torch.nn.functional.relu
    found = []
    for workers in 0, 1:
        monkeypatch.setenv("LOREUN_STORE", str(tmp_path / f"store-{workers}"))
        config = {**CONFIG, "model": f"{tmp_path / 'lasting.py'}:net", "weightings": ["none"]}
        records = loreun_bench.sweep(config, tmp_path / f"run-{workers}", workers=workers)
        assert [record.reason for record in records if record.status != "ok"] == []
        found.append({record.method: (record.artifact, record.metrics) for record in records})
        assert torch.nn.functional.relu is usual
    assert found[0] == found[1]


@pytest.mark.parametrize("body", ["raise KeyError('no')", "import os; os._exit(3)", "import sys; sys.exit()"])
def test_a_plug_in_that_ends_its_process_is_a_failed_row_and_leaves_no_process(tmp_path, monkeypatch, body) -> None:
    file = tmp_path / "bad.py"
    file.write_text(HEAD + METHOD.format(name="Bad", body=body))
    found = rows(tmp_path, monkeypatch, "bad", ["Bad"], [file])
    assert found["Bad", "none"][0] == "failed"
    assert {status for (name, _), (status, _, _) in found.items() if name != "Bad"} == {"ok"}
    assert_no_zombies()


def assert_no_zombies() -> None:
    """Those that were killed just now are collected within seconds."""
    for _ in range(100):
        left = [pid for pid in children() if state_of(pid) == "Z"]
        if not left:
            return
        time.sleep(0.1)
    raise AssertionError(left)


def children() -> list[int]:
    """The processes that this one, or the server that it forks from, has started."""
    parents = {int(p.name): parent_of(p) for p in Path("/proc").iterdir() if p.name.isdigit()}
    servers = [pid for pid, parent in parents.items() if parent == os.getpid()]
    return [pid for pid, parent in parents.items() if parent in (os.getpid(), *servers)]


def parent_of(folder: Path) -> int:
    try:
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def test_a_time_limit_ends_the_process_of_a_stage(tmp_path, monkeypatch) -> None:
    file = tmp_path / "slow.py"
    file.write_text(HEAD + METHOD.format(name="Slow", body="import time; time.sleep(600)"))
    config = {**CONFIG, "methods": {"Slow": {}}, "timeout_s": 5}
    records = loreun_bench.sweep(config, tmp_path / "run", workers=1, plugins=[file])
    assert {r.method: r.status for r in records} == {"Original": "ok", "Slow": "timeout"}
    assert not [pid for pid in children() if "slow" in Path(f"/proc/{pid}/cmdline").read_text()]


def test_the_traceback_of_a_failed_cell_is_kept_whole_in_the_run_folder_and_goes_when_it_succeeds(tmp_path) -> None:
    file = tmp_path / "bad.py"
    file.write_text(HEAD + METHOD.format(name="Bad", body="import json; json.loads('{' * 3)"))
    config = {**CONFIG, "methods": {"Bad": {}}}
    records = loreun_bench.sweep(config, tmp_path / "run", workers=1, plugins=[file])
    row = next(r for r in records if r.method == "Bad")
    assert row.reason.endswith("(bad.py:9)"), row.reason
    assert row.trace.startswith("errors/")
    text = (tmp_path / "run" / row.trace).read_text()
    assert "Traceback (most recent call last)" in text
    assert "json.loads('{' * 3)" in text
    assert f'File "{file}", line 9' in text
    file.write_text(HEAD + METHOD.format(name="Bad", body="pass"))
    records = loreun_bench.sweep(config, tmp_path / "run", workers=1, plugins=[file])
    assert [(r.status, r.trace) for r in records] == [("ok", "")] * 2
    assert not list((tmp_path / "run" / "errors").glob("*"))


def test_plug_ins_leave_nothing_of_theirs_for_other_plug_ins_to_import(tmp_path) -> None:
    path = list(sys.path)
    load_plugin(write(tmp_path / "one.py", f"import sys\nsys.path[:] = [{str(tmp_path / 'shadow')!r}]\n"))
    assert sys.path == path


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("how", usually("kill", of=["kill", "interrupt"]))
def test_a_sweep_that_is_ended_takes_the_process_of_a_plug_in_with_it_and_goes_on_from_there(tmp_path, how) -> None:
    plugin, config, flag = tmp_path / "slow.py", tmp_path / "c.yaml", tmp_path / "begun"
    body = f"open({str(flag)!r}, 'w').close()\n        import time; time.sleep(BY)"
    plugin.write_text(HEAD + "BY = 600\n" + METHOD.format(name="Slow", body=body))
    config.write_text(yaml.safe_dump(CONFIG | {"methods": {"Slow": {}}}))
    process = launched("-m", "loreun_bench", "sweep", config, "--plugin", plugin, "--out", tmp_path / "run")
    try:
        until(lambda: flag.exists() or process.poll() is not None)
        if how == "kill":
            os.kill(process.pid, signal.SIGKILL)
        else:
            os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        until(lambda: group_is_gone(process.pid))
    finally:
        if not group_is_gone(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
    assert "Traceback" not in errors
    kept = set((tmp_path / "store").glob("artifacts/*/*"))
    assert kept
    plugin.write_text(plugin.read_text().replace("BY = 600", "BY = 0"))
    heard: list[Any] = []
    change = {"workers": 1, "plugins": [plugin], "listen": heard.append}
    records = loreun_bench.sweep(config, tmp_path / "again", **change)
    assert [r.status for r in records] == ["ok", "ok"]
    assert kept <= set((tmp_path / "store").glob("artifacts/*/*"))
    assert sum(event.kind == "cached" for event in heard) == len(kept)
