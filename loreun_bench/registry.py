"""Where methods, weightings, scenarios, metrics, data sets and models are found by name.

One registry a kind (and track). An item enters by its decorator (`decorators`), which runs when its file is imported: the
files of the project's own folders, the entry points of installed packages (groups `loreun_bench.methods`, …) and the
plug-in files that the user names.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import inspect
import pkgutil
import warnings
from collections.abc import Callable, Iterable
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

from loreun_bench import plugins
from loreun_bench.errors import UserError, did_you_mean
from loreun_bench.plugins import blamed as blamed
from loreun_bench.plugins import call_reference as call_reference
from loreun_bench.plugins import load_module as load_module
from loreun_bench.plugins import load_plugin as load_plugin

KINDS = ("methods", "weightings", "scenarios", "metrics", "datasets", "models")
TRACKS = {  # where a track's configuration class and its planner are; imported only when a sweep is of that track
    "classification": (
        "loreun_bench.classification.config:ClassificationConfig",
        "loreun_bench.classification.planning:cells",
    ),
    "generation": ("loreun_bench.generation.config:GenerationConfig", "loreun_bench.generation.planning:cells"),
}
REFERENCES = ("Original", "Retrain", "Retrain-2")  # the rows of every table that are shown for orientation, not ranked
LONGEST = 60  # letters of a name
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One registered item: its name, the class or function, what its decorator said of it, and how another process comes
    by it: the plug-in file (or script) to load, or the module to import."""

    name: str
    item: Any
    info: dict[str, Any]
    origin: str = ""

    @property
    def summary(self) -> str:
        """The first line of the item's docstring; where it ends within a sentence, up to the sentence's end."""
        first, _, more = (inspect.getdoc(self.item) or "").partition("\n\n")[0].partition("\n")
        if not more or first.endswith("."):
            return first
        rest, stop, _ = f"{' '.join(more.split())} ".partition(". ")
        return f"{first} {rest}{stop}".rstrip()

    @cached_property
    def file(self) -> Path:
        """The file that defines the item; known from when it was registered, as its module may be read anew."""
        return Path(inspect.getfile(self.item))

    @property
    def plugged(self) -> bool:
        """Whether it is somebody else's, not of this package's own files."""
        return plugins.PACKAGE.resolve() not in self.file.resolve().parents


class Registry:
    """The items of one kind by name; its own folder and the entry points are read on the first look-up."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._entries: dict[str, Entry] = {}
        self._read = self._read_others = False
        plugins.on_reload(self._forget)

    def add(self, name: str, item: T, **info: Any) -> T:
        """Register `item`; a second item of the same name is an error unless it is the same definition again."""
        _require_name(self.kind[:-1], name)
        old, new = self._entries.get(name), Entry(name, item, info, _origin(self.kind, name, item))
        assert new.file.is_file()
        if old is not None and (old.item.__qualname__, old.file) != (new.item.__qualname__, new.file):
            raise UserError(f"{self.kind[:-1]} '{name}' is defined twice, in {old.file} and {new.file}: rename one")
        if not (inspect.getdoc(item) or "").strip() or (item.__doc__ or "").startswith(f"{new.item.__name__}("):
            raise UserError(f"{self.kind[:-1]} '{name}' lacks a docstring; its first line is shown by `ls`")
        self._entries[name] = new
        return item

    def get(self, name: str) -> Entry:
        """The entry called `name`; UserError with a suggestion if there is none. Other packages are imported only if it is
        not one of the project's own, or of a plug-in."""
        self._discover()
        if name not in self._entries:
            self._discover_others()
        if name not in self._entries:
            raise UserError(f"unknown {self.kind[:-1]} '{name}'; {did_you_mean(name, self._entries)}")
        return self._entries[name]

    def known(self, discover: bool = True) -> list[Entry]:
        """The entries of the project's own and of the plug-ins so far. discover: our own that are not yet imported, too."""
        if discover:
            self._discover()
        return list(self._entries.values())

    def entries(self) -> list[Entry]:
        """All entries, sorted by name."""
        self._discover()
        self._discover_others()
        return [self._entries[n] for n in sorted(self._entries, key=str.lower)]

    def _discover(self) -> None:
        if self._read:
            return
        self._read = True
        folder = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(folder.__path__):
            importlib.import_module(f"{self.package}.{module.name}")

    def _discover_others(self) -> None:
        if self._read_others:
            return
        self._read_others = True
        for point in importlib.metadata.entry_points(group=f"loreun_bench.{self.kind}"):
            try:
                point.load()
            except Exception as error:  # somebody else's package: say so, go on without it
                warnings.warn(f"entry point {point.value} of {self.kind} failed: {error}", stacklevel=2)

    def _forget(self, path: Path) -> None:
        """Drop what the plug-in file `path` registered: it is loaded again, and may register something else."""
        self._entries = {name: entry for name, entry in self._entries.items() if entry.origin != str(path)}


def _require_name(what: str, name: Any) -> None:
    if not isinstance(name, str) or not name.isprintable() or name != name.strip() or not 0 < len(name) <= LONGEST:
        raise UserError(f"{what} {name!r}: a name is a text of 1 to {LONGEST} letters in one line, without spaces around it")


def _origin(kind: str, name: str, item: Any) -> str:
    """Where another process finds an item. UserError if it is in no file."""
    if item.__module__.startswith(f"{__package__}."):
        return str(item.__module__)
    if (path := plugins.under_way()) is not None:
        return str(path)
    try:
        file = Path(inspect.getfile(item))
    except (TypeError, OSError):
        file = Path()
    if not file.is_file():
        raise UserError(f"{kind[:-1]} '{name}' is in no file: write it into one and name that under plugins=")
    return str(file.resolve()) if item.__module__ == "__main__" else str(item.__module__)


def origins(files: Iterable[Path]) -> tuple[str, ...]:
    """What a process has to load, or import, to have the items that are defined in `files`."""
    wanted = set(files)
    found = (entry for each in _registries for entry in each._entries.values() if entry.file in wanted)
    return tuple(dict.fromkeys(entry.origin for entry in found))


def homes(files: Iterable[Path]) -> list[Path]:
    """The folders beside whose plug-in files the code in `files` looks for modules."""
    files = list(files)
    found = [Path(origin) for origin in origins(files) if origin.endswith(".py")]
    return list(dict.fromkeys(file.parent for file in [*found, *(f for f in files if plugins.module_of(f) is not None)]))


def declared(file: Path) -> tuple[str, ...]:
    """The files that the items in the user's `file` declare to use (`files=`, or FILES of the module), as written there."""
    entries = [entry for each in _registries for entry in each._entries.values() if entry.file == file]
    module = plugins.module_of(file)
    found = [*(name for entry in entries for name in entry.info.get("files", ())), *getattr(module, "FILES", ())]
    return tuple(dict.fromkeys(map(str, found)))


def registry(kind: str, track: str = "classification") -> Registry:
    """The registry of `kind` (one of KINDS) in `track`; weightings belong to no track."""
    if kind not in KINDS:
        raise UserError(f"unknown kind '{kind}'; {did_you_mean(kind, KINDS)}")
    if kind != "weightings" and track not in TRACKS:
        raise UserError(f"unknown track '{track}'; {did_you_mean(str(track), TRACKS)}")
    if kind not in kinds(track):
        raise UserError(f"the {track} track has no {kind}; it has {', '.join(kinds(track))}")
    return _registry(kind, "loreun_bench" if kind == "weightings" else f"loreun_bench.{track}")


@cache
def kinds(track: str) -> list[str]:
    """The kinds of items that a track has, as its folders say."""
    folder = Path(__file__).parent / track
    return [kind for kind in KINDS if kind == "weightings" or (folder / kind).is_dir()]


_registries: list[Registry] = []


@cache
def _registry(kind: str, parent: str) -> Registry:
    _registries.append(Registry(kind, f"{parent}.{kind}"))
    return _registries[-1]


def track(name: str) -> tuple[Any, Callable[..., Any]]:
    """A track's configuration class and its planner `(config) -> (cells, notes)`. UserError for an unknown track."""
    if not isinstance(name, str) or name not in TRACKS:
        raise UserError(f"unknown track '{name}'; {did_you_mean(str(name), TRACKS)}")
    config, planner = (reference.split(":") for reference in TRACKS[name])
    return getattr(importlib.import_module(config[0]), config[1]), getattr(importlib.import_module(planner[0]), planner[1])
