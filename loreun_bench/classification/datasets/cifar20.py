"""CIFAR-20: CIFAR-100's pictures with its 20 super-classes as labels, the 100 classes as subclasses; from torchvision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from loreun_bench.classification.data.arrays import Arrays
from loreun_bench.classification.datasets.cifar100 import MEAN, NAMES, SUPERCLASSES
from loreun_bench.decorators import dataset


def coarse(arrays: Arrays) -> Arrays:
    """CIFAR-100's arrays with the super-class as label and the class as subclass; with coarse labels they stay as they are.

    Subclasses are known only where the arrays had the 100 classes.
    """
    import numpy as np

    train, test = (np.ravel(np.asarray(labels)) for labels in (arrays.train_labels, arrays.test_labels))
    if train.dtype.kind not in "iu" or train.min() < 0 or not len(SUPERCLASSES) <= train.max() < len(NAMES) > test.max():
        return arrays
    above = {name: number for number, names in enumerate(SUPERCLASSES.values()) for name in names}
    number = np.array([above[name] for name in NAMES])
    return replace(
        arrays, train_labels=number[train], test_labels=number[test], names=tuple(SUPERCLASSES),
        train_subclasses=train, test_subclasses=test, subclass_names=NAMES,
    )  # fmt: skip


@dataset(
    "cifar20", shape=(32, 32, 3), classes=20, paper="Krizhevsky, 2009", names=tuple(SUPERCLASSES),
    counts=((2500,) * 20, (500,) * 20), mean=MEAN, adapt=coarse,
)  # fmt: skip
def cifar20(root: Path, download: bool) -> Arrays:
    """CIFAR-100's 60000 photographs in its 20 super-classes of five classes each, which are the subclasses."""
    from loreun_bench.classification.data.sources import torchvision_arrays

    return torchvision_arrays("CIFAR100", root, download)
