"""The user's files: which they are, loaded from their source, blamed for what they raise, read again when they changed.

What such code does to the process that plans a sweep (`undisturbed`) is put back: plans and tables need its items there, so
that a process of its own for planning would spare nothing. A stage that runs such code has a process of its own, and there
nothing needs to be.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import traceback
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from loreun_bench import beside, surroundings, untouched
from loreun_bench.errors import UserError
from loreun_bench.whose import PACKAGE as PACKAGE
from loreun_bench.whose import is_users as is_users
from loreun_bench.whose import users_place

PLUGIN = "loreun_plugin_"  # how the names of their modules begin

_loaded: dict[Path, tuple[str, Any]] = {}  # each file's hash when it was loaded, and its module
_imported: dict[tuple[str, str], Any] = {}  # the user's modules that came with them, and their files: its signature then
_under_way: list[Path] = []
_on_reload: list[Callable[[Path], None]] = []
_own_process = False
_in_stage = False
_depth = 0


def load_plugin(path: str | Path) -> Path:
    """Import the plug-in file at `path`, whose decorators register its items. UserError names file and line."""
    path = Path(path).resolve()
    if not path.is_file() or path.suffix != ".py":
        raise UserError(f"plug-in {path} not found, or no .py file")
    with undisturbed(), blamed(path, "plug-in"):
        load_module(path)
    return path


@contextlib.contextmanager
def blamed(path: Path, what: str) -> Iterator[None]:
    """Turn whatever the user's code raises inside, even sys.exit, into a UserError that names its line in `path`."""
    try:
        yield
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = lines[-1] if lines else getattr(error, "lineno", None) or 0
        raise UserError(f"{what} {path}:{line} raised {type(error).__name__}: {error}") from error


def load_module(path: Path) -> Any:
    """The module in the file `path`, imported once a process, and again when the file has changed."""
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    if path in _loaded and _loaded[path][0] == content:
        return _loaded[path][1]
    if path in _loaded:
        refresh(always=True)
    name = f"{PLUGIN}{path.stem}_{zlib.crc32(str(path).encode()):08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    for forget in _on_reload:
        forget(path)
    sys.modules[name] = module
    _under_way.append(path)
    try:
        with from_source(), beside.of(path.parent, _own_process):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        _under_way.pop()
    _loaded[path] = (content, module)
    return module


def call_reference(reference: str, what: str, *args: Any, **options: Any) -> Any:
    """Call the function that `FILE.py:NAME` names. UserError if the file or name is missing, or the function raises."""
    file, _, name = reference.rpartition(":")
    path = load_plugin(file)
    function = getattr(load_module(path), name, None)
    if not callable(function):
        raise UserError(f"{what} '{reference}': {file} has no function '{name}'")
    with running(path), blamed(path, what):
        return function(*args, **options)


def under_way() -> Path | None:
    """The plug-in file that is being loaded."""
    return _under_way[-1] if _under_way else None


def module_of(path: Path) -> Any:
    """The module of a plug-in file, if it is loaded."""
    return _loaded[path][1] if path in _loaded else None


def on_reload(forget: Callable[[Path], None]) -> None:
    """Have `forget(path)` called before a plug-in file is loaded."""
    _on_reload.append(forget)


@contextlib.contextmanager
def from_source() -> Iterator[None]:
    """Inside, the user's modules are compiled from their source: Python's cache of bytecode takes an edit within the same
    second for none, and a result made by the old code would be filed under the new one."""
    loader = importlib.machinery.SourceFileLoader
    usual = loader.path_stats

    def path_stats(self: Any, path: str) -> Any:
        if is_users(path):
            raise OSError("no bytecode")
        return usual(self, path)

    loader.path_stats = path_stats  # type: ignore[method-assign]
    try:
        yield
    finally:
        loader.path_stats = usual  # type: ignore[method-assign]


@contextlib.contextmanager
def undisturbed(stage: bool = False) -> Iterator[None]:
    """What the user's code does to this process inside is put back, as far as it can be (`surroundings`, `untouched`). Its
    modules are noted, to be read again when they change.

    stage: inside is one stage, in which nothing is put back before its end: as in a process of its own.
    """
    global _depth, _in_stage
    if _own_process or _in_stage:
        yield
        return
    refresh()
    _depth += 1
    _in_stage = stage
    before = {id(module): module for _, module in beside.loaded()}  # held: another might get the id of one that goes
    restore, put_back = surroundings.remember(), untouched.remember()
    try:
        with from_source():
            yield
    finally:
        _in_stage = False
        put_back()
        for name, module in beside.loaded():
            place = users_place(module) if id(module) not in before and not name.startswith(PLUGIN) else None
            if place is not None:
                _imported[name, place] = _known(place)
        _depth -= 1
        if not _depth:
            beside.give_back()
        restore()


@contextlib.contextmanager
def running(path: Path) -> Iterator[None]:
    """Inside runs code of the user's file `path`, which finds what is beside it, and leaves this process as it was."""
    with undisturbed(), beside.of(path.parent, _own_process):
        yield


def refresh(always: bool = False) -> None:
    """Forget the user's modules, so that they are read again, if a file of theirs has changed (or always)."""
    if always or any(_known(place) != known for (_, place), known in _imported.items()):
        for name, place in reversed(_imported):  # a package's own first
            if users_place(sys.modules.get(name)) == place:
                del sys.modules[name]
        beside.forget()
        _imported.clear()
        _loaded.clear()
        importlib.invalidate_caches()


def _known(place: str) -> Any:
    """What tells a change of a module; nothing of a folder, whose files are modules of their own."""
    return None if place.endswith(os.sep) else signature(place)


def own_process() -> None:
    """From now on this process belongs to one stage: what the user's code does to it stays."""
    global _own_process
    _own_process = True
    from_source().__enter__()


def in_own_process() -> bool:
    """Whether this process belongs to one stage."""
    return _own_process


def signature(file: str | Path) -> tuple[int, ...] | None:
    """What changes with a file's content, without reading it: size and times; None if it is not there."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
