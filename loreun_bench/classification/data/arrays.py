"""A data set in memory, and what it must be like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loreun_bench.errors import UserError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Arrays:
    """A data set in memory: images uint8 [N, H, W, C] (or [N, H, W]), labels integers [N] from 0."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def checked(name: str, arrays: Arrays) -> Arrays:
    """`arrays` with four-dimensional uint8 images and int64 labels; UserError naming what is wrong."""
    import numpy as np

    images = [a[..., None] if a.ndim == 3 else a for a in map(np.asarray, (arrays.train_images, arrays.test_images))]
    labels = [np.asarray(a) for a in (arrays.train_labels, arrays.test_labels)]
    for part, x, y in zip(("train", "test"), images, labels, strict=True):
        if x.dtype != np.uint8 or x.ndim != 4:
            raise UserError(f"data set '{name}': {part} images must be uint8 [N, H, W, C], got {x.dtype} {x.shape}")
        if y.shape != x.shape[:1] or not np.issubdtype(y.dtype, np.integer):
            raise UserError(f"data set '{name}': {part} labels must be integers [{len(x)}], got {y.dtype} {y.shape}")
        if min(x.shape[1:]) < 1 or x.shape[3] > 4:
            raise UserError(f"data set '{name}': {part} images have shape {x.shape[1:]}, expected (height, width, 1 to 4)")
        if len(y) == 0 or y.min() < 0 or y.max() > labels[0].max() or not 1 <= labels[0].max() < len(labels[0]):
            raise UserError(f"data set '{name}': {part} labels must be from 0 to classes-1, of 2 classes or more")
    if images[0].shape[1:] != images[1].shape[1:]:
        raise UserError(f"data set '{name}': train images {images[0].shape[1:]} differ from test {images[1].shape[1:]}")
    train_labels, test_labels = (a.astype(np.int64) for a in labels)
    return Arrays(images[0], train_labels, images[1], test_labels)
