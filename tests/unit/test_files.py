"""Pins that a file is whole or absent whatever stops the writer, that hashes are SHA-256, and that a lock excludes."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from loreun_bench.harness import files
from loreun_bench.harness.files import locked, sha256_file, write_atomic


def raiser(error: BaseException) -> Any:
    """A function that raises `error` however it is called."""

    def call(*_: Any, **__: Any) -> None:
        raise error

    return call


def test_write_atomic_creates_folders_and_writes_text_as_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.txt"
    write_atomic(path, "η = 0.1\n")
    assert path.read_bytes() == "η = 0.1\n".encode()


def test_write_atomic_replaces_the_old_content_with_exact_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"a long old content")
    write_atomic(path, b"\r\n\x00\xff")
    assert path.read_bytes() == b"\r\n\x00\xff"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_write_atomic_syncs_the_bytes_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, calls = tmp_path / "file.txt", []
    sync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(f"sync {os.fstat(fd).st_size}"), sync(fd)))
    monkeypatch.setattr(os, "replace", lambda *names: (calls.append("rename"), rename(*names)))
    write_atomic(path, b"12345")
    assert calls[:2] == ["sync 5", "rename"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["OSError", "Ctrl-C"])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_keeps_the_old_content_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    monkeypatch.setattr(os, step, raiser(error))
    with pytest.raises(type(error)):
        write_atomic(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_a_failed_first_write_leaves_the_file_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "sync", raiser(OSError(5, "Input/output error")))
    with pytest.raises(OSError, match="Input/output"):
        write_atomic(tmp_path / "file.txt", "new")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1])
def test_sha256_file_hashes_every_byte_whatever_the_block_size(tmp_path: Path, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    path = tmp_path / "file.bin"
    path.write_bytes(content)
    assert sha256_file(path) == hashlib.sha256(content).hexdigest()


def test_a_second_holder_of_a_lock_waits_for_the_first(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    order: list[str] = []
    trying = threading.Event()

    def second() -> None:
        trying.set()
        with locked(tmp_path / "lock"):
            order.append("second")

    thread = threading.Thread(target=second, daemon=True)
    with locked(tmp_path / "lock"):
        thread.start()
        trying.wait(30)
        thread.join(0.2)  # gives a lock that does not exclude the time to show it
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]


def test_a_lock_is_released_when_its_block_raises(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    with pytest.raises(ValueError, match="inside"), locked(tmp_path / "lock"):
        raise ValueError("inside")
    with open(tmp_path / "lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
