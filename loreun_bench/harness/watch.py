"""What a stage reads of the user's, and what it asks for that is not there."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
from collections.abc import Collection, Iterable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from loreun_bench.harness import files_used
from loreun_bench.harness.files_used import ENV, MODULE, OWN, THERE
from loreun_bench.harness.places import counting
from loreun_bench.plugins import is_users, module_of, signature
from loreun_bench.registry import declared

Known = str | tuple[int, ...] | None  # a hash, the names in a folder, or a file's signature until its hash is taken


class Watch:
    """What of the user's was read: by its name, with the absolute path in it, how it was given and what is known of it.

    itself: whether the user's code opened it, not ours for them. What the stage makes itself does not count.
    """

    def __init__(self, plugins: tuple[Path, ...], log: Path) -> None:
        self.plugins = plugins
        self._plugins = {str(path) for path in plugins}
        self._counts = counting()
        self._read: dict[str, tuple[str, Known]] = {}
        self._written: set[str] = set()
        self._earlier: dict[str, str | None] = {}
        self._log, self._process, self._cwd = log, os.getpid(), os.getcwd()

    def opened(self, given: Any, flags: int = os.O_RDONLY, itself: bool = True, at_once: bool = False) -> None:
        """A file is about to be opened. at_once: take its hash now, as it may be written to."""
        path = self._path(given, itself)
        if path is None:
            return
        writes = flags & (os.O_WRONLY | os.O_RDWR)
        if writes and (flags & (os.O_WRONLY | os.O_TRUNC | os.O_EXCL) or not os.path.exists(path)):
            self._make(path, not os.path.exists(path))
        elif not os.path.isdir(path):
            self._keep(path, path, given, signature(path))
            if writes or at_once:
                self._hash(path)

    def listed(self, given: Any, itself: bool = True) -> None:
        """A folder is about to be listed."""
        given = "." if given is None else given
        if (path := self._path(given, itself, listed=True)) is not None:
            names = files_used.names_in(path)
            self._keep(f"{path}/", path, given, None if names is None else "\0".join(names))

    def asked(self, given: Any) -> None:
        """Whether there is a file or folder is about to be looked."""
        if (path := self._path(given, True)) is not None:
            self._keep(THERE + path, path, given, files_used.there(path))

    def made(self, given: Any, itself: bool = True) -> None:
        """Something is about to get this name; a folder, if it is not there."""
        path = self._path(given, itself)
        if path is not None and not os.path.isdir(path):
            self._make(path, not os.path.exists(path))

    def variable(self, name: Any) -> None:
        """A variable of the environment is about to be read."""
        if not files_used.of_session(name := os.fsdecode(name)):
            self._keep(ENV + name, ENV + name, name, files_used.variable(name))

    def variables(self) -> None:
        """The names of all variables are about to be read, and most likely all of them."""
        for name in (files_used.ALL, *os.environ):
            self.variable(name)

    def variable_set(self, name: Any) -> None:
        """A variable is about to be set, or taken out."""
        self._make(ENV + os.fsdecode(name), fresh=False)

    def not_found(self, module: str, path: Iterable[str] | None) -> None:
        """A module is nowhere; path: of the package that it would be in."""
        folders = [*(str(each.parent) for each in self.plugins), *sys.path] if path is None else path
        for folder in folders:
            if os.path.isdir(folder or "."):
                for ending in ("", *SOURCE_SUFFIXES, *EXTENSION_SUFFIXES):
                    self.asked(os.path.join(folder, module.rpartition(".")[2] + ending))
        if path is None:
            self._keep(MODULE + module, MODULE + module, module, files_used.installed(module))

    def names(self) -> dict[str, str | None]:
        """The hash of everything read, by name; of what the plug-ins declare, too. Back in the folder it began in."""
        os.chdir(self._cwd)
        self._of_children()
        self._of_modules()
        found: dict[str, str | None] = {}
        here = False
        for key, (given, known) in self._read.items():
            own = self._own_in(key[:-1]) if key.endswith("/") else []
            name, only_here = self._name(key, given)
            found[name] = _value(key, known, own)
            found |= dict.fromkeys(f"{OWN}{name}{each}" for each in own)
            here = here or only_here
        for plugin in self.plugins:
            for pattern in declared(plugin):
                name, only_here = _declared(pattern, plugin, self.plugins)
                found[name] = files_used.content(files_used.path_of(name, self.plugins))
                here = here or only_here
        told = {THERE + name.rstrip("/") for name in found}
        found = {name: value for name, value in found.items() if name not in told}
        return self._earlier | found | ({files_used.WHERE: files_used.place(found, self.plugins)} if here else {})

    def so_far(self) -> dict[str, str | None]:
        """What `names` would say now, of a stage that goes on."""
        with self._at_home():
            return self.names()

    def goes_on(self, names: dict[str, str | None]) -> bool:
        """Whether what a run that was killed had read is what it was; then it is read by the one that goes on, too."""
        with self._at_home():
            same = files_used.now(names, self.plugins) == names
        self._earlier = names if same else {}
        return same

    @contextlib.contextmanager
    def _at_home(self) -> Iterator[None]:
        """Inside, the folder that the stage began in is the working directory."""
        away = os.getcwd()
        os.chdir(self._cwd)
        try:
            yield
        finally:
            os.chdir(away)

    def _path(self, given: Any, itself: bool, listed: bool = False) -> str | None:
        """The absolute path, if it is the user's."""
        if not isinstance(given, (str, bytes, os.PathLike)):
            return None
        path = os.path.abspath(os.fsdecode(given))
        if path.endswith(".pyc"):
            with contextlib.suppress(ValueError):
                path = importlib.util.source_from_cache(path)
        return path if path not in self._plugins and self._counts(path, itself, listed) else None

    def _name(self, key: str, given: str) -> tuple[str, bool]:
        kind, path = files_used.split(key)
        if kind in (ENV, MODULE):
            return key, False
        name, only_here = files_used.name_of(path.removesuffix("/"), given, self.plugins)
        return kind + name + "/" * path.endswith("/"), only_here

    def _keep(self, key: str, path: str, given: Any, known: Known) -> None:
        """Note what was read, unless it is known, or the stage made it. A path stays as it was written, unless it is from a
        folder that the user's code went to."""
        if key in self._read or self._is_own(path):
            return
        self._read[key] = (os.fsdecode(given) if os.getcwd() == self._cwd else path, known)
        self._tell(key, *self._read[key])

    def _is_own(self, path: str) -> bool:
        """Whether the stage made it, or a folder that it is in."""
        while self._written and path not in self._written:
            path, before = os.path.dirname(path), path
            if path == before:
                return False
        return bool(self._written)

    def _make(self, path: str, fresh: bool) -> None:
        """Note what the stage makes. What it read of it before counts, but not that it was not there."""
        if fresh:
            for key in (path, THERE + path, f"{path}/"):
                self._read.pop(key, None)
        self._hash(path)
        if path not in self._read:
            self._written.add(path)
        self._tell(path, fresh)

    def _own_in(self, folder: str) -> list[str]:
        """The names that the stage made in a folder."""
        return sorted({files_used.shape(os.path.basename(p)) for p in self._written if os.path.dirname(p) == folder})

    def _hash(self, path: str) -> None:
        """Take the hash of something read before it is written to."""
        if path in self._read:
            given, known = self._read[path]
            self._read[path] = (given, _value(path, known))

    def _tell(self, *told: Any) -> None:
        """From a process that the stage has started: through a file, as its memory is its own."""
        if os.getpid() != self._process:
            with open(self._log, "a") as file:
                file.write(json.dumps(told) + "\n")

    def _of_children(self) -> None:
        with contextlib.suppress(OSError):
            for key, *rest in map(json.loads, self._log.read_text().splitlines()):
                if len(rest) == 1:
                    self._make(key, rest[0])
                else:
                    given, known = rest
                    path = files_used.split(key)[1].removesuffix("/")
                    self._keep(key, path, given, tuple(known) if isinstance(known, list) else known)
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
                    self.opened(file)


def _value(key: str, known: Known, own: Collection[str] = ()) -> str | None:
    """The hash of what was read; of what has changed since, something that fits nothing."""
    if key.endswith("/") and isinstance(known, str):
        return files_used.of_names(known.split("\0"), own)
    if isinstance(known, tuple):
        return files_used.content(key) if signature(key) == known else files_used.unstable()
    return known


def _declared(pattern: str, plugin: Path, plugins: tuple[Path, ...]) -> tuple[str, bool]:
    path = os.path.join(os.path.realpath(plugin.parent), os.path.expanduser(pattern))
    return files_used.name_of(os.path.normpath(path), os.path.normpath(path), plugins)


def _modules(files: set[str]) -> list[Any]:
    return [module for module in list(sys.modules.values()) if getattr(module, "__file__", None) in files]
