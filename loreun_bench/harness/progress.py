"""How far a stage is, from inside it to whoever watches: one number in a small file beside the store.

A file, as every engine has the store in common and none has more.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

EVERY = 1.0  # seconds between two writes

_file = ""
_written = 0.0


def report(share: float) -> None:
    """Say that `share` (0 to 1) of the stage under way is done. Cheap enough for every step; outside a stage nothing."""
    global _written
    if not _file or time.monotonic() - _written < EVERY:
        return
    _written = time.monotonic()
    path = Path(_file)
    with contextlib.suppress(OSError):  # a full disk is for the stage to complain about
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{share:.4f}")


@contextlib.contextmanager
def told_in(file: str) -> Iterator[None]:
    """What is reported inside goes to `file`, which is gone afterwards."""
    global _file
    _file = file
    try:
        yield
    finally:
        _file = ""
        with contextlib.suppress(OSError):  # most stages are too short to have said anything
            os.unlink(file)


def read(file: str) -> float:
    """The share done that was last reported; 0 if nothing was."""
    try:
        return float(Path(file).read_text())
    except (OSError, ValueError):
        return 0.0
