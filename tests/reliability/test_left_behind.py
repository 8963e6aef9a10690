"""Pins that a stage of the user's leaves no process and no file, however it or the sweep ends, and can end no other row."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import launched, until, usually
from test_engine import outcome, task
from test_own_process import CONFIG, HEAD, METHOD, NICE, rows

import loreun_bench
from loreun_bench.harness import scratch
from loreun_bench.harness.engines.local import LocalEngine
from loreun_bench.harness.files import write_atomic
from loreun_bench.harness.leases import Leases
from loreun_bench.harness.store import Store

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: guards of processes")

CHILDREN = """
import os, subprocess, sys, tempfile, time
def start(folder):
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    def note(name, pid):
        open(os.path.join(folder, name + ".pid.part"), "w").write(str(pid))
        os.rename(os.path.join(folder, name + ".pid.part"), os.path.join(folder, name + ".pid"))
    note("child", subprocess.Popen(sleep).pid)
    note("session", subprocess.Popen(sleep, start_new_session=True).pid)
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            note("daemon", os.getpid())
            time.sleep(600)
        os._exit(0)
    os.wait()
    open(os.path.join(folder, "temporary"), "w").write(tempfile.mkdtemp())
    while len([name for name in os.listdir(folder) if name.endswith(".pid")]) < 3:
        time.sleep(0.01)
"""
HOLDS = "kill while it holds the interpreter"
ENDS = {"done": "pass", "raises": "raise KeyError", "exits": "os._exit(3)", "killed": "os.kill(os.getpid(), 9)"}


def plugin(folder: Path, name: str, body: str, more: str = "") -> Path:
    path = folder / f"{name}.py"
    path.write_text(HEAD + more + METHOD.format(name=name, body=body))
    return path


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def started(folder: Path) -> list[int]:
    found = [int(path.read_text()) for path in folder.glob("*.pid")]
    assert len(found) == 3
    return found


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder for temporary files, with a path as short as they have: sockets lie there."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def nothing_is_left(folder: Path) -> None:
    pids = started(folder)
    until(lambda: not any(alive(pid) for pid in pids))
    until(lambda: not Path((folder / "temporary").read_text()).exists())


@pytest.mark.parametrize("end", usually(*ENDS, of=[*ENDS, "timeout"]))
def test_what_a_stage_has_started_ends_with_it(tmp_path: Path, end: str) -> None:
    then = ENDS.get(end, "time.sleep(600)")
    file = plugin(tmp_path, "Parent", f"start({str(tmp_path)!r}); {then}", CHILDREN)
    change = CONFIG | {"methods": {"Parent": {}}, "timeout_s": 20 if end == "timeout" else None}
    records = loreun_bench.sweep(change, tmp_path / "run", workers=1, plugins=[file])
    status = {"done": "ok", "timeout": "timeout"}.get(end, "failed")
    assert {r.method: r.status for r in records} == {"Original": "ok", "Parent": status}
    nothing_is_left(tmp_path)


@pytest.mark.parametrize("how", usually(HOLDS, of=["kill", HOLDS, "interrupt"]))
def test_what_a_stage_has_started_ends_with_the_sweep_and_the_next_removes_what_is_left(
    tmp_path: Path, short: Path, how: str
) -> None:
    """A process of the user's may not come to notice that the sweep is gone: its guard does."""
    busy = "import re; re.match('(a+)+$', 'a' * 64 + 'b')" if how == HOLDS else "time.sleep(600)"
    begun = tmp_path / "begun"
    file = plugin(tmp_path, "Parent", f"start({str(tmp_path)!r}); open({str(begun)!r}, 'w').close(); {busy}", CHILDREN)
    config, temporary = tmp_path / "c.yaml", short
    config.write_text(yaml.safe_dump(CONFIG | {"methods": {"Parent": {}}}))
    words = "-m", "loreun_bench", "sweep", config, "--plugin", file, "--out", tmp_path / "run"
    process = launched(*words, TMPDIR=str(temporary))
    until(lambda: begun.exists() or process.poll() is not None)
    if how == "interrupt":
        os.killpg(process.pid, signal.SIGINT)
    else:
        os.kill(process.pid, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    nothing_is_left(tmp_path)
    store = tmp_path / "store" / "tmp"
    (store / "0123.share").write_text("0.5")
    (store / "abcd").mkdir()
    write_atomic(store.parent / "used" / "01" / ".0123.json.abcd", "[]")
    plugin(tmp_path, "Parent", "pass")
    environment = os.environ | {"TMPDIR": str(temporary)}
    subprocess.run([sys.executable, *map(str, words)], env=environment, check=True, capture_output=True)
    assert not list(store.iterdir())
    assert not list(store.parent.glob("used/*/.*"))
    assert [path.name for path in temporary.iterdir() if path.name.startswith(("pymp", "loreun"))] == []


def test_what_a_living_sweep_has_half_written_stays(tmp_path: Path) -> None:
    other = (
        "from pathlib import Path\nfrom loreun_bench.harness import scratch\n"
        "from loreun_bench.harness.leases import Leases\nfrom loreun_bench.harness.store import Store\n"
        f"scratch.folder()\nwith Leases(Store(Path({str(tmp_path / 'store')!r}))): pass"
    )
    with Leases(Store(tmp_path / "store")) as leases:
        theirs = leases.store.tmp / "theirs"
        theirs.mkdir()
        own = scratch.folder()
        subprocess.run([sys.executable, "-c", other], check=True)
        assert theirs.is_dir()
        assert own.is_dir()
    assert not theirs.exists()
    theirs.mkdir(parents=True)  # of a sweep that is dead
    subprocess.run([sys.executable, "-c", other], check=True)
    assert not theirs.parent.exists()


NAMES = """
import os
from pathlib import Path
def parent(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
def kill(pids):
    for pid in pids:
        try:
            os.kill(pid, 9)
        except OSError:
            pass
def below(pid):
    found = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [each for each in found if parent(each) == pid]
"""
KILLS = {
    "its parent": "os.kill(os.getppid(), 9)",
    "its group": "os.killpg(0, 9)",
    "the server": "os.kill(parent(os.getppid()), 9)",
    "the server's children": "kill(set(below(parent(os.getppid()))) - {os.getppid()})",
    "the other rows'": "kill({one for each in below(parent(os.getppid())) for one in below(each)} - {os.getpid()})",
}


WAYS = [*((what, 3) for what in KILLS), ("the server", 1), ("the server's children", 1)]


@pytest.mark.parametrize(("what", "workers"), usually(WAYS[-1], of=WAYS))
def test_a_plug_in_that_kills_others_changes_no_row_but_its_own(
    tmp_path: Path, monkeypatch: Any, what: str, workers: int
) -> None:
    """With several workers it kills when the others are under way, with one while they wait."""
    flag = tmp_path / "begun"
    wait = (
        "import time\n        end = time.time() + 3\n"
        f"        while not os.path.exists({str(flag)!r}) and time.time() < end: time.sleep(0.01)"
    )
    evil = plugin(tmp_path, "Evil", f"{wait}\n        {KILLS[what]}\n        time.sleep(1)", NAMES)
    slow = f"open({str(flag)!r}, 'w').close()\n        import time; time.sleep(0.5)\n        {NICE}"
    nice = plugin(tmp_path, "Nice", slow)
    found = {}
    for name, methods, files in (("without", ["Nice"], [nice]), ("with", ["Evil", "Nice"], [evil, nice])):
        flag.unlink(missing_ok=True)
        found[name] = rows(tmp_path, monkeypatch, name, methods, files, workers)
    assert {row: found["with"][row] for row in found["without"]} == found["without"]
    assert all(status == "ok" for status, _, _ in found["without"].values())
    expected = "ok" if "'" in what else "failed"
    assert found["with"]["Evil", "none"][0] == expected, [p.read_text() for p in tmp_path.glob("with/run/errors/*")]


def test_after_a_death_processes_come_of_a_new_server(tmp_path: Path) -> None:
    """The old one may be about to die: it takes a connection, and starts nothing. Here it is stopped."""
    engine, found = LocalEngine(1), []
    try:
        assert outcome(engine, task(tmp_path, "dies")).status == "failed"
        server: Any = forkserver._forkserver
        old = server._forkserver_pid
        os.kill(old, signal.SIGSTOP)
        run = threading.Thread(target=lambda: found.append(outcome(engine, task(tmp_path, "ok")).status), daemon=True)
        run.start()
        run.join(60)
        assert found == ["ok"]
    finally:
        if not found:
            os.kill(old, signal.SIGKILL)
        engine.close()


@pytest.mark.slow
def test_the_sweep_goes_on_when_the_server_dies_between_two_stages(tmp_path: Path, monkeypatch: Any) -> None:
    nice = plugin(tmp_path, "Nice", NICE)
    first = rows(tmp_path, monkeypatch, "first", ["Nice"], [nice])
    server: Any = forkserver._forkserver
    os.kill(server._forkserver_pid, signal.SIGKILL)
    assert rows(tmp_path, monkeypatch, "second", ["Nice"], [nice]) == first
