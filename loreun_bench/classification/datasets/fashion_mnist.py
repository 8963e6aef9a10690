"""Fashion-MNIST, from torchvision."""

from __future__ import annotations

from pathlib import Path

from loreun_bench.classification.data.arrays import Arrays
from loreun_bench.decorators import dataset

NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


@dataset(
    "fashion-mnist", shape=(28, 28, 1), classes=10, paper="Xiao, Rasul and Vollgraf, 2017", names=NAMES,
    counts=((6000,) * 10, (1000,) * 10), mean=(0.2860,),
)  # fmt: skip
def fashion_mnist(root: Path, download: bool) -> Arrays:
    """70000 pictures of clothes in 10 classes, 28×28 grey; 10000 are the test set."""
    from loreun_bench.classification.data.sources import torchvision_arrays

    return torchvision_arrays("FashionMNIST", root, download)
