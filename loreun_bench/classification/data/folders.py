"""Folders of pictures, one folder a class: what is in them, and the pictures read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from loreun_bench.classification.data.arrays import Arrays
from loreun_bench.errors import UserError, did_you_mean
from loreun_bench.harness.files import sha256_file
from loreun_bench.pictures import BAD, ENDINGS, PARTS, each_of, folders_in, opened, part_of, pictures_in, upright

if TYPE_CHECKING:
    import numpy as np

LOOKED_AT = 200  # pictures whose size is read to suggest one
COMMON = 64  # the largest size suggested


@dataclass(frozen=True)
class Found:
    """The pictures of a folder, none of them read: by part (path, class, folder inside the class or "")."""

    root: Path
    parts: dict[str, list[tuple[Path, str, str]]]
    note: str = ""

    def paths(self, part: str) -> list[Path]:
        """Where a part's pictures lie."""
        return [path for path, _, _ in self.parts.get(part, ())]

    def files(self, part: str) -> tuple[str, ...]:
        """The pictures' names, as seen from the folder."""
        return tuple(path.relative_to(self.root).as_posix() for path in self.paths(part))


def find(root: Path) -> Found:
    """What is in a folder with train/ and test/ (or val/ and other usual names), with train/ alone, or with the classes.

    A folder inside a class is a subclass. UserError for a test class that training lacks, and for a class without a
    picture.
    """
    where = {part: path for part in PARTS if (path := part_of(root, part)) is not None}
    if "test" in where and "train" not in where:
        raise UserError(f"picture folder {root} has {where['test'].name}/ but no train/: add it, or give {where['test']}")
    where = where or {"train": root}
    classes = {part: _classes(path) for part, path in where.items()}
    if len(classes["train"]) == 1:
        name, only = next(iter(classes["train"].items()))
        hint = f"did you mean {only}?" if folders_in(only) else "add the other classes"
        raise UserError(f"picture folder {where['train']} has one class, '{name}': {hint}")
    strange = next((name for name in classes.get("test", ()) if name not in classes["train"]), None)
    if strange is not None:
        hint = did_you_mean(strange, classes["train"])
        raise UserError(f"picture folder {root}: class '{strange}' of {where['test'].name}/ is not in training; {hint}")
    parts = {
        part: [(path, name, _inner(path, folder)) for name, folder in own.items() for path in pictures_in(folder)]
        for part, own in classes.items()
    }
    return Found(root, parts, "; ".join(_notes(root, where)))


def hashes(found: Found) -> dict[str, list[str]]:
    """The SHA-256 of every picture, by part. UserError naming one that cannot be opened."""
    what = f"pictures of {found.root}/ (hashed)"
    return {part: list(each_of(found.paths(part), sha256_file, what)) for part in found.parts}


def read(found: Found, size: int) -> Arrays:
    """The pictures as RGB, each stretched to size × size. UserError naming those that are broken."""
    import numpy as np

    pixels = {part: np.empty((len(own), size, size, 3), np.uint8) for part, own in found.parts.items()}
    for part, x in pixels.items():
        what = f"pictures of {found.root}/ (read)"
        for at, picture in enumerate(each_of(found.paths(part), partial(_stretched, size), what)):
            x[at] = picture
    labels = {part: [name for _, name, _ in own] for part, own in found.parts.items()}
    fine = _subclasses(found)
    return Arrays(
        pixels["train"], labels["train"], pixels.get("test"), labels.get("test"),
        train_files=found.files("train"), test_files=found.files("test"),
        train_subclasses=fine.get("train"), test_subclasses=fine.get("test"), note=found.note,
    )  # fmt: skip


def suggestion(found: Found) -> str:
    """An image size that suits these pictures, and why, for a message."""
    sizes: Counter[tuple[int, int]] = Counter()
    for path, _, _ in found.parts["train"][:LOOKED_AT]:
        try:
            with opened(path) as image:
                sizes[image.size] += 1
        except BAD:  # whoever reads it says so
            continue
    if not sizes:
        return f"image_size: {COMMON}"
    (width, height), _ = sizes.most_common(1)[0]
    return f"image_size: {min(width, height, COMMON)} (most are {width}×{height})"


def _classes(folder: Path) -> dict[str, Path]:
    found = {path.name: path for path in folders_in(folder)}
    if not found:
        raise UserError(f"picture folder {folder} has no folders in it: put each class's pictures into one with its name")
    return found


def _inner(path: Path, folder: Path) -> str:
    parts = path.relative_to(folder).parts
    return parts[0] if len(parts) > 1 else ""


def _subclasses(found: Found) -> dict[str, list[str]]:
    """A name for each picture's folder inside its class, or nothing where these folders tell no pictures apart."""
    pairs = {(name, inner) for own in found.parts.values() for _, name, inner in own}
    if len(pairs) == len({name for name, _ in pairs}):
        return {}
    often = Counter(inner or name for name, inner in pairs)

    def called(name: str, inner: str) -> str:
        return (inner or name) if often[inner or name] == 1 else f"{name}/{inner}" if inner else name

    return {part: [called(name, inner) for _, name, inner in own] for part, own in found.parts.items()}


def _notes(root: Path, where: dict[str, Path]) -> Iterator[str]:
    """What lies in the folder and is not read."""
    known = {name for names in PARTS.values() for name in names}
    others = [p.name for p in folders_in(root) if p not in where.values() and p.name.casefold() in known]
    if others:
        yield f"left out: {', '.join(f'{name}/' for name in others)}"
    names = [name for path in where.values() for name in sorted(os.listdir(path)) if not name.startswith(".")]
    loose = [name for name in names if os.path.splitext(name)[1].lower() in ENDINGS]
    if loose:
        yield f"{len(loose)} pictures lie in no class's folder and are left out, such as {loose[0]}"


def _stretched(size: int, path: Path) -> np.ndarray:
    import numpy as np

    return np.asarray(upright(path).resize((size, size)))
