"""Watches what the user's code in this process imports and opens, through Python's audit events."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, FunctionType, ModuleType
from typing import Any

from loreun_bench.harness import files_used
from loreun_bench.harness.store import data_root, default_root
from loreun_bench.plugins import PACKAGE, in_own_process, is_users, module_of, signature
from loreun_bench.registry import declared

SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/usr/lib", "/usr/lib64", "/usr/share", "/usr/bin", "/lib", "/lib64", "/run")
CACHES = (".cache", ".config", ".local", ".triton", ".nv", ".matplotlib", ".keras")  # of the home folder
CACHE_VARIABLES = ("XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME", "TORCHINDUCTOR_CACHE_DIR", "MPLCONFIGDIR")
LISTED = ("os.listdir", "os.scandir")
WORK = str(PACKAGE / "harness" / "work.py")  # whose frame is the lowest that counts
OPENERS = str(PACKAGE / "harness" / "openers.py")  # whose frame does not
FINDERS = ("importlib", "pkgutil", "<frozen importlib")  # which list folders to find modules

_watch: Watch | None = None
_hooked = False
_busy = threading.local()


class Watch:
    """Files of the user's that were read, by path: their hash, or what tells a change until the hash is taken."""

    def __init__(self, plugins: tuple[Path, ...], log: Path) -> None:
        self.plugins = plugins
        self._own = {str(path) for path in plugins}
        self._others = _not_watched()
        self._read: dict[str, tuple[str, Any]] = {}  # path → as it was given, and signature or hash
        self._written: set[str] = set()
        self._log, self._process, self._cwd = log, os.getpid(), os.getcwd()

    def opened(self, given: Any, flags: int, at_once: bool = False) -> None:
        """A file is about to be opened. at_once: take its hash now, as it may be written to."""
        path = self._path(given)
        if path is None:
            return
        writes = flags & (os.O_WRONLY | os.O_RDWR)
        if writes:
            self._hash(path)
            if flags & (os.O_WRONLY | os.O_TRUNC | os.O_EXCL) or not os.path.exists(path):
                if path not in self._read:
                    self._written.add(path)
                return
        self._add(path, os.fsdecode(given))
        if writes or at_once:
            self._hash(path)

    def listed(self, given: Any) -> None:
        """A folder is about to be listed."""
        path = self._path(given if given is not None else ".")
        if path is not None and f"{path}/" not in self._read:
            self._read[f"{path}/"] = (self._given(path, os.fsdecode(given or ".")), files_used.listing(path) or "")
            self._tell(f"{path}/")

    def renamed(self, target: Any) -> None:
        """What the stage wrote has this name now."""
        if (path := self._path(target)) is not None and path not in self._read:
            self._written.add(path)

    def names(self) -> dict[str, str | None]:
        """The hash of everything read, by name; of what the plug-ins declare, too. Back in the folder it began in."""
        os.chdir(self._cwd)
        self._of_children()
        self._of_modules()
        found: dict[str, str | None] = {}
        here = False
        for path, (given, known) in self._read.items():
            if path in self._written or (path.endswith("/") and any(os.path.dirname(w) == path[:-1] for w in self._written)):
                continue
            name, only_here = files_used.name_of(path, given, self.plugins)
            found[name + "/" * path.endswith("/")] = known if isinstance(known, str) else _hash(path, known)
            here = here or only_here
        for plugin in self.plugins:
            for pattern in declared(plugin):
                name, only_here = _declared(pattern, plugin, self.plugins)
                found[name] = files_used.content(files_used.path_of(name, self.plugins))
                here = here or only_here
        return found | ({files_used.WHERE: files_used.place(found, self.plugins)} if here else {})

    def _path(self, given: Any) -> str | None:
        """The absolute path, if it is the user's."""
        if not isinstance(given, (str, bytes, os.PathLike)):
            return None
        path = os.path.abspath(os.fsdecode(given))
        if path.endswith(".pyc"):
            with contextlib.suppress(ValueError):
                path = importlib.util.source_from_cache(path)
        return path if path not in self._own and not path.startswith(self._others) and is_users(path) else None

    def _add(self, path: str, given: str) -> None:
        if path not in self._read and path not in self._written and not os.path.isdir(path):
            self._read[path] = (self._given(path, given), signature(path))
            self._tell(path)

    def _given(self, path: str, given: str) -> str:
        """A path as it was written, unless it is from a folder that the user's code went to."""
        return given if os.getcwd() == self._cwd else path

    def _hash(self, path: str) -> None:
        """Take the hash of something read before it is written to."""
        if path in self._read and not isinstance(self._read[path][1], str):
            given, known = self._read[path]
            self._read[path] = (given, _hash(path, known) or "")

    def _tell(self, path: str) -> None:
        """From a process that the stage has started: through a file, as its memory is its own."""
        if os.getpid() != self._process:
            with open(self._log, "a") as file:
                file.write(path + "\n")

    def _of_children(self) -> None:
        with contextlib.suppress(OSError):
            for path in self._log.read_text().splitlines():
                if path not in self._read:
                    self._read[path] = (path, files_used.listing(path) or "" if path.endswith("/") else signature(path))
            self._log.unlink()

    def _of_modules(self) -> None:
        """Modules that were there before, so that no import of them was heard."""
        waiting = [module_of(path) for path in self.plugins] + _modules(set(self._read))
        seen: set[int] = set()
        while waiting:
            module = waiting.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            for value in list(getattr(module, "__dict__", {}).values()):
                if not isinstance(value, (ModuleType, FunctionType, type)):
                    continue
                other = sys.modules.get(value.__name__ if isinstance(value, ModuleType) else value.__module__)
                file = getattr(other, "__file__", None)
                if file and is_users(file) and other is not None and other.__name__ != "__main__":
                    waiting.append(other)
                    if self._path(file) is not None:
                        self._add(file, file)


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


def _hear(event: str, args: tuple[Any, ...]) -> None:
    if _watch is None or getattr(_busy, "now", False):
        return
    if event not in ("open", "import", "sqlite3.connect", "os.rename", *LISTED):
        return
    _busy.now = True
    try:
        with contextlib.suppress(OSError, ValueError):  # a hook must not fail what it listens to
            _note(_watch, event, args, sys._getframe(1))
    finally:
        _busy.now = False


def _note(watch: Watch, event: str, args: tuple[Any, ...], caller: FrameType) -> None:
    if not _of_user(caller):
        return
    if event == "open":
        watch.opened(args[0], args[2] if isinstance(args[2], int) else 0)
    elif event == "import" and args[1]:  # an extension module
        watch.opened(args[1], os.O_RDONLY)
    elif event == "sqlite3.connect":
        watch.opened(args[0], os.O_RDONLY, at_once=True)
    elif event == "os.rename":
        watch.renamed(args[1])
    elif event in LISTED and not any(each in caller.f_code.co_filename for each in FINDERS):
        watch.listed(args[0])


def _of_user(frame: FrameType | None) -> bool:
    """Whether the user's code is on the stack above the stage's own frame; or, in a thread of a library, nothing of ours."""
    ours = False
    while frame is not None:
        file = frame.f_code.co_filename
        if file == WORK:
            return False
        if is_users(file):
            return True
        ours = ours or (file.startswith(str(PACKAGE)) and file not in (__file__, OPENERS))
        frame = frame.f_back
    return in_own_process() and not ours and threading.current_thread() is not threading.main_thread()


def _hash(path: str, known: Any) -> str | None:
    """The hash of what was read; of what has changed since, something that fits nothing."""
    return files_used.content(path) if signature(path) == known else files_used.unstable()


def _declared(pattern: str, plugin: Path, plugins: tuple[Path, ...]) -> tuple[str, bool]:
    path = os.path.join(os.path.realpath(plugin.parent), os.path.expanduser(pattern))
    return files_used.name_of(os.path.normpath(path), os.path.normpath(path), plugins)


def _modules(files: set[str]) -> list[Any]:
    return [module for module in list(sys.modules.values()) if getattr(module, "__file__", None) in files]


def _not_watched() -> tuple[str, ...]:
    """Folders whose files are not the user's: the system's, ours, and what is kept to save a download."""
    home = os.path.expanduser("~")
    named = [os.environ[name] for name in CACHE_VARIABLES if os.environ.get(name)]
    folders = [*SYSTEM, *(os.path.join(home, name) for name in CACHES), *named, str(default_root()), str(data_root())]
    compiled = os.path.join(tempfile.gettempdir(), "torchinductor_")
    return compiled, *(os.path.abspath(each) + os.sep for folder in folders for each in (folder, os.path.realpath(folder)))
