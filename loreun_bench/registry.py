"""Where methods, weightings, scenarios, metrics, data sets and models are found by name.

One registry a kind (and track). An item enters by its decorator, which runs when its file is imported: the files of the
project's own folders, the entry points of installed packages (groups `loreun_bench.methods`, …) and the plug-in
files that the user names.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import inspect
import math
import pkgutil
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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
SETS = frozenset({"forget", "retain", "validation"})
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
        """The first line of the item's docstring."""
        return (inspect.getdoc(self.item) or "").split("\n")[0]

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


def method(
    name: str, *, uses: set[str], paper: str = "", track: str = "classification", files: Sequence[str | Path] = ()
) -> Callable[[type[T]], type[T]]:
    """Class decorator: an unlearning method, a frozen dataclass whose fields are its settings.

    `uses` names the sets its `unlearn` may read, of {"forget", "retain", "validation"}; any other raises when read.
    files: here and in the other decorators, the files (paths from the plug-in's folder, `*` allowed) that the item reads
    through a library which opens them below Python; what Python opens is seen anyway. A change of theirs counts.
    """

    def register(cls: type[T]) -> type[T]:
        _require_dataclass("method", name, cls)
        missing = getattr(cls, "__abstractmethods__", None) or ({"unlearn"} - set(dir(cls)))
        if missing or not callable(cls.unlearn):  # type: ignore[attr-defined]
            lacks = " and ".join(f"`{each}`" for each in sorted(missing or {"unlearn"}))
            raise UserError(f"method '{name}' lacks {lacks}: define it, or derive the class from one that does")
        if not uses or not uses <= SETS:
            raise UserError(f"method '{name}': uses={sorted(uses)} must name some of {sorted(SETS)}")
        cls.name, cls.uses = name, frozenset(uses)  # type: ignore[attr-defined]
        cls.from_scratch = getattr(cls, "from_scratch", False)  # type: ignore[attr-defined]
        return registry("methods", track).add(name, cls, paper=paper, uses=frozenset(uses), files=_files(files))

    return register


def weighting(
    name: str,
    *,
    paper: str = "",
    defaults: Mapping[str, Mapping[str, Any]] | None = None,
    files: Sequence[str | Path] = (),
) -> Callable[[type[T]], type[T]]:
    """Class decorator: a loss reweighting, a frozen dataclass with `phases() -> dict[str, Phase]`.

    defaults: track → settings that have another default there than the class's, as the paper has one for each task.
    """

    def register(cls: type[T]) -> type[T]:
        _require_dataclass("weighting", name, cls)
        if not callable(getattr(cls, "phases", None)):
            raise UserError(f"weighting '{name}' lacks `phases`, which returns a Phase for 'forget', 'retain' or both")
        cls.name = name  # type: ignore[attr-defined]
        own = dict(defaults or {})
        return registry("weightings").add(name, cls, paper=paper, defaults=own, files=_files(files))

    return register


def scenario(
    name: str,
    *,
    explicit: bool = False,
    relabels: bool = False,
    needs: Collection[str] = (),
    paper: str = "",
    track: str = "classification",
    files: Sequence[str | Path] = (),
) -> Callable[[type[T]], type[T]]:
    """Class decorator: a way to choose what is forgotten, a frozen dataclass whose fields are its settings, with `draw`.

    What `draw` is given and returns stands in the track's `scenarios` package. explicit: it names pictures one by one, so
    all training pictures are offered to it, and the validation set is drawn from the others. relabels: its `draw` gives
    wrong labels, too, and the original is trained on them. needs: {"original"} for the losses of the original model.
    """

    def register(cls: type[T]) -> type[T]:
        _require_dataclass("scenario", name, cls)
        if not callable(getattr(cls, "draw", None)):
            raise UserError(f"scenario '{name}' lacks `draw`, which returns the positions of what is forgotten")
        if not set(needs) <= {"original"}:
            raise UserError(f"scenario '{name}': needs={sorted(needs)} must be of {{'original'}}")
        if needs and (explicit or relabels):
            word = "explicit" if explicit else "relabels"
            raise UserError(f"scenario '{name}': with {word} it decides what the original is trained on, so that it cannot "
                            "choose by the original's losses: take needs out")  # fmt: skip
        cls.kind = name  # type: ignore[attr-defined]
        told = {"explicit": explicit, "relabels": relabels, "needs": frozenset(needs)}
        info = told | {"paper": paper, "files": _files(files)}
        return registry("scenarios", track).add(name, cls, **info)

    return register


def metric(
    name: str,
    *,
    columns: Mapping[str, str],
    unit: str = "%",
    best: str | Mapping[str, str] = "retrain",
    paper: str = "",
    track: str = "classification",
    features: str = "",
    check: Callable[[Any], None] | None = None,
    span: tuple[float, float] | None = None,
    optional: Sequence[str] = (),
    files: Sequence[str | Path] = (),
) -> Callable[[T], T]:
    """Function decorator: a metric `(outputs) -> dict[str, float]`, or a derived one `(cell, retrain) -> float`.

    A stored metric may return a `Measured` (of `loreun_bench.classification` and `.generation`) in place of the dict, to
    tell counts and what says nothing. It gets a copy: what it changes in place changes no other metric.

    columns: what it returns, key → heading in tables. best: "retrain" (closest to the retrained model), "high" or "low",
    for all columns or by key.
    A derived metric gets the metric values of a cell and of its matched Retrain and has one column; it is computed when
    a table is made, never stored. What says nothing is not among the values that it gets; one that then raises KeyError has
    no value there. optional: keys that it can do without; a table marks where one is missing.
    span: the least and greatest value that there can be, to which intervals are held; (0, 100) for percent.
    features: "classifier" or "inception", whose features of the real pictures a metric of generation compares with: a
    sweep computes them once for all rows. check: called when a sweep is planned with what is known of it by then (see
    `generation.scene.Planned`); raises UserError if something that the metric needs is missing.
    """

    def register(function: T) -> T:
        if not columns:
            raise UserError(f"metric '{name}': columns must name what it returns, such as {{'forget_acc': 'UA'}}")
        ways = dict.fromkeys(columns, best) if isinstance(best, str) else dict(best)
        if ways.keys() != columns.keys() or not set(ways.values()) <= {"retrain", "high", "low"}:
            raise UserError(
                f"metric '{name}': best={best!r} must be 'retrain', 'high' or 'low', or one of them for each column"
            )
        bounds = span or ((0.0, 100.0) if unit == "%" else (-math.inf, math.inf))
        derived = len(inspect.signature(function).parameters) == 2  # type: ignore[arg-type]
        return registry("metrics", track).add(
            name, function, columns=dict(columns), unit=unit, best=ways, paper=paper, derived=derived, features=features,
            check=check, span=bounds, optional=tuple(optional), files=_files(files),
        )  # fmt: skip

    return register


def dataset(
    name: str,
    *,
    shape: tuple[int, int, int] | None = None,
    classes: int | None = None,
    embedded: bool = False,
    paper: str = "",
    track: str = "classification",
    names: Sequence[str] = (),
    counts: tuple[Sequence[int], Sequence[int]] | None = None,
    mean: Sequence[float] | None = None,
    adapt: Callable[[Any], Any] | None = None,
    files: Sequence[str | Path] = (),
) -> Callable[[T], T]:
    """Function decorator: a data set `(root: Path, download: bool) -> Arrays`; for generation `(root, split) -> Pictures`.

    shape: (height, width, channels); embedded: made without network, so it is prepared when first asked for. What a
    local copy must agree with: names of the classes; counts of the training and of the test pictures, by class; mean of
    the training pixels, by channel in [0, 1]. adapt: makes this data set of the arrays that were read.
    """

    def register(function: T) -> T:
        _check_declared(f"data set '{name}'", classes, tuple(names), counts)
        info = {
            "shape": shape, "classes": classes, "embedded": embedded, "paper": paper, "names": tuple(names),
            "files": _files(files), "counts": counts, "mean": mean, "adapt": adapt,
        }  # fmt: skip
        return registry("datasets", track).add(name, function, **info)

    return register


def model(name: str, *, paper: str = "", files: Sequence[str | Path] = ()) -> Callable[[T], T]:
    """Function decorator: a model builder `(channels, classes, size, **settings) -> torch.nn.Module`."""
    return lambda function: registry("models").add(name, function, paper=paper, files=_files(files))


def _files(names: Sequence[str | Path]) -> tuple[str, ...]:
    return (str(names),) if isinstance(names, (str, Path)) else tuple(map(str, names))


def _check_declared(what: str, classes: int | None, names: tuple[str, ...], counts: Any) -> None:
    """UserError for what a data set's decorator says of its classes and does not hang together."""
    odd = next((name for name in names if not str(name).strip() or names.count(name) > 1), None)
    if odd is not None:
        raise UserError(f"{what}: two classes, or one without a name, are called '{odd}': give each its own name")
    many = {"classes": classes, "names": len(names) or None} | {
        f"{word} counts": len(each) for word, each in zip(("training", "test"), counts or (), strict=False)
    }
    said = {words: number for words, number in many.items() if number is not None}
    if len(set(said.values())) > 1:
        raise UserError(f"{what}: it declares {' and '.join(f'{n} {words}' for words, n in said.items())}: give as many")


def _require_dataclass(kind: str, name: str, cls: type) -> None:
    if not dataclasses.is_dataclass(cls) or "__dataclass_fields__" not in vars(cls):
        raise UserError(f"{kind} '{name}': {cls.__name__} must be decorated with @dataclass(frozen=True)")
    if not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise UserError(f"{kind} '{name}': {cls.__name__} must be frozen, @dataclass(frozen=True)")
