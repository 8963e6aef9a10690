"""scikit-learn's digits."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from loreun_bench.decorators import dataset
from loreun_bench.generation.scoring.pictures import Pictures

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEST_SHARE = 5  # every fifth picture of a class is kept for the test


@dataset("digits", classes=10, embedded=True, track="generation")
def digits(root: Path, split: str) -> Pictures:
    """1797 handwritten digits of 8×8 pixels, enlarged; every fifth of a class is the test split."""
    images, labels = _all()
    test = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(len(WORDS)):
        test[(labels == label).nonzero().squeeze(1)[::TEST_SHARE]] = True
    chosen = test if split == "test" else ~test
    images, labels = images[chosen], labels[chosen]

    def load(positions: Tensor, size: int) -> Tensor:
        x = F.interpolate(images[positions], size=(size, size), mode="bilinear", align_corners=False)
        return x.expand(-1, 3, -1, -1)

    return Pictures(WORDS, labels, load)


@cache
def _all() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.tensor(found.images, dtype=torch.float32)[:, None] / 8 - 1
    return images, torch.tensor(found.target, dtype=torch.int64)
