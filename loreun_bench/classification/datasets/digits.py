"""scikit-learn's digits: the embedded default, inside a package that is installed anyway."""

from __future__ import annotations

from pathlib import Path

from loreun_bench.classification.data.arrays import Arrays
from loreun_bench.decorators import dataset

TRAIN = (151, 161, 143, 131, 147, 154, 150, 136, 127, 138)
TEST = (27, 21, 34, 52, 34, 28, 31, 43, 47, 42)


@dataset(
    "digits", shape=(8, 8, 1), classes=10, embedded=True, paper="Alpaydin and Kaynak, UCI 1998", counts=(TRAIN, TEST),
    mean=(0.3059,),
)  # fmt: skip
def digits(root: Path, download: bool) -> Arrays:
    """1797 handwritten digits, 8×8 grey; every fifth is a test image. Needs no download."""
    import numpy as np
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = np.round(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    test = np.arange(len(labels)) % 5 == 4
    return Arrays(images[~test], labels[~test], images[test], labels[test])
