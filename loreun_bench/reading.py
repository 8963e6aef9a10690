"""Files that come from others: how large they may be, and whatever a library says of them told as what a user can mend."""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loreun_bench.errors import UserError

PAGE = 4_000_000  # bytes of what people write: a published table, the settings of a pipeline's part
LIST = 1 << 28  # of what has a line a picture or a prompt: ImageNet's takes a fifth
INDEX = 1 << 26  # of JSON with an entry a picture, which takes many times as much in memory
LINE = 1 << 20  # of a journal, where at most 4096 are written
PIXELS = 1 << 27  # of a picture: the largest cameras have fewer
LEAST, TIMES = 1 << 30, 100  # bytes that any machine has room for, and how much better than these real data are packed


@contextlib.contextmanager
def told(where: str, hint: str = "") -> Iterator[None]:
    """Turn whatever a library raises of the content that it reads inside into a UserError between `where` and `hint`."""
    try:
        yield
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(f"{where}: it takes more memory than there is{hint}") from error
    except Exception as error:  # libraries document few of what they raise of broken bytes
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError(f"{where}: {reason or type(error).__name__}{hint}") from error


def content(path: Path, what: str, most: int = PAGE) -> bytes:
    """The bytes of a file. UserError, beginning with `what` and the path, if it cannot be read or is larger than `most`."""
    try:
        with open(path, "rb") as file:
            large = os.fstat(file.fileno()).st_size > most
            found = b"" if large else file.read(most + 1)  # a pipe has no size
    except (OSError, ValueError) as error:
        raise UserError(f"{what} {path} cannot be read: {getattr(error, 'strerror', '') or error}") from error
    if large or len(found) > most:
        raise UserError(f"{what} {path} has more than {most / 1e6:.3g} MB: it is none, or must be cut into several")
    return found


def text(path: Path, what: str, most: int = PAGE) -> str:
    """The text of a file in UTF-8, with or without a mark of it; line ends as they are. UserError as for `content`."""
    try:
        return content(path, what, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{what} {path} is not UTF-8 (byte {error.start}): save it as UTF-8") from error


def as_json(given: str | bytes, where: str) -> Any:
    """The value of JSON. UserError, beginning with `where`, if it is none, or too deep."""
    try:
        return json.loads(given)
    except RecursionError:
        raise UserError(f"{where}: no JSON (it is nested too deep)") from None
    except ValueError as error:
        raise UserError(f"{where}: no JSON ({error})") from error


def check_size(size: int, packed: int, what: str) -> None:
    """UserError for content of `size` bytes that the machine has no room for, or that is a trap: `packed` into so few."""
    if size > LEAST and size > TIMES * packed:
        raise UserError(f"{what} would unpack from {packed / 1e6:.3g} MB to {size / 1e9:.3g} GB: no real data are packed so")
    if size > memory():
        raise UserError(f"{what} takes {size / 1e9:.3g} GB, this machine has {memory() / 1e9:.3g} GB of memory")


def check_zip(path: Path, what: str) -> None:
    """UserError for a zip file (an .npz, a .pt) whose parts are too large unpacked; whatever is no zip passes."""
    with told(what):
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as file:
            size = sum(each.file_size for each in file.infolist())
        check_size(size, path.stat().st_size, what)


def memory() -> int:
    """Bytes of memory of this machine."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return 1 << 40
