"""SVHN, from torchvision."""

from __future__ import annotations

from pathlib import Path

from loreun_bench.classification.data.arrays import Arrays
from loreun_bench.decorators import dataset

TRAIN = (4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659)
TEST = (1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595)


@dataset(
    "svhn", shape=(32, 32, 3), classes=10, paper="Netzer et al., 2011", counts=(TRAIN, TEST), mean=(0.4377, 0.4438, 0.4728)
)
def svhn(root: Path, download: bool) -> Arrays:
    """99289 house-number digits, 32×32 colour; 26032 are the test set."""
    from loreun_bench.classification.data.sources import torchvision_arrays

    return torchvision_arrays("SVHN", root, download, split=True)
