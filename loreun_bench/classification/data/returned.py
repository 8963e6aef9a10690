"""Data sets as functions and files name them: four arrays, arrays by any of the usual names, torchvision's pairs."""

from __future__ import annotations

import contextlib
import os
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from loreun_bench.classification.data.arrays import Arrays
from loreun_bench.errors import UserError
from loreun_bench.pictures import counted, rgb
from loreun_bench.plugins import is_users

PARTS = {
    "train": ("train", "training", "tr"), "test": ("test", "testing", "te", "tst"),
    "val": ("val", "valid", "validation", "dev"),
}  # fmt: skip
KINDS = {
    "images": ("x", "image", "images", "img", "imgs", "picture", "pictures", "pixels", "data", "input", "inputs"),
    "labels": ("y", "label", "labels", "target", "targets"),
    "files": ("file", "files", "filename", "filenames"),
    "subclasses": ("subclass", "subclasses"),
}
NAMES = {
    **dict.fromkeys(("names", "classes", "classnames", "labelnames", "targetnames", "categories"), "names"),
    "subclassnames": "subclass_names",
}
SPELLINGS = {
    spelling: (part, kind)
    for (part, parts), (kind, kinds) in product(PARTS.items(), KINDS.items())
    for one, other in product(parts, kinds)
    for spelling in (one + other, other + one)
} | {other: ("train", kind) for kind, kinds in KINDS.items() for other in kinds}
EXPECTED = (
    "expected Arrays, (train images, train labels, test images, test labels), a dict with those names, or a training and a "
    "test Dataset of (picture, label)"
)


def as_arrays(what: str, value: Any, size: int | None = None) -> Arrays:
    """What a user's function returned, as Arrays that are still to be checked; PIL images become size × size if asked.

    Taken are Arrays, four arrays, Keras' two pairs, one pair (images, labels), a mapping by the usual names, and one or
    two data sets like torchvision's: of a length, and giving (picture, label). UserError for everything else.
    """
    if isinstance(value, Arrays):
        return value
    if isinstance(value, Mapping):
        return of_mapping(what, value, size)
    if _is_dataset(value):
        return of_datasets(what, {"train": value}, size)
    if isinstance(value, (tuple, list)) and len(value) == 4:
        return Arrays(*value)
    if isinstance(value, (tuple, list)) and len(value) == 2:
        if all(_is_dataset(each) for each in value):
            return of_datasets(what, dict(zip(("train", "test"), value, strict=True)), size)
        if all(isinstance(each, (tuple, list)) and len(each) == 2 for each in value):
            return Arrays(*value[0], *value[1])
        if all(hasattr(each, "shape") for each in value):
            return Arrays(*value)
    raise UserError(f"{what} returned {type(value).__name__}, {EXPECTED}")


def of_mapping(what: str, value: Mapping[str, Any], size: int | None = None) -> Arrays:
    """Arrays by name: ours (train_images), Keras' (x_train), MedMNIST's (val_images) and other usual spellings.

    Validation arrays stand in for missing test arrays; beside test arrays they are left out, which the note says, as it
    does of names that mean nothing here.
    """
    whole = {str(key).lower(): each for key, each in value.items()}
    parts = {part: whole[word] for part, words in PARTS.items() for word in words if word in whole}
    if parts.keys() >= {"train"}:
        return _of_parts(what, parts, size)
    slots: dict[tuple[str, str], str] = {}
    named, unknown = {}, []
    for key in value:
        plain = re.sub(r"[^a-z0-9]", "", str(key).lower())
        if plain in NAMES:
            named[NAMES[plain]] = tuple(map(str, value[key]))
        elif plain not in SPELLINGS:
            unknown.append(str(key))
        elif SPELLINGS[plain] in slots:
            raise UserError(f"{what}: '{slots[SPELLINGS[plain]]}' and '{key}' may both be meant: take one of them out")
        else:
            slots[SPELLINGS[plain]] = str(key)
    instead = "val" if ("test", "images") not in slots else "test"
    for part in dict.fromkeys(part for part, _ in [("train", ""), *slots]):
        for kind in ("images", "labels"):
            if (part, kind) not in slots:
                has = ", ".join(map(str, value)) or "nothing"
                raise UserError(f"{what}: array {part}_{kind} is missing (or x_{part}, y_{part}); it has {has}")
    found: dict[str, Any] = {}
    for (part, kind), key in slots.items():
        if part in ("train", instead):
            part = "train" if part == "train" else "test"
            found[f"{part}_{kind}"] = tuple(map(str, value[key])) if kind == "files" else value[key]
    notes = [_of_validation("test" if instead == "test" else "")] if any(part == "val" for part, _ in slots) else []
    notes += [f"not used: {', '.join(sorted(unknown))}"] if unknown else []
    return Arrays(**found, **named, note="; ".join(notes))


def of_datasets(what: str, parts: Mapping[str, Any], size: int | None = None) -> Arrays:
    """Every (picture, label) of one or two data sets like torchvision's; class names are their `classes`."""
    found: dict[str, Any] = {}
    names = [tuple(map(str, _attribute(data, "classes") or ())) for data in parts.values()]
    if len(set(filter(None, names))) > 1:
        raise UserError(f"{what}: training and test have the classes {names[0]} and {names[1]}: give both the same")
    for part, data in parts.items():
        pictures, labels = [], []
        for index in counted(range(len(data)), len(data), f"{part} pictures of {what}"):
            with _named(f"{what}: {part} picture", data, index):
                picture, label = _pair(what, data[index])
                pictures.append(_sized(picture, size))
            labels.append(label)
        found |= {f"{part}_images": pictures, f"{part}_labels": labels}
        if paths := _paths(data):
            found[f"{part}_files"] = tuple(Path(os.path.relpath(path, data.root)).as_posix() for path in paths)
    return Arrays(**found, names=max(names))


@contextlib.contextmanager
def _named(what: str, data: Any, index: int) -> Iterator[None]:
    """Turn what is raised inside into a UserError that names the picture, and the line of the user's that it came by."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        name = dict(enumerate(_paths(data))).get(index, str(index))
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if is_users(frame.filename)]
        line = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-1:]]
        about = ", ".join([f"{type(error).__name__}: {error}", *line])
        raise UserError(f"{what} {name} cannot be read ({about}): replace it or take it away") from error


def _paths(data: Any) -> list[str]:
    """Where the pictures of a data set like ImageFolder lie, [] if it does not say."""
    samples = getattr(data, "samples", None)
    known = isinstance(samples, list) and hasattr(data, "root") and len(samples) == len(data)
    return [path for path, *_ in samples or ()] if known else []


def _attribute(data: Any, name: str) -> Any:
    """A data set's attribute, or that of the one it is a subset of."""
    while not hasattr(data, name) and hasattr(data, "dataset"):
        data = data.dataset
    return getattr(data, name, None)


def _of_parts(what: str, parts: Mapping[str, Any], size: int | None) -> Arrays:
    """{"train": …, "test": …}, each a data set, a pair or a dict."""
    test = parts.get("test", parts.get("val"))
    chosen = {"train": parts["train"]} | ({} if test is None else {"test": test})
    note = _of_validation("test" if "test" in parts else "") if "val" in parts else ""
    if all(_is_dataset(each) for each in chosen.values()):
        arrays = of_datasets(what, chosen, size)
        return Arrays(**(vars(arrays) | {"note": note}))
    found: dict[str, Any] = {}
    for part, each in chosen.items():
        if isinstance(each, Mapping):
            one = vars(of_mapping(what, each, size))
            found |= {f"{part}_{kind}": one[f"train_{kind}"] for kind in KINDS} | {"names": one["names"]}
        elif isinstance(each, (tuple, list)) and len(each) == 2:
            found |= {f"{part}_images": each[0], f"{part}_labels": each[1]}
        else:
            raise UserError(f"{what} returned {type(each).__name__} as its {part} part, {EXPECTED}")
    return Arrays(**found, note=note)


def _of_validation(beside: str) -> str:
    return "its validation part is left out" if beside else "its validation part is the test part, as it has no other"


def _is_dataset(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and isinstance(value[0], tuple) and len(value[0]) == 2 and not getattr(value[0][1], "shape", ())
    other = isinstance(value, (tuple, Mapping, str, bytes)) or hasattr(value, "shape")
    return hasattr(value, "__getitem__") and hasattr(value, "__len__") and not other


def _pair(what: str, item: Any) -> tuple[Any, Any]:
    if isinstance(item, Mapping):  # as Hugging Face's data sets give it
        slots = {SPELLINGS.get(re.sub(r"[^a-z0-9]", "", str(key).lower())): each for key, each in item.items()}
        item = tuple(slots[key] for key in (("train", "images"), ("train", "labels")) if key in slots)
    if not isinstance(item, Sequence) or isinstance(item, str) or len(item) != 2:
        raise UserError(f"{what}: its data set gives {type(item).__name__}, expected (picture, label)")
    return item[0], item[1]


def _sized(picture: Any, size: int | None) -> Any:
    """A PIL image as grey or RGB of the size asked for; arrays and tensors as they are."""
    if not hasattr(picture, "getbands"):
        return picture
    grey = len(picture.getbands()) == 1 and picture.mode != "P"
    picture = rgb(picture).getchannel("R") if grey else rgb(picture)
    return picture if size is None else picture.resize((size, size))
