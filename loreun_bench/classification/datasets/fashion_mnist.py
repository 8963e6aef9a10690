"""Fashion-MNIST, from torchvision."""

from __future__ import annotations

from pathlib import Path

from loreun_bench.classification.data.arrays import Arrays
from loreun_bench.registry import dataset


@dataset("fashion-mnist", shape=(28, 28, 1), classes=10, paper="Xiao, Rasul and Vollgraf, 2017")
def fashion_mnist(root: Path, download: bool) -> Arrays:
    """70000 pictures of clothes in 10 classes, 28×28 grey; 10000 are the test set."""
    from loreun_bench.classification.data.sources import torchvision_arrays

    return torchvision_arrays("FashionMNIST", root, download)
