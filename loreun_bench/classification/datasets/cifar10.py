"""CIFAR-10, from torchvision."""

from __future__ import annotations

from pathlib import Path

from loreun_bench.classification.data.arrays import Arrays
from loreun_bench.decorators import dataset

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataset(
    "cifar10", shape=(32, 32, 3), classes=10, paper="Krizhevsky, 2009", names=NAMES,
    counts=((5000,) * 10, (1000,) * 10), mean=(0.4914, 0.4822, 0.4465),
)  # fmt: skip
def cifar10(root: Path, download: bool) -> Arrays:
    """60000 photographs in 10 classes, 32×32 colour; 10000 are the test set."""
    from loreun_bench.classification.data.sources import torchvision_arrays

    return torchvision_arrays("CIFAR10", root, download)
