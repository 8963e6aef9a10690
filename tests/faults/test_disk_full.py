"""A disk that is full at each write in turn: one line, nothing lost that was finished, and the same command goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

PAGE = 4  # KiB, by which a small file system grows


def grown(sweep, folder, *words):
    """Runs of the sweep, each with a page more in `folder`, until one has room enough: how the others ended."""
    size, kept, failed = PAGE, {}, []
    sweep.box.mount(folder, f"{size}k")
    while (ended := sweep.run("--workers", 0, *words)).code:
        assert kept.items() <= sweep.artifacts.items(), "what was finished was made again"
        assert not list(sweep.box.inside(sweep.store).glob("leases/[!.]*"))
        failed.append(ended)
        kept, size = sweep.artifacts, size + PAGE
        sweep.box.mount(folder, f"{size}k", again=True)
    assert kept.items() <= sweep.artifacts.items()
    return failed


def test_the_store_fills_at_every_page(sweep, undisturbed):
    failed = grown(sweep, sweep.store, "--set", "methods=[Retrain]")
    assert len(failed) > 15
    for ended in failed:
        assert ended.code == 1
        assert ended.error.startswith("error: no space left ")
        assert str(sweep.store) in ended.error
        assert ended.error.endswith(": free some and run the same command again")
    assert sweep.metrics.items() <= undisturbed.metrics.items()


def test_the_run_folder_fills_at_every_page(sweep, undisturbed):
    journal, *others = grown(sweep, sweep.out)
    assert journal.error == f"error: no space left for {sweep.out}/records.jsonl: free some and run the same command again"
    assert others[-1].error.startswith(f"error: No space left on device: {sweep.out}/leaderboard.md; free some")
    assert all(ended.code == 1 for ended in others)
    assert sweep.finished(undisturbed)


def test_the_run_folder_has_no_room_at_all(sweep, undisturbed):
    ballast = sweep.fill(sweep.out)
    ended = sweep.run()
    assert ended.code == 2
    assert "cannot write or read the folders of this sweep: No space left on device" in ended.error
    ballast.unlink()
    sweep.box.mount(sweep.out, "1m", again=True)
    assert sweep.run().code == 0
    assert sweep.finished(undisturbed)


@pytest.mark.parametrize("files", [2, 3])
def test_there_is_no_room_for_temporary_files(sweep, files, undisturbed):
    folder = sweep.folder / "t"
    sweep.box.mount(folder, f"1m,nr_inodes={files}")
    sweep.box.env["TMPDIR"] = str(folder)
    ended = sweep.run("--workers", 1)
    assert ended.code == 1
    assert ended.error.startswith(f"error: No space left on device: {folder}/")
    assert "free some and run the same command again" in ended.error
    assert sweep.run().code == 0
    assert sweep.finished(undisturbed)


def test_there_is_no_shared_memory(sweep, undisturbed):
    sweep.box.mount(Path("/dev/shm"), "1m,nr_inodes=1")
    ended = sweep.run("--workers", 1)
    assert ended.code == 1
    assert "no worker process starts: No space left on device (/dev/shm and" in ended.error
    assert sweep.run().code == 0
    assert sweep.finished(undisturbed)
