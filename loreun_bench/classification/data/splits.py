"""Who is forgotten: one object, hashed, that training, unlearning and evaluation share."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loreun_bench import config as configuration
from loreun_bench.classification.config import Scenario
from loreun_bench.errors import UserError
from loreun_bench.harness.seeding import derive, seeded
from loreun_bench.plugins import blamed, running, undisturbed

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from loreun_bench.classification.data.prepared import DataInfo
    from loreun_bench.classification.scenarios import Stream, Table


@dataclass(frozen=True)
class ForgetSplit:
    """Positions in the training part [·] int64, and the labels trained on.

    forget and retain are disjoint and make up the training set; validation is outside both; `trained` is what the
    original model saw and `selection` what was held out from it (forget ∪ retain, and validation, but for protocol
    `paper`); test leaves out what is forgotten as a whole, such as a class, whose test images are test_forget; labels
    [N]: wrong on purpose for forget samples of the mislabelled scenario; earlier: what requests before this one forgot.
    """

    trained: Tensor
    selection: Tensor
    forget: Tensor
    retain: Tensor
    validation: Tensor
    test: Tensor
    test_forget: Tensor
    labels: Tensor
    earlier: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """The fields, as a stage stores them; the store hashes them."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def to(self, device: str) -> ForgetSplit:
        """The split on `device`."""
        return ForgetSplit(**{name: tensor.to(device) for name, tensor in self.tensors().items()})


@dataclass(frozen=True)
class Population:
    """All pictures of a data set, and what a scenario may choose by.

    labels [N], test_labels [M] int64; names: of the classes, by default their numbers; table, test_table: columns, one
    entry a picture; csvs: those of a scenario's table by its path, for the training and the test part; losses [N]: of the
    original model, NaN where it was not trained; notes: what is to be said of the tables.
    """

    labels: np.ndarray
    test_labels: np.ndarray
    names: tuple[str, ...] = ()
    table: Mapping[str, np.ndarray] = field(default_factory=dict)
    test_table: Mapping[str, np.ndarray] = field(default_factory=dict)
    csvs: Mapping[str, Sequence[Mapping[str, np.ndarray]]] = field(default_factory=dict)
    losses: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def columns(self, scenario: Scenario, part: int) -> dict[str, np.ndarray]:
        """What a scenario may choose by of a part's pictures (0: training, 1: test): the data's columns and its tables'."""
        found = dict((self.table, self.test_table)[part])
        for path in files_of(scenario, "tables"):
            found |= self.csvs[path][part]
        return {name: column.copy() for name, column in found.items()}

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The classes' names."""
        return self.names or tuple(map(str, range(int(self.labels.max()) + 1)))


def population(info: DataInfo, csvs: Sequence[tuple[str, str | None]] = ()) -> Population:
    """The pictures of a prepared data set, with the columns of CSVs (path, column of file names) beside them."""
    from safetensors import safe_open

    from loreun_bench.classification.data import prepared
    from loreun_bench.classification.data.lists import read_columns

    with safe_open(prepared.verified(info.file, info.sha256), framework="numpy") as file:
        labels = [file.get_tensor(f"{part}_labels") for part in ("train", "test")]
    tables = [prepared.table(info, part) for part in ("train", "test")]
    read = {path: read_columns(Path(path), key, tables, [len(part) for part in labels]) for path, key in csvs}
    columns, notes = {path: found for path, (found, _) in read.items()}, tuple(note for _, note in read.values())
    return Population(labels[0], labels[1], tuple(info.names), tables[0], tables[1], columns, notes=notes)


def csvs_of(scenario: Scenario | None) -> list[tuple[str, str | None]]:
    """The tables that a scenario's requests choose by, each with the column of file names, if it is told."""
    asked = requests(scenario)
    return [(path, getattr(each.item, "key", None)) for each in asked for path in files_of(each, "tables")]


def files_of(scenario: Scenario, *kinds: str) -> list[str]:
    """The paths that a scenario's `files()` and `tables()` name, or one of the two. UserError if they are no texts."""
    found: list[Any] = []
    for kind in kinds:
        with blamed(scenario.entry.file, f"scenario '{scenario.kind}'"):
            paths: Any = getattr(scenario.item, kind, tuple)()
            found += [paths] if isinstance(paths, str) else list(paths)
    odd = next((path for path in found if not isinstance(path, str)), None)
    if odd is not None:
        raise UserError(f"scenario {scenario.label}: {' and '.join(kinds)} must name files, got {odd!r}")
    return list(dict.fromkeys(found))


def spelled(scenario: Scenario, names: Sequence[str]) -> Scenario:
    """The scenario with names of classes as the data spell them, so that a table does not part what is one."""
    if scenario.kind == "sequence":
        return Scenario(**scenario.model_dump() | {"requests": [spelled(each, names).spec() for each in requests(scenario)]})
    if not hasattr(scenario.item, "spelled"):
        return scenario
    return Scenario(**scenario.model_dump() | dataclasses.asdict(scenario.item.spelled(names)))


def requests(scenario: Scenario | None) -> tuple[Scenario, ...]:
    """The scenario, or those of a sequence one by one."""
    if scenario is None:
        return ()
    if scenario.kind != "sequence":
        return (scenario,)
    asked = enumerate(scenario.item.requests, 1)
    found = tuple(configuration.check(Scenario, each, f"scenario sequence: request {number}") for number, each in asked)
    for each in found:
        if each.kind == "sequence" or each.entry.info["relabels"]:
            raise UserError(f"scenario sequence: a request cannot be of kind {each.kind}; use that scenario alone")
        if each.train or each.methods or each.weightings:
            raise UserError("scenario sequence: settings of methods, weightings and training belong beside its requests")
    return found


def draw(
    labels: np.ndarray, test_labels: np.ndarray, scenario: Scenario | None = None, *, at: int = -1, **options: Any
) -> ForgetSplit:
    """The split of a scenario, or of its request number `at`; see `draw_all`."""
    return draw_all(Population(labels, test_labels), scenario, **options)[at]


def redrawn(one: ForgetSplit, other: ForgetSplit) -> bool:
    """Whether two splits forget others of the pictures that both train on."""
    import torch

    pairs = ((one, other), (other, one))
    shared = [own.forget[torch.isin(own.forget, torch.cat([its.forget, its.retain]))] for own, its in pairs]
    return not torch.equal(shared[0].sort().values, shared[1].sort().values)


def draw_all(
    people: Population,
    scenario: Scenario | None,
    *,
    validation: float,
    seed: int,
    one_split: bool = True,
    images: int | None = None,
) -> list[ForgetSplit]:
    """The split of every request, one after the other (of a scenario that is no sequence: one); without a scenario
    nobody is forgotten.

    Every draw has its own stream of `seed`, so that scenarios share their validation set, but for what a scenario names
    picture by picture, which is not held out; `images` limits training and test images (smoke runs). UserError if a
    forget or a retain set comes out empty.
    """
    import numpy as np

    asked, labels = requests(scenario), people.labels
    drawing = _Drawing(people, seed)
    explicit = [number for number, each in enumerate(asked) if each.entry.info["explicit"]]
    named = {number: drawing.named(asked[number], place) for place, number in enumerate(explicit)}
    kept = np.unique(np.concatenate([*named.values(), np.empty(0, np.int64)]))
    others = np.setdiff1d(np.arange(len(labels)), kept)
    others = _some(others, None if images is None else max(images - len(kept), 0), drawing.stream("pool"))
    test = _some(np.arange(len(people.test_labels)), images, drawing.stream("test"))
    left, held = _stratified(others, labels, validation, derive(seed, "split", "validation"))
    train = np.union1d(left, kept)
    trained, selection = train, held
    if not one_split:
        left, selection = _stratified(others, labels, validation, derive(seed + 1, "split", "validation"))
        trained = np.union1d(left, kept)
    nobody = (np.empty(0, np.int64), np.empty(0, np.int64))
    found = [_Drawn(labels.copy(), *nobody, train, np.zeros(len(people.test_labels), bool), nobody[0])]
    for number, each in enumerate(asked):
        found.append(drawing.next(each, number, found[-1], named.get(number)))
        if found[-1].gone[test].all():
            raise UserError(f"scenario {each.label}: no test image is left, all {len(test)} are of what is forgotten")
    return [each.split(trained, selection, held, test) for each in (found[1:] or found)]


@dataclass(frozen=True)
class _Drawn:
    """A request's sets: labels [N]; forgotten now, and by requests before; retained; test pictures gone by now [M]; and
    the positions of those that are gone by this request."""

    labels: np.ndarray
    forget: np.ndarray
    earlier: np.ndarray
    retain: np.ndarray
    gone: np.ndarray
    gone_now: np.ndarray

    def split(self, trained: np.ndarray, selection: np.ndarray, held: np.ndarray, test: np.ndarray) -> ForgetSplit:
        import numpy as np
        import torch

        now = np.intersect1d(test, self.gone_now)
        parts = (trained, selection, self.forget, self.retain, held, test[~self.gone[test]], now, self.labels, self.earlier)
        return ForgetSplit(*(torch.from_numpy(np.ascontiguousarray(part)) for part in parts))


class _Drawing:
    """Requests drawn from a population under a seed."""

    def __init__(self, people: Population, seed: int) -> None:
        self._people, self._seed = people, seed

    def stream(self, *name: str | int) -> np.random.Generator:
        """The generator of a draw."""
        import numpy as np

        return np.random.default_rng(derive(self._seed, "split", *name))

    def named(self, scenario: Scenario, number: int) -> np.ndarray:
        """What a scenario that names pictures one by one chooses of all; number: its place among such requests, so that it
        is the same where the others are left out."""
        import numpy as np

        return self._drawn(scenario, number, np.arange(len(self._people.labels)))[0]

    def next(self, scenario: Scenario, number: int, before: _Drawn, named: np.ndarray | None) -> _Drawn:
        """The sets after one more request."""
        import numpy as np

        people, labels = self._people, before.labels.copy()
        if named is not None:
            forget = np.intersect1d(named, before.retain)
        else:
            forget, wrong = self._drawn(scenario, number, before.retain)
            if wrong is not None:
                labels[forget] = wrong
        retain = np.setdiff1d(before.retain, forget)
        if len(forget) == 0 or len(retain) == 0:
            empty = "retain" if len(forget) else "forget"
            raise UserError(
                f"scenario {scenario.label}: the {empty} set is empty, {len(forget)} of {len(before.retain)} images are "
                "forgotten"
            )
        gone = np.zeros(len(people.test_labels), bool)
        if hasattr(scenario.item, "gone"):
            args = people.test_labels.copy(), people.classes, people.columns(scenario, 1)
            with _guarded(scenario, self._seed):
                chosen = scenario.item.gone(*args)
            gone[_checked(scenario, chosen, len(gone), "gone")] = True
        earlier = np.union1d(before.earlier, before.forget)
        return _Drawn(labels, forget, earlier, retain, before.gone | gone, np.flatnonzero(gone & ~before.gone))

    def _drawn(self, scenario: Scenario, number: int, among: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The positions that a scenario chooses of those in `among`, sorted, and the wrong labels that they get."""
        import numpy as np

        people = self._people
        table: Table = {name: column[among] for name, column in people.columns(scenario, 0).items()}
        losses = None if people.losses is None else people.losses[among]
        stream: Stream = lambda *name: self.stream(*name, *([number] if number else []))  # noqa: E731


        def drawn() -> tuple[np.ndarray, np.ndarray | None]:
            with _guarded(scenario, self._seed):
                found = scenario.item.draw(people.labels[among], people.classes, dict(table), stream, losses)
            return _parted(scenario, found, len(among))

        chosen, wrong = drawn()
        if scenario.entry.plugged and not np.array_equal(np.sort(chosen), np.sort(drawn()[0])):
            raise UserError(
                f"scenario {scenario.label}: draw chose other pictures the second time: take randomness from stream('NAME')"
            )
        if wrong is None:
            return np.sort(among[chosen]), None
        if wrong.shape != chosen.shape or not np.isin(wrong, np.arange(len(people.classes))).all():
            raise UserError(f"scenario {scenario.label}: draw must return a label of a class for each picture it chooses")
        order = np.argsort(among[chosen], kind="stable")
        return among[chosen][order], wrong[order]


@contextlib.contextmanager
def _guarded(scenario: Scenario, seed: int) -> Iterator[None]:
    """A user's scenario is blamed for what it raises, leaves this process as it was, and draws the same in every one."""
    entry = scenario.entry
    still = running(Path(entry.origin)) if entry.origin.endswith(".py") else undisturbed() if entry.plugged else None
    same = seeded(derive(seed, "split", "global")) if still else None
    nothing = contextlib.nullcontext()
    with still or nothing, same or nothing, blamed(entry.file, f"scenario '{scenario.kind}'"):
        yield


def _parted(scenario: Scenario, found: Any, n: int) -> tuple[np.ndarray, np.ndarray | None]:
    """(positions in n pictures, the wrong labels that they get) of what `draw` returned. UserError for labels of a scenario
    that does not say that it gives some: the original would not be trained on them."""
    if not (isinstance(found, tuple) and len(found) == 2 and hasattr(found[0], "__len__")):
        return _checked(scenario, found, n), None
    if not scenario.entry.info["relabels"]:
        raise UserError(f"scenario {scenario.label}: draw gives labels, too: say so with @scenario('{scenario.kind}', "
                        "relabels=True), so that the original is trained on them")  # fmt: skip
    return _checked(scenario, found[0], n), _array(scenario, found[1], "draw")


def _array(scenario: Scenario, found: Any, function: str) -> np.ndarray:
    import numpy as np

    try:
        return np.asarray(found)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"scenario {scenario.label}: {function} returned what makes no array: {error}") from error


def _checked(scenario: Scenario, chosen: Any, n: int, function: str = "draw") -> np.ndarray:
    """Positions in n pictures, each once. UserError for what else a `draw` or a `gone` may return."""
    import numpy as np

    found = _array(scenario, chosen, function)
    if found.dtype == bool and found.shape == (n,):
        found = np.flatnonzero(found)
    if found.ndim != 1 or (len(found) and not np.issubdtype(found.dtype, np.integer)):
        given = f"{function} returned {found.dtype} {list(found.shape)}"
        raise UserError(f"scenario {scenario.label}: {given}, expected positions [m] or booleans [{n}]")
    if len(found) and (found.min() < 0 or found.max() >= n or len(np.unique(found)) < len(found)):
        raise UserError(f"scenario {scenario.label}: {function} must return positions from 0 to {n - 1}, each once")
    return found.astype(np.int64)


def with_losses(people: Population, losses: np.ndarray | None) -> Population:
    """The population with the original model's losses [N]; zeros where a scenario's size is asked before there are any."""
    import numpy as np

    return replace(people, losses=np.zeros(len(people.labels)) if losses is None else losses)


def _some(indices: np.ndarray, count: int | None, rng: np.random.Generator) -> np.ndarray:
    import numpy as np

    return indices if count is None else np.sort(rng.permutation(indices)[:count])


def _stratified(pool: np.ndarray, labels: np.ndarray, share: float, seed: int) -> tuple[Any, Any]:
    """(training, validation) positions, sorted, each class in the same proportion where it can be."""
    import numpy as np
    from sklearn.model_selection import train_test_split

    if share == 0 or len(pool) == 0:
        return np.sort(pool), pool[:0]
    counts = np.bincount(labels[pool])
    classes, held = int((counts > 0).sum()), int(np.ceil(share * len(pool)))
    if held < classes or len(pool) - held < classes:
        raise UserError(
            f"validation: {share:g} of {len(pool)} training images cannot hold all of {classes} classes; give 0 for none, "
            "or another share"
        )
    strata = labels[pool] if counts[counts > 0].min() > 1 else None
    train, held = train_test_split(pool, test_size=share, random_state=seed % 2**32, stratify=strata)
    return np.sort(train), np.sort(held)
