"""Folders that cannot be written: one line that names the folder, and the sweep goes on when they can."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("full", [False, True])
def test_the_store_is_read_only(sweep, full, undisturbed):
    if full:
        assert sweep.run().code == 0
    kept = sweep.artifacts
    sweep.box.freeze(sweep.store)
    ended = sweep.run()
    assert ended.code == 2
    assert ended.error.startswith(f"error: {sweep.store}/tmp")
    assert "Read-only file system: what is finished is kept; mend this and run the same command again" in ended.error
    sweep.box.freeze(sweep.store, False)
    assert sweep.run().code == 0
    assert kept.items() <= sweep.artifacts.items()
    assert sweep.finished(undisturbed)


def test_the_run_folder_is_read_only(sweep, undisturbed):
    sweep.box.freeze(sweep.out)
    ended = sweep.run()
    assert ended.code == 2
    assert "cannot write or read the folders of this sweep: Read-only file system" in ended.error
    sweep.box.freeze(sweep.out, False)
    assert sweep.run().code == 0
    assert sweep.finished(undisturbed)


def test_a_finished_run_folder_is_read_only(sweep, undisturbed):
    assert sweep.run().code == 0
    sweep.box.freeze(sweep.out)
    ended = sweep.run()
    assert ended.code == 2
    assert ended.error.startswith(f"error: {sweep.out}/records.jsonl: Read-only file system: what is finished is kept")
    assert sweep.finished(undisturbed)


def test_a_table_of_a_read_only_folder_is_shown(sweep):
    assert sweep.run().code == 0
    sweep.box.freeze(sweep.out)
    sweep.box.freeze(sweep.store)
    assert sweep.box.run("leaderboard", sweep.out).code == 0
    assert sweep.box.run("plan", sweep.config).code == 0
