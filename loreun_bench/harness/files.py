"""Files that are either whole or absent: written beside their place, synced to disk, then renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from loreun_bench.errors import UserError

CHECK = "check"  # the key of a checksum, which what was written before has not
_OPENING, _DIGITS = f'{{"{CHECK}": "', 12
_SEAL = len(_OPENING) + _DIGITS + len('", ')  # bytes
_LOSSES = 20  # of a folder, as it is written to: whoever deletes one goes over it once
_sorted = json.JSONEncoder(sort_keys=True).encode  # `dumps` makes an encoder for each call


Given = TypeVar("Given")


def in_folder(folder: Path | str, write: Callable[[], Given]) -> Given:
    """What `write` gives, which writes into `folder`: that is made if missing, and again if somebody deletes it."""
    for _ in range(_LOSSES):
        try:
            return write()
        except FileNotFoundError:
            with contextlib.suppress(FileNotFoundError):
                _make(folder)
    return write()


def _make(folder: Path | str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
    except FileExistsError as error:  # a link to nowhere; what `write` makes may exist, too, and that says something else
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from error


def write_atomic(path: Path, content: str | bytes) -> None:
    """Put `content` at `path`, whose folder is made, so that a reader, or a crash, never sees half of it."""
    in_folder(path.parent, lambda: _write_whole(path, content))
    sync_folder(path.parent)


def _write_whole(path: Path, content: str | bytes) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with named(path), open(temporary, "xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            sync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """What cannot be written inside says so by the name that the user knows: a full disk says none."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


@contextlib.contextmanager
def written(path: Path) -> Iterator[None]:
    """Turn what keeps the user's own `path` from being written inside into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): give another place") from error


def sync(descriptor: int) -> None:
    """Force a file's bytes to disk."""
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to disk, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sealed(values: Mapping[str, Any]) -> bytes:
    """Values, of which there is one at least, as a line of JSON that begins with a checksum of the rest."""
    text = _sorted(values).encode()
    return f'{_OPENING}{_checksum(text)}", '.encode() + text[1:]


def unsealed(line: bytes) -> Any:
    """What `sealed` was given, or what JSON without a checksum says. ValueError if it is damaged."""
    found = json.loads(line)
    check = found.pop(CHECK, None) if isinstance(found, dict) else None
    whole = check in (None, _checksum(b"{" + line[_SEAL:]))
    if not whole and check != _checksum(_sorted(found).encode()):  # it once stood among the other keys
        raise ValueError("its checksum is another")
    return found


def _checksum(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:_DIGITS]


def sha256_file(path: Path | str) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 16), b""):  # a longer one is memory that is mapped anew for each
            digest.update(block)
    return digest.hexdigest()


def unchanged(files: Mapping[str, str]) -> None:
    """UserError if a file {path: SHA-256} that a sweep was planned with is another by now."""
    for path, sha256 in files.items():
        if not Path(path).is_file() or _hashed(path, *stamp(Path(path))) != sha256:
            raise UserError(f"{path} changed since this sweep was planned: run the command again")


def stamp(path: Path) -> tuple[int, int]:
    """What of a file changes when it is written, without reading it: the time in ns, and its bytes."""
    about = path.stat()
    return about.st_mtime_ns, about.st_size


@lru_cache(maxsize=64)
def _hashed(path: str, *_: int) -> str:
    return sha256_file(path)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file at `path`; blocks while another process holds it. Without fcntl (Windows) it holds nothing. Makes
    its folder."""
    descriptor = in_folder(path.parent, lambda: os.open(path, os.O_WRONLY | os.O_CREAT, 0o666))
    try:
        with contextlib.suppress(ImportError):
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
