"""A data set in memory, and what it must be like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from loreun_bench.errors import UserError
from loreun_bench.pictures import TEST_SHARE

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Arrays:
    """A data set in memory: images uint8 [N, H, W, C] (or [N, H, W]), labels integers [N].

    What is as plain in its meaning is taken, too (see `classification.data.plain`): float pictures in [0, 1], labels as
    text. Without a test part every fifth picture of each class becomes it. names: of the classes, in the order of their
    labels; files: a picture's name in the folder it came from; subclasses: integers [N], a finer class under the label,
    with their names; note: what whoever plans with these data should know.
    """

    train_images: Any
    train_labels: Any
    test_images: Any = None
    test_labels: Any = None
    names: tuple[str, ...] = ()
    train_files: tuple[str, ...] = ()
    test_files: tuple[str, ...] = ()
    train_subclasses: Any = None
    test_subclasses: Any = None
    subclass_names: tuple[str, ...] = ()
    note: str = ""


def checked(name: str, arrays: Arrays, names: Sequence[str] = ()) -> Arrays:
    """`arrays` with uint8 images [N, H, W, C], int64 labels from 0 and a name for each class; UserError for what is unclear.

    Classes are those that occur in the training part, in the order of their labels; `names` are for arrays without their
    own.
    """
    from loreun_bench.classification.data import plain

    what = f"data set '{name}'"
    whole = arrays.test_images is None and arrays.test_labels is None
    parts = ("train",) if whole else ("train", "test")
    images = plain.images(what, {part: getattr(arrays, f"{part}_images") for part in parts})
    sizes = {part: len(x) for part, x in images.items()}
    labels, found = plain.labels(
        what, {part: getattr(arrays, f"{part}_labels") for part in parts}, sizes, arrays.names, names
    )
    fine, fine_names = _subclasses(what, arrays, sizes)
    notes = [arrays.note, _unused("class", arrays.names or names, found)]
    notes += [_unused("subclass", arrays.subclass_names, fine_names)] if fine_names else []
    files = {part: _files(what, getattr(arrays, f"{part}_files"), part, size) for part, size in sizes.items()}
    done = replace(
        arrays, train_images=images["train"], train_labels=labels["train"], test_images=images.get("test"),
        test_labels=labels.get("test"), names=found, train_files=files["train"], test_files=files.get("test", ()),
        train_subclasses=fine.get("train"), test_subclasses=fine.get("test"), subclass_names=fine_names,
        note="; ".join(filter(None, notes)),
    )  # fmt: skip
    return split_here(what, done) if whole else done


def _unused(word: str, given: Sequence[str], found: Sequence[str]) -> str:
    """A note on names that are given, and are of no picture."""
    lost = [f"'{name}'" for name in map(str, given) if name not in found]
    if not lost or len(found) + len(lost) != len(given):  # other names were found than these
        return ""
    return f"no picture is of the {word} {' or '.join(lost)}, whose name is given and not used"


def split_here(what: str, arrays: Arrays) -> Arrays:
    """`arrays`, whose pictures are all in the training part, with every fifth of a class, in their order, as test part."""
    import numpy as np

    y: np.ndarray = arrays.train_labels
    test = np.zeros(len(y), bool)
    for label, name in enumerate(arrays.names):
        members = (y == label).nonzero()[0]
        if len(members) < 2:
            raise UserError(f"{what}: class '{name}' has one picture, and no test part is given: a class needs two or more")
        test[members[::TEST_SHARE]] = True
    fine = arrays.train_subclasses
    note = f"no test part is given: every fifth picture of a class is kept for it, {test.sum()} of {len(y)}"
    return replace(
        arrays, train_images=arrays.train_images[~test], train_labels=y[~test],
        test_images=arrays.train_images[test], test_labels=y[test],
        train_files=tuple(f for f, t in zip(arrays.train_files, test, strict=False) if not t),
        test_files=tuple(f for f, t in zip(arrays.train_files, test, strict=False) if t),
        train_subclasses=None if fine is None else fine[~test], test_subclasses=None if fine is None else fine[test],
        note="; ".join(filter(None, (arrays.note, note))),
    )  # fmt: skip


def _subclasses(what: str, arrays: Arrays, sizes: dict[str, int]) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    from loreun_bench.classification.data import plain

    given = {part: getattr(arrays, f"{part}_subclasses") for part in sizes}
    if all(value is None for value in given.values()):
        return {}, ()
    for part, value in given.items():
        if value is None:
            raise UserError(f"{what}: the {part} part has no subclasses, the other has: give both or none")
    return plain.labels(what, given, sizes, arrays.subclass_names, word="subclass")


def _files(what: str, files: Sequence[str], part: str, size: int) -> tuple[str, ...]:
    files = tuple(str(name) for name in files)
    if files and len(files) != size:
        raise UserError(f"{what}: {len(files)} {part} files are named, of {size} {part} pictures")
    odd = next((name for name in files if "\n" in name or "\r" in name), None)
    if odd is not None:
        raise UserError(f"{what}: the file {odd!r} has a line break in its name: rename it")
    return files
