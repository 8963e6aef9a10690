"""A folder of pictures, one folder a class: what a path as the name of a data set stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from loreun_bench.errors import UserError, did_you_mean
from loreun_bench.generation.scoring.pictures import Pictures
from loreun_bench.names import twice
from loreun_bench.pictures import BAD, PARTS, TEST_SHARE, folders_in, part_of, pictures_in, square, upright, why


def folder(root: Path, split: str) -> Pictures:
    """The pictures under `root`: its train/, or its test/ or val/, or if it has none of these, its classes.

    Without such folders every fifth picture of a class, by name, is the test split; a folder that is itself called
    train, test or val belongs to that split whole and has no other. Class names are folder names with spaces for
    underscores, numbered in the order of their folders' names as text, as in the classification track. UserError if a
    class, the split or every picture is missing; pictures are decoded when they are asked for.
    """
    checked_split(split)
    if not root.is_dir():
        raise UserError(f"picture folder {root} is not there: give a folder with one folder of pictures a class")
    parts = {part: where for part in PARTS if (where := part_of(root, part)) is not None}
    if parts and split not in parts:
        other = "train/" if split == "train" else "test/ or val/"
        raise UserError(f"picture folder {root} has {next(iter(parts.values())).name}/ but no {other}")
    found = {name: pictures_in(path) for name, path in _classes(parts.get(split, root)).items()}
    if len(parts) == len(PARTS):
        return of_files({name: found[name] for name in _agreed(parts)})
    itself = next((part for part in PARTS if root.name.casefold() in PARTS[part]), None)
    if not parts and itself not in (None, split):
        raise UserError(f"picture folder {root} is a {itself} split alone: give the folder that it is in")
    if not parts and itself is None:
        found = {name: _part(paths, split) for name, paths in found.items()}
        for name, paths in found.items():
            if not paths:
                raise UserError(f"picture folder {root}: class '{name}' has too few pictures to keep a fifth for the test")
    return of_files(found)


def checked_split(split: str) -> None:
    """UserError for another split than train or test."""
    if split not in PARTS:
        raise UserError(f"unknown split '{split}'; {did_you_mean(split, PARTS)}")


def of_files(classes: dict[str, list[Path]]) -> Pictures:
    """Pictures in files, class by class, read when they are asked for: turned upright, resized and cut to a square."""
    paths = [path for own in classes.values() for path in own]
    labels = [label for label, own in enumerate(classes.values()) for _ in own]

    def load(positions: Tensor, size: int) -> Tensor:
        read = [_read(paths[i], size) for i in positions.tolist()]
        return torch.stack(read).float().div_(127.5).sub_(1) if read else torch.empty(0, 3, size, size)

    return Pictures(tuple(classes), torch.tensor(labels, dtype=torch.int64), load, tuple(paths))


def _classes(where: Path) -> dict[str, Path]:
    """The folder of each class, by its name, in the order of the folders."""
    found = folders_in(where)
    if not found:
        raise UserError(f"picture folder {where} has no folders in it: put each class's pictures into one with its name")
    names = [path.name.replace("_", " ") for path in found]
    if (name := twice(names)) is not None:
        raise UserError(f"picture folder {where} has two folders for the class '{name}': rename one")
    return dict(zip(names, found, strict=True))


def _agreed(parts: dict[str, Path]) -> list[str]:
    """The classes of both parts: numbered alike, as a class that one lacks would rename all that follow."""
    classes = {part: list(_classes(where)) for part, where in parts.items()}
    for part, other in (("train", "test"), ("test", "train")):
        lacking = next((name for name in classes[part] if name not in classes[other]), None)
        if lacking is not None:
            where = parts[part].name
            raise UserError(f"picture folder {parts[other]} lacks the class '{lacking}' of {where}/: add it or take it away")
    return classes["train"]


def _part(paths: list[Path], split: str) -> list[Path]:
    return paths[::TEST_SHARE] if split == "test" else [p for i, p in enumerate(paths) if i % TEST_SHARE]


def _read(path: Path, size: int) -> Any:
    """[3, size, size] uint8. UserError that names a picture which cannot be decoded."""
    import numpy as np

    try:
        return torch.from_numpy(np.array(square(upright(path), size))).permute(2, 0, 1)
    except BAD as error:
        raise UserError(f"picture {path} cannot be read ({why(path, error)}): replace it or take it away") from error
