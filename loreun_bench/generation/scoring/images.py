"""A folder's pictures: decoded in batches when they are asked for, the unreadable ones named and passed over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from loreun_bench import pictures, reading
from loreun_bench.errors import UserError
from loreun_bench.generation.data.names import plain

INDEX = "index.json"
NONE = -1  # the label of a picture that has none
_VALUES = 1 << 26  # in one batch at most: 256 MB as floats
_SLACK = 1e-4  # how far rounding in a resize may leave [0, 1]


@dataclass(frozen=True)
class Images:
    """Pictures in files.

    labels: [N] int64, -1 for a picture of no class; None if nothing is known of any. bad: found while decoding.
    """

    paths: tuple[Path, ...]
    labels: Tensor | None = None
    _bad: dict[Path, str] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, folder: Path, classes: Sequence[str] = ()) -> Images:
        """Every picture under `folder`, sorted by name. UserError if there is no folder or no picture in it.

        Labels come from the folder's index.json, else from the names of the folders that the pictures are in, where
        those are class names.
        """
        if not folder.is_dir():
            raise UserError(f"folder {folder} is not there: give a folder of pictures")
        paths = tuple(sorted(pictures.pictures_in(folder), key=lambda p: p.relative_to(folder).as_posix()))
        if (folder / INDEX).is_file():
            return _indexed(folder, paths, classes)
        return cls(paths, _labels_of_folders(folder, paths, classes))

    @classmethod
    def of(cls, paths: Sequence[Path], labels: Tensor | None = None) -> Images:
        """The pictures at `paths`, sorted; labels [N], in the order in which the paths are given."""
        order = sorted(range(len(paths)), key=lambda i: paths[i])
        if not paths:
            raise UserError("no pictures are given")
        return cls(tuple(paths[i] for i in order), None if labels is None else labels[torch.tensor(order)])

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def bad(self) -> list[tuple[Path, str]]:
        """(path, reason) of the pictures that could not be read, of those that were asked for so far."""
        return sorted(self._bad.items())

    def subset(self, positions: Tensor) -> Images:
        """The pictures at `positions` [n]; what is bad is told by both."""
        labels = None if self.labels is None else self.labels[positions]
        return Images(tuple(self.paths[i] for i in positions.tolist()), labels, self._bad)

    def batches(self, n: int, size: int | None = None) -> Iterator[Tensor]:
        """Batches [≤ n, 3, H, W] of floats in [0, 1], RGB, in order; see `numbered`."""
        for _, pixels in self.numbered(n, size):
            yield pixels

    def numbered(self, n: int, size: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """(positions [m], pixels [m, 3, H, W]) of at most n pictures each (fewer of huge ones), in order; the bad
        ones are missing.

        size: the shorter side is resized to it (antialiased), the longer one cut around the middle. Without it, a batch
        ends where a picture of another size begins.
        """
        positions: list[int] = []
        pixels: list[Tensor] = []
        for position, path in enumerate(self.paths):
            picture = self._decode(path, size)
            if picture is None:
                continue
            room = min(n, max(1, _VALUES // picture.numel()))
            if pixels and (len(pixels) >= room or pixels[0].shape != picture.shape):
                yield torch.tensor(positions), to_float(torch.stack(pixels))
                positions, pixels = [], []
            positions.append(position)
            pixels.append(picture)
        if pixels:
            yield torch.tensor(positions), to_float(torch.stack(pixels))

    def _decode(self, path: Path, size: int | None) -> Tensor | None:
        """[3, H, W] uint8, or None for a bad picture."""
        if path in self._bad:
            return None
        try:
            picture = decode(path)
        except pictures.BAD as error:
            self._bad[path] = pictures.why(path, error)
            return None
        return picture if size is None else to_uint8(resized(to_float(picture[None]), size))[0]


def decode(path: Path) -> Tensor:
    """A file's pixels [3, H, W] uint8, RGB; see `pictures.decode`, which raises one of `pictures.BAD` for a broken one."""
    return torch.from_numpy(pictures.decode(path)).permute(2, 0, 1).contiguous()


def checked(pixels: Tensor) -> Tensor:
    """`pixels` if they are floats [n, 3, H, W] in [0, 1] (up to rounding, which is cut off). UserError otherwise.

    Pictures normalised to [-1, 1] and cast to uint8 become 0, 1 and 255: a published FID was computed from those.
    """
    if pixels.ndim != 4 or pixels.shape[1] != 3:
        raise UserError(f"pictures must be [n, 3, height, width], these are {list(pixels.shape)}")
    if not pixels.is_floating_point():
        raise UserError(f"pictures must be floats in [0, 1], these are {pixels.dtype}: divide them by 255")
    if pixels.numel() == 0:
        return pixels
    low, high = (float(v) for v in pixels.aminmax())
    if not (low >= -_SLACK and high <= 1 + _SLACK):
        raise UserError(f"pictures must be floats in [0, 1], these span [{low:.3g}, {high:.3g}]: undo their normalisation")
    return pixels.clamp(0, 1)


def to_uint8(pixels: Tensor) -> Tensor:
    """Floats in [0, 1] to 0…255, rounded; UserError for anything else."""
    return (checked(pixels) * 255).round().to(torch.uint8)


def to_float(pixels: Tensor) -> Tensor:
    """0…255 to floats in [0, 1]; `to_uint8` gives the same bytes back."""
    return pixels.float() / 255


def resized(pixels: Tensor, size: int) -> Tensor:
    """[n, 3, size, size]: the shorter side resized (bilinear, antialiased), the longer one cut around the middle."""
    height, width = pixels.shape[-2:]
    scale = size / min(height, width)
    shape = max(size, round(height * scale)), max(size, round(width * scale))
    if shape != (height, width):
        pixels = F.interpolate(pixels, size=shape, mode="bilinear", align_corners=False, antialias=True)
    top, left = (shape[0] - size) // 2, (shape[1] - size) // 2
    return pixels[..., top : top + size, left : left + size].clamp(0, 1)


def _indexed(folder: Path, paths: tuple[Path, ...], classes: Sequence[str]) -> Images:
    """Labels from index.json; a picture that it names and the folder lacks is bad from the start."""
    where = folder / INDEX
    index = reading.as_json(reading.text(where, "index of pictures", reading.INDEX), str(where))
    if not isinstance(index, dict) or not all(isinstance(about, dict) for about in index.values()):
        raise UserError(f'{where} must map each picture\'s name to {{"label": …}}: mend it or take it away')
    names = [path.relative_to(folder).with_suffix("").as_posix() for path in paths]
    labels = [_label(where, name, index.get(name, {}), classes) for name in names]
    images = Images(paths, torch.tensor(labels) if any(label != NONE for label in labels) else None)
    for name in sorted(set(index) - set(names)):
        images._bad[folder / f"{name}.png"] = f"{INDEX} names it, the folder lacks it"
    return images


def _label(where: Path, name: str, about: dict[str, Any], classes: Sequence[str]) -> int:
    """By the class's name where the index gives it: whoever made the pictures may number classes otherwise."""
    label = about.get("label")
    if label is None:
        return NONE
    if classes and about.get("concept"):
        known = [plain(each) for each in classes]
        shown = plain(str(about["concept"]))
        return known.index(shown) if shown in known else NONE
    if type(label) is not int or label < 0 or (classes and label >= len(classes)):
        raise UserError(f"{where}: the label of '{name}' is {label!r}, not the number of a class or null")
    return label


def _labels_of_folders(folder: Path, paths: tuple[Path, ...], classes: Sequence[str]) -> Tensor | None:
    """By the innermost folder that is called like a class."""
    known = {plain(name): label for label, name in enumerate(classes)}
    inner = [[plain(part) for part in reversed(path.relative_to(folder).parts[:-1])] for path in paths]
    labels = [next((known[part] for part in parts if part in known), NONE) for parts in inner]
    return torch.tensor(labels) if any(label != NONE for label in labels) else None
