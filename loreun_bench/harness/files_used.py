"""What of the user's a stage imported or opened: names that hold in a copy of the project, too, and their hashes.

A name is a path from the folder of one of the stage's plug-in files (`0:nets/tiny.py`), from the working directory
(`cwd:data.csv`), or absolute. With one that a copy of the project would give to the original's file stands WHERE, a hash
of the place. A name that ends in / is a folder that was listed; one with a * is what a plug-in declares.

Before a name may stand what was asked of it: `env:` a variable, `there:` whether there is such a file, `module:` whether
such a module is installed. `own:` is what the stage itself writes into a folder that it lists, digits as #: such names do
not count in that folder, or what writes a log there would be made again for ever.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import re
import sys
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path

from loreun_bench.harness.files import sha256_file
from loreun_bench.harness.stage import Stage, code_digest, digest
from loreun_bench.plugins import is_users, signature

WHERE = "where"
CWD = "cwd:"
ENV, THERE, MODULE, OWN = KINDS = ("env:", "there:", "module:", "own:")
ALL = "*"  # in place of a variable: the names of all
SESSION = ("_", "PWD", "OLDPWD", "SHLVL", "COLUMNS", "LINES", "DISPLAY", "WINDOWID")  # of the terminal, not the user's
SESSIONS = ("TERM", "SSH_", "XDG_SESSION", "TMUX", "PYTEST_")  # how more of them begin
NUMBER = re.compile(r"[0-9a-f]{8,}|\d+")
Hashes = Mapping[str, str | None]


def name_of(path: str, given: str, plugins: Sequence[Path]) -> tuple[str, bool]:
    """The name of the absolute `path`, which was opened as `given`, and whether it holds at this place only."""
    if not os.path.isabs(given):
        return CWD + os.path.normpath(given), False
    for number, folder in enumerate(_folders(plugins)):
        for each in (path, os.path.realpath(path)):
            if f"{each}{os.sep}".startswith(folder + os.sep):
                return f"{number}:{os.path.relpath(each, folder)}", False
    if path.startswith(os.getcwd() + os.sep):
        return CWD + os.path.relpath(path), True
    return path, True


def place(names: Iterable[str], plugins: Sequence[Path]) -> str:
    """Where the plug-ins lie: absolute if one of the names is, else from the working directory."""
    folders = _folders(plugins)
    absolute = any(os.path.isabs(split(name)[1]) for name in names)
    return digest(list(folders) if absolute else [os.path.relpath(folder) for folder in folders])


def now(names: Iterable[str], plugins: Sequence[Path]) -> dict[str, str | None]:
    """The hashes that the names have now; None for what is not there."""
    names = list(names)
    own = {path_of(name.removeprefix(OWN), plugins) for name in names if name.startswith(OWN)}
    return {n: place(names, plugins) if n == WHERE else _now(*split(n), own, plugins) for n in names}


def _now(kind: str, rest: str, own: set[str], plugins: Sequence[Path]) -> str | None:
    if kind == ENV:
        return variable(rest)
    if kind == MODULE:
        return installed(rest)
    path = path_of(rest, plugins)
    if kind == THERE:
        return there(path)
    if kind == OWN:
        return None
    if path.endswith("/"):
        names = names_in(path)
        mine = {os.path.basename(each) for each in own if f"{os.path.dirname(each)}/" == path}
        return None if names is None else of_names(names, mine)
    return content(path)


def split(name: str) -> tuple[str, str]:
    """Which of KINDS a name is of ("": a file or folder that was read), and the rest of it."""
    kind = next((each for each in KINDS if name.startswith(each)), "")
    return kind, name.removeprefix(kind)


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
    """The hash of a file: of its code for a .py, of its bytes otherwise; None if there is none."""
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


def names_in(path: str) -> list[str] | None:
    """The names in a folder, but for hidden ones and Python's own; None if there is no such folder."""
    try:
        return sorted(name for name in os.listdir(path) if not name.startswith(".") and name != "__pycache__")
    except OSError:
        return None


def of_names(names: Iterable[str], own: Collection[str]) -> str:
    """The hash of the names in a folder, without those of the stage's own."""
    counted = [name for name in names if shape(name) not in own]
    return hashlib.sha256("\0".join(counted).encode(errors="surrogateescape")).hexdigest()


def shape(name: str) -> str:
    """A name with # for its numbers, so that the logs of two runs are alike."""
    return NUMBER.sub("#", name)


def there(path: str) -> str | None:
    """What lies at a path."""
    return "folder" if os.path.isdir(path) else "file" if os.path.lexists(path) else None


def variable(name: str) -> str | None:
    """The hash of a variable of the environment; of the names of all of them for ALL."""
    value = "\0".join(sorted(n for n in os.environ if not of_session(n))) if name == ALL else os.environ.get(name)
    return None if value is None else hashlib.sha256(os.fsencode(value)).hexdigest()


def of_session(name: str) -> bool:
    """Whether a variable tells of the terminal, and so is another each time."""
    return name in SESSION or name.startswith(SESSIONS)


def installed(module: str) -> str | None:
    """Whether there is such a module that is not the user's own."""
    folders = [folder for folder in sys.path if folder and not is_users(os.path.join(folder, module))]
    return "installed" if PathFinder.find_spec(module, folders) else None


def unstable() -> str:
    """In place of the hash of what changed while it was read: no later look finds the same."""
    return f"changed {uuid.uuid4().hex}"


def key_with(base: str, hashes: Hashes) -> str:
    """The key of an artifact: its stage's own, and what it used of the user's."""
    return digest({"stage": base, "files": dict(hashes)}) if hashes else base


def changed(before: Hashes, after: Hashes) -> tuple[str, ...]:
    """In words, what is other than it was."""
    names = [name for name in before if before[name] != after.get(name)]
    if ENV + ALL in names:  # with it stands each that there was
        names.remove(ENV + ALL)
        new = [name for name in sorted(os.environ) if ENV + name not in before and not of_session(name)]
        return (*changed({n: before[n] for n in names}, after), *(f"${name} is new" for name in new))
    return tuple(f"{plain(name)} {_verb(before[name], after.get(name))}" for name in names)


def _verb(before: str | None, after: str | None) -> str:
    return "is new" if before is None else "is gone" if after is None else "changed"


def plain(name: str) -> str:
    """A name as the user would write it."""
    kind, name = split(name)
    if kind == ENV:
        return f"${name}"
    head, found, rest = name.partition(":")
    told = rest if found and (head.isdigit() or head == "cwd") else name
    return "the project's folder" if name == WHERE else f"module {told}" if kind == MODULE else told


def plugin_digests(stage: Stage) -> dict[str, str]:
    """The code of a stage's plug-in files, as it is now; nothing for one that cannot be read."""
    found = {}
    for path in stage.plugins:
        with contextlib.suppress(OSError, SyntaxError):
            found[str(path)] = code_digest(path)
    return found


def _folders(plugins: Sequence[Path]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(os.path.realpath(path.parent) for path in plugins))
