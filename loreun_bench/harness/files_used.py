"""What of the user's a stage imported or opened: names that hold in a copy of the project, too, and their hashes.

A name is a path from the folder of one of the stage's plug-in files (`0:nets/tiny.py`), from the working directory
(`cwd:data.csv`), or absolute. With one that a copy of the project would give to the original's file stands WHERE, a hash
of the place. A name that ends in / is a folder that was listed; one with a * is what a plug-in declares.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from loreun_bench.harness.files import sha256_file
from loreun_bench.harness.stage import Stage, code_digest, digest
from loreun_bench.plugins import signature

WHERE = "where"
CWD = "cwd:"
Hashes = Mapping[str, str | None]


def name_of(path: str, given: str, plugins: Sequence[Path]) -> tuple[str, bool]:
    """The name of the absolute `path`, which was opened as `given`, and whether it holds at this place only."""
    if not os.path.isabs(given):
        return CWD + os.path.normpath(given), False
    for number, folder in enumerate(_folders(plugins)):
        for each in (path, os.path.realpath(path)):
            if each.startswith(folder + os.sep):
                return f"{number}:{os.path.relpath(each, folder)}", False
    if path.startswith(os.getcwd() + os.sep):
        return CWD + os.path.relpath(path), True
    return path, True


def place(names: Iterable[str], plugins: Sequence[Path]) -> str:
    """Where the plug-ins lie: absolute if one of the names is, else from the working directory."""
    folders = _folders(plugins)
    absolute = any(os.path.isabs(name) for name in names)
    return digest(list(folders) if absolute else [os.path.relpath(folder) for folder in folders])


def now(names: Iterable[str], plugins: Sequence[Path]) -> dict[str, str | None]:
    """The hashes that the names have now; None for a file that is not there."""
    names = list(names)
    return {n: place(names, plugins) if n == WHERE else content(path_of(n, plugins)) for n in names}


def path_of(name: str, plugins: Sequence[Path]) -> str:
    """Where the file of a name lies now."""
    head, found, rest = name.partition(":")
    if name.startswith(CWD):
        return os.path.abspath(rest) + (os.sep if name.endswith("/") else "")
    folders = _folders(plugins)
    if found and head.isdigit() and int(head) < len(folders):
        return os.path.join(folders[int(head)], rest)
    return name


def content(path: str) -> str | None:
    """The hash of a file: of its code for a .py, of its bytes otherwise; of the names in a folder; None if there is none."""
    if path.endswith("/"):
        return listing(path)
    if glob.has_magic(path) and not os.path.exists(path):
        return digest({each: content(each) for each in sorted(glob.glob(path, recursive=True)) if os.path.isfile(each)})
    found = signature(path)
    return _content(path, found) if found is not None and os.path.isfile(path) else None


@cache
def _content(path: str, _: tuple[int, ...]) -> str | None:
    with contextlib.suppress(OSError):
        if path.endswith(".py"):
            with contextlib.suppress(SyntaxError, ValueError):
                return code_digest(Path(path))
        return sha256_file(Path(path))
    return None


def listing(path: str) -> str | None:
    """The hash of the names in a folder, but for hidden ones and Python's own."""
    try:
        names = sorted(name for name in os.listdir(path) if not name.startswith(".") and name != "__pycache__")
    except OSError:
        return None
    return hashlib.sha256("\0".join(names).encode(errors="surrogateescape")).hexdigest()


def unstable() -> str:
    """In place of the hash of what changed while it was read: no later look finds the same."""
    return f"changed {uuid.uuid4().hex}"


def key_with(base: str, hashes: Hashes) -> str:
    """The key of an artifact: its stage's own, and what it used of the user's."""
    return digest({"stage": base, "files": dict(hashes)}) if hashes else base


def changed(before: Hashes, after: Hashes) -> tuple[str, ...]:
    """In words, which files are others than they were."""
    names = [name for name in before if before[name] != after.get(name)]
    told = {WHERE: "the project's folder"}
    return tuple(f"{told.get(name, plain(name))} {_verb(before[name], after.get(name))}" for name in names)


def _verb(before: str | None, after: str | None) -> str:
    return "is new" if before is None else "is gone" if after is None else "changed"


def plain(name: str) -> str:
    """A name as the user would write it."""
    head, found, rest = name.partition(":")
    return rest if found and (head.isdigit() or head == "cwd") else name


def plugin_digests(stage: Stage) -> dict[str, str]:
    """The code of a stage's plug-in files, as it is now; nothing for one that cannot be read."""
    found = {}
    for path in stage.plugins:
        with contextlib.suppress(OSError, SyntaxError):
            found[str(path)] = code_digest(path)
    return found


def _folders(plugins: Sequence[Path]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(os.path.realpath(path.parent) for path in plugins))
