"""A folder of pictures, one folder a class: what a path as the name of a data set stands for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from loreun_bench.errors import UserError, did_you_mean
from loreun_bench.generation.scoring.images import BAD, ENDINGS, decode
from loreun_bench.generation.scoring.pictures import Pictures

if TYPE_CHECKING:
    from PIL.Image import Image

SPLITS = {"train": ("train",), "test": ("test", "val")}  # the folders that may hold a split
TEST_SHARE = 5  # every fifth picture of a class is kept for the test


def folder(root: Path, split: str) -> Pictures:
    """The pictures under `root`: its train/, or its test/ or val/, or if it has none of these, its classes.

    Without such folders every fifth picture of a class, by name, is the test split; a folder that is itself called
    train, test or val belongs to that split whole. Class names are folder names with spaces for underscores. UserError
    if a class, the split or every picture is missing; pictures are decoded when they are asked for.
    """
    names = of_split(split)
    if not root.is_dir():
        raise UserError(f"picture folder {root} is not there: give a folder with one folder of pictures a class")
    splits = [name for each in SPLITS.values() for name in each if (root / name).is_dir()]
    own = next((name for name in names if name in splits), None)
    if splits and own is None:
        raise UserError(f"picture folder {root} has {splits[0]}/ but no {'/ or '.join(names)}/")
    where = root / own if own else root
    found = {path.name.replace("_", " "): pictures_in(path) for path in _classes(where)}
    if not splits and root.name not in names:
        found = {name: _part(paths, split) for name, paths in found.items()}
        for name, paths in found.items():
            if not paths:
                raise UserError(f"picture folder {root}: class '{name}' has too few pictures to keep a fifth for the test")
    return of_files(found)


def of_split(split: str) -> tuple[str, ...]:
    """The folders that may hold a split. UserError for another name than train or test."""
    if split not in SPLITS:
        raise UserError(f"unknown split '{split}'; {did_you_mean(split, SPLITS)}")
    return SPLITS[split]


def pictures_in(path: Path) -> list[Path]:
    """Every picture under `path` by name, hidden ones left out. UserError if there is none."""
    inner = (p for p in path.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
    found = sorted(p for p in inner if not any(part.startswith(".") for part in p.relative_to(path).parts))
    if not found:
        raise UserError(f"{path} holds no picture ({', '.join(sorted(ENDINGS))}): fill the folder or take it away")
    return found


def of_files(classes: dict[str, list[Path]]) -> Pictures:
    """Pictures in files, class by class, read when they are asked for: turned upright, resized and cut to a square."""
    paths = [path for own in classes.values() for path in own]
    labels = [label for label, own in enumerate(classes.values()) for _ in own]

    def load(positions: Tensor, size: int) -> Tensor:
        read = [_read(paths[i], size) for i in positions.tolist()]
        return torch.stack(read).float().div_(127.5).sub_(1) if read else torch.empty(0, 3, size, size)

    return Pictures(tuple(classes), torch.tensor(labels, dtype=torch.int64), load, tuple(paths))


def square(image: Image, size: int) -> Image:
    """The middle of the picture at size × size pixels: its shorter side is resized to `size`, the longer one cut."""
    from PIL import Image as images

    width, height = image.size
    scale = size / min(width, height)
    wide, high = max(size, round(width * scale)), max(size, round(height * scale))
    if (wide, high) != (width, height):
        image = image.resize((wide, high), images.Resampling.BICUBIC)
    left, top = (wide - size) // 2, (high - size) // 2
    return image.crop((left, top, left + size, top + size))


def _classes(where: Path) -> Sequence[Path]:
    found = sorted(path for path in where.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not found:
        raise UserError(f"picture folder {where} has no folders in it: put each class's pictures into one with its name")
    names = [path.name.replace("_", " ") for path in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UserError(f"picture folder {where} has two folders for the class '{twice}': rename one")
    return found


def _part(paths: list[Path], split: str) -> list[Path]:
    return paths[::TEST_SHARE] if split == "test" else [p for i, p in enumerate(paths) if i % TEST_SHARE]


def _read(path: Path, size: int) -> Any:
    """[3, size, size] uint8. UserError that names a picture which cannot be decoded."""
    import numpy as np
    from PIL import Image

    try:
        image = Image.fromarray(decode(path).permute(1, 2, 0).numpy())
    except BAD as error:
        raise UserError(f"picture {path} cannot be read ({error}): replace it or take it away") from error
    return torch.from_numpy(np.array(square(image, size))).permute(2, 0, 1)
