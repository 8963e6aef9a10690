"""The user's files: which they are, loaded from their source, blamed for what they raise, read again when they changed.

What such code does to the process that plans a sweep (`undisturbed`) is put back; a stage that runs it has a process of
its own, where nothing needs to be.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import sysconfig
import traceback
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from loreun_bench.errors import UserError

PACKAGE = Path(__file__).parent
INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
PLUGIN = "loreun_plugin_"  # how the names of their modules begin

_loaded: dict[Path, tuple[str, Any]] = {}  # each file's hash when it was loaded, and its module
_imported: dict[str, tuple[str, Any]] = {}  # the user's modules that came with them: file, and its signature then
_under_way: list[Path] = []
_on_reload: list[Callable[[Path], None]] = []
_added: set[str] = set()  # to sys.path, by plug-ins
_own_process = False


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
        with from_source():
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
    with undisturbed(), blamed(path, what):
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


@cache
def is_users(file: str) -> bool:
    """Whether a file is neither this package's, nor Python's, nor an installed package's."""
    if file.startswith("<"):
        return False
    path = os.path.abspath(file)
    return not (path.startswith(_not_theirs()) or any(part in path for part in INSTALLED))


@cache
def _not_theirs() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    folders = {str(PACKAGE), *(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))}
    return tuple(sorted(folder + os.sep for each in folders for folder in (each, os.path.realpath(each))))


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
def undisturbed() -> Iterator[None]:
    """What the user's code does to this process inside is put back: working directory, environment, random state, torch's
    gradient mode, threads and default type. Its modules are noted, to be read again when they change."""
    if _own_process:
        yield
        return
    refresh()
    before, saved, restore = set(sys.modules), os.environ.copy(), _state()
    folder, path = os.getcwd(), set(sys.path)
    try:
        with from_source():
            yield
    finally:
        os.chdir(folder)
        if dict(os.environ) != saved:
            os.environ.clear()
            os.environ.update(saved)
        restore()
        _added.update(set(sys.path) - path)
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file and is_users(file) and not name.startswith(PLUGIN):
                _imported[name] = (file, signature(file))


def clean_path() -> list[str]:
    """Where modules are found, without what plug-ins have added."""
    return [folder for folder in sys.path if folder not in _added]


def _state() -> Callable[[], None]:
    """Remembers the global state of what is imported, and returns what puts it back."""
    import random

    python, numpy, torch = random.getstate(), sys.modules.get("numpy"), sys.modules.get("torch")
    arrays = numpy.random.get_state() if numpy else None
    tensors = None
    if torch:
        tensors = torch.get_num_threads(), torch.get_default_dtype(), torch.get_rng_state(), torch.is_grad_enabled()

    def restore() -> None:
        random.setstate(python)
        if numpy:
            numpy.random.set_state(arrays)
        if (now := sys.modules.get("torch")) is None:
            return
        now.set_grad_enabled(tensors is None or tensors[3])
        if tensors is None:
            now.set_default_dtype(now.float32)
            return
        if now.get_num_threads() != tensors[0]:
            now.set_num_threads(tensors[0])
        now.set_default_dtype(tensors[1])
        now.set_rng_state(tensors[2])

    return restore


def refresh(always: bool = False) -> None:
    """Forget the user's modules, so that they are read again, if a file of theirs has changed (or always)."""
    if always or any(signature(file) != known for file, known in _imported.values()):
        for name in _imported:
            sys.modules.pop(name, None)
        _imported.clear()
        _loaded.clear()
        importlib.invalidate_caches()


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
