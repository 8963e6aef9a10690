"""First lines of a plug-in of the classification track."""

TEMPLATES = {
    "method": '''"""An unlearning method."""

from dataclasses import dataclass

from loreun_bench import method
from loreun_bench.classification import GradientMethod


@method("{name}", uses={{"forget", "retain"}}, paper="")
@dataclass(frozen=True)
class {cls}Method(GradientMethod):
    """One line that `ls methods` shows: shift every forget label to the next class, keep the retain set."""

    shift: int = 1

    def forget_targets(self, labels, data, context):
        return (labels + self.shift) % data.classes
''',
    "scenario": '''"""A way to choose what is forgotten."""

from dataclasses import dataclass

import numpy as np

from loreun_bench import scenario


@scenario("{name}")
@dataclass(frozen=True)
class {cls}Scenario:
    """One line that `ls scenarios` shows: every tenth training picture in the data set's order."""

    every: int = 10

    @property
    def label(self):
        return f"{name}-{{self.every}}"

    def draw(self, labels, names, table, stream, original=None):
        return np.arange(0, len(labels), self.every)
''',
    "metric": '''"""A metric."""

from loreun_bench import metric


@metric("{name}", columns={{"{key}": "{name}"}}, unit="", best="retrain")
def {key}_metric(outputs):
    """One line that `ls metrics` shows: the largest loss on the forget set, in nats."""
    return {{"{key}": float(outputs.sets["forget"].losses.max())}}
''',
    "dataset": '''"""A data set."""

import numpy as np

from loreun_bench import dataset
from loreun_bench.classification import Arrays


@dataset("{name}", shape=(8, 8, 1), classes=4, embedded=True)
def {key}_data(root, download):
    """One line that `ls datasets` shows: four kinds of noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(500) % 4
    images = rng.integers(0, 60 * (labels[:, None, None, None] + 1), (500, 8, 8, 1)).astype(np.uint8)
    return Arrays(images[:400], labels[:400], images[400:], labels[400:])
''',
    "model": '''"""A model."""

from torch import nn

from loreun_bench import model


@model("{name}")
def {key}_model(channels, classes, size, width=64):
    """One line that `ls models` shows: a perceptron with one hidden layer."""
    inputs = channels * size[0] * size[1]
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, classes))
''',
}
