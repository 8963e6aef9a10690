"""Workers that never end, whatever they are told: a row at the time limit, and nothing of theirs stays alive.

A process in uninterruptible sleep cannot be had on demand. Nearest to it: stopped ones, which act on no signal but SIGKILL.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import stat_of, until, usually

DEAF = """
        import signal, subprocess
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        pids = [os.getpid()]
"""
HANG = {
    "ignores signals": DEAF,
    "stops itself": DEAF + "        then = lambda: os.kill(os.getpid(), signal.SIGSTOP)\n",
    "stops its guard": DEAF + "        then = lambda: os.kill(os.getppid(), signal.SIGSTOP)\n",
    "children of children": DEAF + """
        script = "trap '' TERM INT HUP; sleep 1000 & echo $! $$; kill -STOP $$; sleep 1000"
        child = subprocess.Popen(["sh", "-c", script], start_new_session=True, stdout=subprocess.PIPE)
        pids += [child.pid, *map(int, child.stdout.readline().split())]
""",
}
TELL = """
        import pathlib, time
        pathlib.Path(os.environ["TOLD"]).write_text(" ".join(map(str, pids)))
        locals().get("then", int)()
        while True:
            time.sleep(1)
"""


@pytest.mark.parametrize("how", usually("stops its guard", "children of children", of=HANG))
def test_a_worker_that_hangs_is_a_row_and_leaves_nothing(here, how, tmp_path, monkeypatch, undisturbed):
    monkeypatch.setenv("TOLD", str(tmp_path / "pids"))
    ended = here.run(HANG[how] + TELL, "--set", "timeout_s=4")
    assert ended.code == 1
    assert ended.error == "timeout: random-20% seed 0 Own: ran longer than timeout_s = 4"
    assert here.own.status == "timeout"
    assert here.others == undisturbed.metrics
    for pid in (tmp_path / "pids").read_text().split():
        until(lambda stat=Path(f"/proc/{pid}/stat"): (stat_of(stat) or "X")[0] in "ZX")
