"""Hears of what the code in this process imports, opens and asks for, and tells the watch what of it is for the user's.

Most is told by Python's audit events; `asked` and `openers` tell the rest.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from loreun_bench.harness.watch import Watch
from loreun_bench.plugins import PACKAGE, in_own_process, is_users

ASKED = ("access", "stat", "variable", "variables", "variable set", "not found")  # what no audit event tells of
LISTED = ("os.listdir", "os.scandir")
NAMED = {"os.rename": 1, "os.link": 1, "os.symlink": 1, "os.mkdir": 0}  # what makes a name, and where that stands
HEARD = frozenset((*ASKED, *LISTED, *NAMED, "open", "import", "ctypes.dlopen", "sqlite3.connect"))
WORK = str(PACKAGE / "harness" / "work.py")  # whose frame is the lowest that counts
TELLING = tuple(str(PACKAGE / "harness" / name) for name in ("asked.py", "openers.py", "watching.py"))  # which do not
FINDERS = ("importlib", "pkgutil", "<frozen importlib")  # which list folders to find modules
PASSING = frozenset((  # modules that ask on behalf of who calls them
    "os", "posixpath", "ntpath", "genericpath", "pathlib", "glob", "string", "collections", "_collections_abc", "importlib",
    "decouple", "environs", "omegaconf",
))  # fmt: skip
QUIET = frozenset(("realpath", "_joinrealpath", "resolve", "mkdir", "makedirs"))  # which look for reasons of their own
ASKING = frozenset(("exists", "_exists", "lexists", "isfile", "isdir", "islink", "is_file", "is_dir", "is_symlink"))

_watch: Watch | None = None
_hooked = False
_busy = threading.local()


def begin(plugins: tuple[Path, ...], log: Path) -> Watch:
    """Watch from now on what the user's code reads. log: a place for a file that processes of the stage's own write to."""
    global _watch, _hooked
    if not _hooked:
        sys.addaudithook(_hear)  # which cannot be taken out: it hears nothing while nobody watches
        _hooked = True
    _watch = Watch(plugins, log)
    return _watch


@contextlib.contextmanager
def watched(plugins: tuple[Path, ...], log: Path) -> Iterator[Watch]:
    """Watch what the user's code reads inside."""
    global _watch
    try:
        yield begin(plugins, log)
    finally:
        _watch = None


def reads(path: Any) -> None:
    """Say that a library is about to open a file below Python."""
    _hear("open", (path, "rb", os.O_RDONLY))


def writes(path: Any) -> None:
    """Say that a library is about to write a file below Python."""
    _hear("open", (path, "wb", os.O_WRONLY | os.O_TRUNC))


def asks(event: str, *args: Any) -> None:
    """Say one of ASKED."""
    if _watch is not None:
        _hear(event, args)


def _hear(event: str, args: tuple[Any, ...]) -> None:
    if _watch is None or event not in HEARD or getattr(_busy, "now", False):
        return
    _busy.now = True
    try:
        with contextlib.suppress(OSError, ValueError, TypeError):  # a hook must not fail what it listens to
            (_note_asked if event in ASKED else _note)(_watch, event, args, sys._getframe(1))
    finally:
        _busy.now = False


def _note(watch: Watch, event: str, args: tuple[Any, ...], caller: FrameType) -> None:
    itself = _by_user(caller)
    if itself is None:
        return
    if event == "open":
        watch.opened(args[0], args[2] if isinstance(args[2], int) else 0, itself)
    elif event == "import" and args[1]:  # an extension module
        watch.opened(args[1], itself=itself)
    elif event == "ctypes.dlopen" and os.path.dirname(args[0] or ""):  # else the system's loader finds it
        watch.opened(args[0], itself=itself)
    elif event == "sqlite3.connect":
        file, uri = _database(args[0])
        if file and not uri and not os.path.exists(file):
            watch.made(file, itself)
        watch.opened(file, itself=itself, at_once=True)
    elif event in NAMED:
        watch.made(args[NAMED[event]], itself)
    elif event in LISTED and not any(each in caller.f_code.co_filename for each in FINDERS):
        watch.listed(args[0], itself)


def _note_asked(watch: Watch, event: str, args: tuple[Any, ...], caller: FrameType) -> None:
    frame, by = _asker(caller)
    file = frame.f_code.co_filename if frame is not None else WORK
    if event == "variable set" and not file.startswith(str(PACKAGE)):
        watch.variable_set(*args)
    if not is_users(file) or by & QUIET:
        return
    if event in ("access", "stat"):
        watch.asked(*args)
        if event == "stat" and not by & ASKING and os.path.exists(args[0]):  # its size or times, too
            watch.opened(*args)
    elif event == "variable":
        watch.variable(*args)
    elif event == "variables":
        watch.variables()
    elif event == "not found":
        watch.not_found(*args)


def _asker(frame: FrameType | None) -> tuple[FrameType | None, set[str]]:
    """The frame on whose behalf something is asked, and the functions between."""
    by = set()
    while frame is not None:
        module = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if module not in PASSING and frame.f_code.co_filename not in TELLING:
            break
        by.add(frame.f_code.co_name)
        frame = frame.f_back
    return frame, by


def _by_user(frame: FrameType | None) -> bool | None:
    """Whether the user's code opens it itself, or ours on behalf of theirs (False); None if theirs is not on the stack
    above the stage's own frame. In a thread of a library, what is not ours may be theirs."""
    ours = False
    while frame is not None:
        file = frame.f_code.co_filename
        if file == WORK:
            return None
        if is_users(file):
            return not ours
        ours = ours or (file.startswith(str(PACKAGE)) and file not in TELLING)
        frame = frame.f_back
    return False if in_own_process() and not ours and threading.current_thread() is not threading.main_thread() else None


def _database(name: Any) -> tuple[str | None, bool]:
    """The file of an SQLite database, None if it is in memory; and whether it was given as a URI."""
    text = os.fsdecode(name)
    if uri := text.startswith("file:"):
        parts = urllib.parse.urlsplit(text)
        text = "" if "mode=memory" in parts.query else urllib.parse.unquote(parts.path)
    return None if text in ("", ":memory:") else text, uri
