"""SVHN, from torchvision."""

from __future__ import annotations

from pathlib import Path

from loreun_bench.classification.data.arrays import Arrays
from loreun_bench.registry import dataset


@dataset("svhn", shape=(32, 32, 3), classes=10, paper="Netzer et al., 2011")
def svhn(root: Path, download: bool) -> Arrays:
    """99289 house-number digits, 32×32 colour; 26032 are the test set."""
    from loreun_bench.classification.data.sources import torchvision_arrays

    return torchvision_arrays("SVHN", root, download, split=True)
