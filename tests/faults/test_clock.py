"""A clock that is set back a year in the middle of a sweep."""

from __future__ import annotations

import os

from helpers import LIMIT, launched

JUMP = """
import os, time

now, year = time.time, 365 * 24 * 3600

def set_back():
    try:
        finished = any(os.scandir(os.environ["LOREUN_STORE"] + "/artifacts"))
    except OSError:
        finished = False
    return now() - year * finished

time.time = set_back
time.time_ns = lambda: int(set_back() * 10**9)
"""


def test_a_clock_set_back_a_year_changes_nothing(sweep, tmp_path, undisturbed):
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(JUMP)
    words = ["-m", "loreun_bench", "sweep", sweep.config, "--out", sweep.out, "--workers", 1]
    path = os.pathsep.join(filter(None, [str(tmp_path / "hook"), os.environ.get("PYTHONPATH")]))
    process = launched(*words, **sweep.box.env, PYTHONPATH=path, OMP_NUM_THREADS="1")
    _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, errors
    assert sweep.finished(undisturbed)
    kept = sweep.artifacts
    assert sweep.run().code == 0
    assert sweep.artifacts == kept


def test_files_from_the_future_change_nothing(sweep, undisturbed):
    assert sweep.run().code == 0
    for path in [*sweep.store.rglob("*"), *sweep.out.iterdir()]:
        os.utime(path, (2**32, 2**32))
    kept = sweep.artifacts
    assert sweep.run().code == 0
    assert sweep.artifacts == kept
    assert sweep.finished(undisturbed)
