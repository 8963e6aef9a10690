"""Images on the device: the whole data set moved once, batches cut, cropped, flipped and normalised there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from loreun_bench.classification.config import Recipe


@dataclass(frozen=True)
class Augment:
    """Random crop after zero padding by `crop` pixels, and random horizontal flip, unless the caller says what to flip."""

    crop: int = 0
    flip: bool = False

    @classmethod
    def of(cls, recipe: Recipe) -> Augment:
        """As the recipe says; flips that take turns are random for whoever does not say whose turn it is."""
        return cls(recipe.crop, bool(recipe.flip))


class Images:
    """One part of a data set: uint8 [N, H, W, C] on the device, handed out as float [B, C, H, W], channels last."""

    def __init__(self, pixels: Tensor, mean: Tensor, std: Tensor) -> None:
        self._pixels = pixels
        self._scale = 1 / (255 * std)
        self._shift = -mean / std
        self._rows = self._scale.repeat(pixels.shape[2]), self._shift.repeat(pixels.shape[2])  # [W * C]: longer inner loops
        self._padded: tuple[int, Tensor] = (0, pixels)

    def __len__(self) -> int:
        return self._pixels.shape[0]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return tuple(self._pixels.shape[1:])  # type: ignore[return-value]

    @property
    def device(self) -> torch.device:
        """Where the pixels are."""
        return self._pixels.device

    def batch(
        self, index: Tensor, augment: Augment | None = None, generator: torch.Generator | None = None,
        flipped: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """The images at `index` [B], normalised per channel; augmented with draws of `generator` if asked. flipped: which of
        them to flip, bool [B]."""
        if flipped is None and (augment is None or (augment.crop == 0 and not augment.flip)):
            pixels = self._pixels[index]
        else:
            pixels = self._augmented(index, augment or Augment(), generator, flipped)
        scale, shift = self._rows
        rows = pixels.flatten(2).to(scale.dtype).mul_(scale).add_(shift)
        return rows.view(pixels.shape).permute(0, 3, 1, 2)

    def moved(self, x: Tensor, by: Tensor) -> Tensor:
        """Normalised images x [B, C, H, W] with their pixels moved by `by`, where 1 is the full range, within the range."""
        scale, shift = (each.view(1, -1, 1, 1) for each in (255 * self._scale, self._shift))
        return ((x - shift) / scale + by).clamp(0, 1) * scale + shift

    def _augmented(
        self, index: Tensor, augment: Augment, generator: torch.Generator | None, flipped: Tensor | None
    ) -> Tensor:
        """One gather of the crops, of which whole rows are copied, then the flips."""
        count, (height, width) = len(index), self._pixels.shape[1:3]
        draw = {"generator": generator, "device": self.device}
        top, left = torch.randint(2 * augment.crop + 1, (2, count), **draw)  # type: ignore[arg-type]
        if augment.flip and flipped is None:
            flipped = torch.rand(count, generator=generator, device=self.device) < 0.5
        crops = self._pad(augment.crop).unfold(1, height, 1).unfold(2, width, 1).permute(0, 1, 2, 4, 5, 3)  # a view of all
        pixels = crops[index, top, left]
        return pixels if flipped is None else torch.where(flipped[:, None, None, None], pixels.flip(2), pixels)

    def _pad(self, by: int) -> Tensor:
        if self._padded[0] != by:
            self._padded = (by, torch.nn.functional.pad(self._pixels, (0, 0, by, by, by, by)))
        return self._padded[1]


@dataclass(frozen=True)
class Dataset:
    """Training and test images on the device, with their true labels [N] int64."""

    train: Images
    train_labels: Tensor
    test: Images
    test_labels: Tensor
    classes: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.train.shape


@lru_cache(maxsize=2)
def load_dataset(path: Path, mean: tuple[float, ...], std: tuple[float, ...], classes: int, device: str) -> Dataset:
    """The data file on `device`, kept by the process; on the CPU it stays memory-mapped until it is read."""
    from safetensors.torch import load_file

    held = load_file(path)
    tensors = {name: held[name].to(device) for name in ("train_images", "train_labels", "test_images", "test_labels")}
    statistics = torch.tensor(mean, device=device), torch.tensor(std, device=device)
    return Dataset(
        Images(tensors["train_images"], *statistics),
        tensors["train_labels"],
        Images(tensors["test_images"], *statistics),
        tensors["test_labels"],
        classes,
    )
