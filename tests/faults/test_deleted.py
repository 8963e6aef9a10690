"""Folders that are deleted, between two runs and under a running one."""

from __future__ import annotations

import shutil
import time

import pytest
from boxes import LIMIT


def under_way(sweep, artifacts):
    """The sweep's process, once so many artifacts are there."""
    pid, end = sweep.start(), time.monotonic() + LIMIT
    while len(sweep.artifacts) < artifacts:
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.001)
    return pid


def test_a_deleted_store_is_filled_again(sweep, undisturbed):
    assert sweep.run().code == 0
    shutil.rmtree(sweep.store)
    assert sweep.run().code == 0
    assert len(sweep.artifacts) == len(undisturbed.artifacts)
    assert sweep.finished(undisturbed)


@pytest.mark.parametrize("artifacts", range(1, 10, 2))
def test_the_store_is_deleted_under_a_running_sweep(sweep, artifacts, undisturbed):
    pid = under_way(sweep, artifacts)
    shutil.rmtree(sweep.store, ignore_errors=True)
    ended = sweep.box.ended(pid)
    assert ended.code in (0, 1)
    if ended.code:
        assert "run the sweep again" in ended.error
        assert sweep.run().code == 0
    assert sweep.finished(undisturbed)


@pytest.mark.parametrize("artifacts", [1, 5, 9])
def test_the_run_folder_is_deleted_under_a_running_sweep(sweep, artifacts, undisturbed):
    pid = under_way(sweep, artifacts)
    shutil.rmtree(sweep.out, ignore_errors=True)
    ended = sweep.box.ended(pid)
    assert ended.code == 0, ended.err
    assert sweep.finished(undisturbed)
    assert sweep.run().code == 0
    assert sweep.finished(undisturbed)


def test_the_data_are_deleted(sweep, tmp_path, undisturbed):
    sweep.box.env["LOREUN_DATA"] = str(tmp_path / "data")
    assert sweep.run().code == 0
    shutil.rmtree(tmp_path / "data")
    shutil.rmtree(sweep.store)
    assert sweep.run().code == 0
    assert sweep.finished(undisturbed)
