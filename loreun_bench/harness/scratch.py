"""A folder for the temporary files of a sweep's processes. One whose process was killed is removed by the next.

Whose process lives is told by a lock, which the system takes back with the process.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path
from typing import IO

PREFIX, LOCK = "loreun-", ".lock"
LONGEST = 74  # characters of its path: a socket's, which lies below it, may have 107
LAST = -1000  # after multiprocessing has removed what it has there
_held: list[IO[str]] = []


@cache
def folder() -> Path:
    """This process's own, which goes with it."""
    for other in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if (lock := _free(other / LOCK)) is not None:
            shutil.rmtree(other, ignore_errors=True)
            lock.close()
    own = Path(tempfile.mkdtemp(prefix=PREFIX))
    (own / LOCK).touch()
    if (lock := _free(own / LOCK)) is not None:
        _held.append(lock)
    Finalize(None, shutil.rmtree, (own, True), exitpriority=LAST)
    return own


@contextlib.contextmanager
def used() -> Iterator[None]:
    """Temporary files made inside, such as multiprocessing's own folder, lie there."""
    before = tempfile.tempdir
    if len(str(folder())) <= LONGEST:
        tempfile.tempdir = str(folder())
    try:
        yield
    finally:
        tempfile.tempdir = before


def _free(path: Path) -> IO[str] | None:
    """The file, locked, if it is there and nobody holds it. Without fcntl (Windows) it is always held."""
    try:
        import fcntl

        file = open(path, "r+")  # noqa: SIM115
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
