"""How an item enters a registry: the decorators of methods, weightings, scenarios, metrics, data sets and models."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from loreun_bench.errors import UserError
from loreun_bench.registry import REFERENCES, TRACKS, Entry, registry

SETS = frozenset({"forget", "retain", "validation"})
NEEDS = frozenset({"model", "data", "retrain", "original", "losses", "seeds"})  # of a metric
T = TypeVar("T")


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
        if name in REFERENCES and not cls.__module__.startswith(f"{__package__}."):
            raise UserError(f"method '{name}' has the name of a row that others are compared with: give it another")
        cls.name, cls.uses = name, frozenset(uses)  # type: ignore[attr-defined]
        cls.from_scratch = getattr(cls, "from_scratch", False)  # type: ignore[attr-defined]
        return registry("methods", track).add(name, cls, paper=paper, uses=frozenset(uses), files=_files(files))

    return register


def weighting(
    name: str,
    *,
    paper: str = "",
    defaults: Mapping[str, Mapping[str, Any]] | None = None,
    tracks: Collection[str] = tuple(TRACKS),
    files: Sequence[str | Path] = (),
) -> Callable[[type[T]], type[T]]:
    """Class decorator: a loss reweighting, a frozen dataclass with `phases() -> dict[str, Phase]`, or with
    `weights(batch) -> Tensor` (loreun_bench.weightings says what either is).

    defaults: track → settings that have another default there than the class's, as the paper has one for each task.
    tracks: where it says something.
    """

    def register(cls: type[T]) -> type[T]:
        _require_dataclass("weighting", name, cls)
        if not callable(getattr(cls, "phases", None)) and not callable(getattr(cls, "weights", None)):
            raise UserError(
                f"weighting '{name}' lacks `phases`, which returns a Phase for 'forget', 'retain' or both, and `weights`, "
                "which gives each row of a batch its weight: define one"
            )
        cls.name = name  # type: ignore[attr-defined]
        about = {"defaults": dict(defaults or {}), "tracks": tuple(tracks)}
        return registry("weightings").add(name, cls, paper=paper, files=_files(files), **about)

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
        return registry("scenarios", track).add(name, cls, **told, paper=paper, files=_files(files))

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
    needs: Collection[str] = (),
    cost: Callable[[Mapping[str, int]], int] | None = None,
    seeds: int = 3,
    about_classes: bool = False,
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
    A derived metric gets the metric values of a cell and of its matched Retrain (generation: Original) and has one column;
    it is computed when a table is made, never stored. What says nothing is not among the values that it gets; one that then
    raises KeyError has no value there. optional: keys that it can do without; a table marks where one is missing.
    span: the least and greatest value that there can be, to which intervals are held; (0, 100) for percent.
    needs: what a metric asks for beside predictions or pictures, of {"model", "data", "original"}, in classification of
    {"retrain", "losses"}, too; what each of them is stands at `classification.scoring.evaluation.Outputs` and
    `generation.scene.Scene`. A sweep computes it once for all rows. {"seeds"} alone makes it a metric over seeds, of a
    `classification.scoring.ensembles.Ensembles`; it is refused below `seeds` of them.
    cost: the samples that it trains on, given the size of each set, for the plan's estimate.
    features: "classifier" or "inception": whose features of the real pictures it compares with, computed once for all rows.
    about_classes: of generation, refused for concepts and prompt files. check: called when a sweep is planned with what is
    known then (`generation.scene.Planned`); raises UserError if something that the metric needs is missing.
    """

    def register(function: T) -> T:
        ways = _ways(name, columns, best, _others(function, track))
        _check_needs(name, set(needs), track)
        bounds = span or ((0.0, 100.0) if unit == "%" else (-math.inf, math.inf))
        derived = len(inspect.signature(function).parameters) == 2  # type: ignore[arg-type]
        return registry("metrics", track).add(
            name, function, columns=dict(columns), unit=unit, best=ways, paper=paper, derived=derived, features=features,
            needs=frozenset(needs), files=_files(files), cost=cost, about_classes=about_classes, check=check, span=bounds,
            optional=tuple(optional), seeds=seeds,
        )  # fmt: skip

    return register


def _check_needs(name: str, needs: set[str], track: str) -> None:
    """UserError if a metric needs what the track has not got."""
    known = NEEDS if track == "classification" else NEEDS - {"retrain", "losses", "seeds"}  # no model was retrained
    if not needs <= known:
        raise UserError(f"metric '{name}': needs={sorted(needs)} must be of {sorted(known)}")
    if "seeds" in needs and len(needs) > 1:
        raise UserError(f"metric '{name}': one over seeds gets margins and nothing else: needs={{'seeds'}}")


def _others(function: Any, track: str) -> list[Entry]:
    """The metrics that are there before this one; of our own, which may be imported one by one, those so far."""
    own = str(getattr(function, "__module__", "")).startswith(f"{__package__}.")
    return registry("metrics", track).known(discover=not own)


def _ways(name: str, columns: Any, best: str | Mapping[str, str], others: Sequence[Entry]) -> dict[str, str]:
    """What is best for each column. UserError if a column is none, or another metric's."""
    texts = [each for pair in columns.items() for each in pair] if isinstance(columns, Mapping) else []
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise UserError(f"metric '{name}': columns must name what it returns, such as {{'forget_acc': 'UA'}}")
    for other in others:
        if other.name != name and (same := columns.keys() & other.info["columns"].keys()):
            raise UserError(f"metric '{name}': its column '{min(same)}' is one of '{other.name}': call it another")
    ways = dict.fromkeys(columns, best) if isinstance(best, str) else dict(best)
    if ways.keys() != columns.keys() or not set(ways.values()) <= {"retrain", "high", "low"}:
        raise UserError(
            f"metric '{name}': best={best!r} must be 'retrain', 'high' or 'low', or one of them for each column"
        )
    return ways


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
    parameters = vars(cls).get("__dataclass_params__")  # a base class's own do not count
    if parameters is None or not parameters.frozen:
        raise UserError(f"{kind} '{name}': {cls.__name__} must be decorated with @dataclass(frozen=True)")
