"""Where methods, weightings, scenarios, metrics, data sets and models are found by name.

One registry a kind (and track). An item enters by its decorator, which runs when its file is imported: the files of the
project's own folders, the entry points of installed packages (groups `loreun_bench.methods`, …) and the plug-in
files that the user names.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.metadata
import importlib.util
import inspect
import math
import pkgutil
import sys
import traceback
import warnings
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from loreun_bench.errors import UserError, did_you_mean

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
    """One registered item: its name, the class or function, and what its decorator said of it."""

    name: str
    item: Any
    info: dict[str, Any]

    @property
    def summary(self) -> str:
        """The first line of the item's docstring."""
        return (inspect.getdoc(self.item) or "").split("\n")[0]

    @property
    def file(self) -> Path:
        """The file that defines the item."""
        return Path(inspect.getfile(self.item))


class Registry:
    """The items of one kind by name; its own folder and the entry points are read on the first look-up."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._entries: dict[str, Entry] = {}
        self._read = False

    def add(self, name: str, item: T, **info: Any) -> T:
        """Register `item`; a second item of the same name is an error unless it is the same definition again."""
        old, new = self._entries.get(name), Entry(name, item, info)
        if old is not None and (old.item.__qualname__, old.file) != (new.item.__qualname__, new.file):
            raise UserError(f"{self.kind[:-1]} '{name}' is defined twice, in {old.file} and {new.file}: rename one")
        if not (inspect.getdoc(item) or "").strip() or (item.__doc__ or "").startswith(f"{new.item.__name__}("):
            raise UserError(f"{self.kind[:-1]} '{name}' lacks a docstring; its first line is shown by `ls`")
        self._entries[name] = new
        return item

    def get(self, name: str) -> Entry:
        """The entry called `name`; UserError with a suggestion if there is none."""
        self._discover()
        if name not in self._entries:
            raise UserError(f"unknown {self.kind[:-1]} '{name}'; {did_you_mean(name, self._entries)}")
        return self._entries[name]

    def entries(self) -> list[Entry]:
        """All entries, sorted by name."""
        self._discover()
        return [self._entries[n] for n in sorted(self._entries, key=str.lower)]

    def _discover(self) -> None:
        if self._read:
            return
        self._read = True
        folder = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(folder.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        for point in importlib.metadata.entry_points(group=f"loreun_bench.{self.kind}"):
            try:
                point.load()
            except Exception as error:  # somebody else's package: say so, go on without it
                warnings.warn(f"entry point {point.value} of {self.kind} failed: {error}", stacklevel=2)


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


@cache
def _registry(kind: str, parent: str) -> Registry:
    return Registry(kind, f"{parent}.{kind}")


def track(name: str) -> tuple[Any, Callable[..., Any]]:
    """A track's configuration class and its planner `(config) -> (cells, notes)`. UserError for an unknown track."""
    if not isinstance(name, str) or name not in TRACKS:
        raise UserError(f"unknown track '{name}'; {did_you_mean(str(name), TRACKS)}")
    config, planner = (reference.split(":") for reference in TRACKS[name])
    return getattr(importlib.import_module(config[0]), config[1]), getattr(importlib.import_module(planner[0]), planner[1])


def method(name: str, *, uses: set[str], paper: str = "", track: str = "classification") -> Callable[[type[T]], type[T]]:
    """Class decorator: an unlearning method, a frozen dataclass whose fields are its settings.

    `uses` names the sets its `unlearn` may read, of {"forget", "retain", "validation"}; any other raises when read.
    """

    def register(cls: type[T]) -> type[T]:
        _require_dataclass("method", name, cls)
        if not callable(getattr(cls, "unlearn", None)):
            raise UserError(f"method '{name}' lacks `unlearn`: derive it from GradientMethod or define it")
        if not uses or not uses <= SETS:
            raise UserError(f"method '{name}': uses={sorted(uses)} must name some of {sorted(SETS)}")
        cls.name, cls.uses = name, frozenset(uses)  # type: ignore[attr-defined]
        cls.from_scratch = getattr(cls, "from_scratch", False)  # type: ignore[attr-defined]
        return registry("methods", track).add(name, cls, paper=paper, uses=frozenset(uses))

    return register


def weighting(
    name: str, *, paper: str = "", defaults: Mapping[str, Mapping[str, Any]] | None = None
) -> Callable[[type[T]], type[T]]:
    """Class decorator: a loss reweighting, a frozen dataclass with `phases() -> dict[str, Phase]`.

    defaults: track → settings that have another default there than the class's, as the paper has one for each task.
    """

    def register(cls: type[T]) -> type[T]:
        _require_dataclass("weighting", name, cls)
        if not callable(getattr(cls, "phases", None)):
            raise UserError(f"weighting '{name}' lacks `phases`, which returns a Phase for 'forget', 'retain' or both")
        cls.name = name  # type: ignore[attr-defined]
        return registry("weightings").add(name, cls, paper=paper, defaults=dict(defaults or {}))

    return register


def scenario(
    name: str, *, explicit: bool = False, needs: Collection[str] = (), paper: str = "", track: str = "classification"
) -> Callable[[type[T]], type[T]]:  # fmt: skip
    """Class decorator: a way to choose what is forgotten, a frozen dataclass whose fields are its settings, with `draw`.

    What `draw` is given and returns stands in the track's `scenarios` package. explicit: it names pictures one by one, so
    all training pictures are offered to it, and the validation set is drawn from the others. needs: {"original"} for the
    losses of the original model.
    """

    def register(cls: type[T]) -> type[T]:
        _require_dataclass("scenario", name, cls)
        if not callable(getattr(cls, "draw", None)):
            raise UserError(f"scenario '{name}' lacks `draw`, which returns the positions of what is forgotten")
        if not set(needs) <= {"original"}:
            raise UserError(f"scenario '{name}': needs={sorted(needs)} must be of {{'original'}}")
        cls.kind = name  # type: ignore[attr-defined]
        return registry("scenarios", track).add(name, cls, explicit=explicit, needs=frozenset(needs), paper=paper)

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
) -> Callable[[T], T]:
    """Function decorator: a metric `(outputs) -> dict[str, float]`, or a derived one `(cell, retrain) -> float`.

    A stored metric may return `harness.measuring.Measured` in place of the dict, to tell counts and what says nothing.

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
            check=check, span=bounds, optional=tuple(optional),
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
) -> Callable[[T], T]:
    """Function decorator: a data set `(root: Path, download: bool) -> Arrays`; for generation `(root, split) -> Pictures`.

    shape: (height, width, channels); embedded: made without network, so it is prepared when first asked for. What a
    local copy must agree with: names of the classes; counts of the training and of the test pictures, by class; mean of
    the training pixels, by channel in [0, 1]. adapt: makes this data set of the arrays that were read.
    """

    def register(function: T) -> T:
        info = {
            "shape": shape, "classes": classes, "embedded": embedded, "paper": paper, "names": tuple(names),
            "counts": counts, "mean": mean, "adapt": adapt,
        }  # fmt: skip
        return registry("datasets", track).add(name, function, **info)

    return register


def model(name: str, *, paper: str = "") -> Callable[[T], T]:
    """Function decorator: a model builder `(channels, classes, size, **settings) -> torch.nn.Module`."""
    return lambda function: registry("models").add(name, function, paper=paper)


def load_plugin(path: str | Path) -> Path:
    """Import the plug-in file at `path`, whose decorators register its items. UserError names file and line."""
    path = Path(path).resolve()
    if not path.is_file() or path.suffix != ".py":
        raise UserError(f"plug-in {path} not found, or no .py file")
    with blamed(path, "plug-in"):
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


@cache
def load_module(path: Path) -> Any:
    """The module in the file `path`, imported once a process."""
    name = f"loreun_plugin_{path.stem}_{zlib.crc32(str(path).encode()):08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def call_reference(reference: str, what: str, *args: Any, **options: Any) -> Any:
    """Call the function that `FILE.py:NAME` names. UserError if the file or name is missing, or the function raises."""
    file, _, name = reference.rpartition(":")
    path = load_plugin(file)
    function = getattr(load_module(path), name, None)
    if not callable(function):
        raise UserError(f"{what} '{reference}': {file} has no function '{name}'")
    with blamed(path, what):
        return function(*args, **options)


def _require_dataclass(kind: str, name: str, cls: type) -> None:
    if not dataclasses.is_dataclass(cls) or "__dataclass_fields__" not in vars(cls):
        raise UserError(f"{kind} '{name}': {cls.__name__} must be decorated with @dataclass(frozen=True)")
    if not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise UserError(f"{kind} '{name}': {cls.__name__} must be frozen, @dataclass(frozen=True)")
