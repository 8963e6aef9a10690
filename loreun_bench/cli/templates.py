"""First lines of a plug-in of each kind: each passes `check` as it is written."""

from __future__ import annotations

import keyword
import re
import sys
from pathlib import Path

from loreun_bench.errors import UserError, did_you_mean
from loreun_bench.harness.files import write_atomic
from loreun_bench.registry import registry

TEMPLATES = {
    "method": '''"""An unlearning method."""

from dataclasses import dataclass

from loreun_bench import method
from loreun_bench.classification.method import GradientMethod


@method("{name}", uses={{"forget", "retain"}}, paper="")
@dataclass(frozen=True)
class {cls}Method(GradientMethod):
    """One line that `ls methods` shows: shift every forget label to the next class, keep the retain set."""

    shift: int = 1

    def forget_targets(self, labels, data, context):
        return (labels + self.shift) % data.classes
''',
    "weighting": '''"""A loss reweighting."""

from dataclasses import dataclass

from loreun_bench import weighting
from loreun_bench.weightings import Phase


@weighting("{name}", paper="")
@dataclass(frozen=True)
class {cls}Weighting:
    """One line that `ls weightings` shows: forget samples with a large loss weigh more."""

    eta: float = 0.1

    def phases(self):
        return {{"forget": Phase("retain", self.eta)}}
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
from loreun_bench.classification.arrays import Arrays


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


def scaffold(kind: str, name: str, folder: Path) -> Path:
    """Write NAME.py into `folder` and return it. UserError if the kind is unknown, the name odd, or the file there."""
    if kind not in TEMPLATES:
        raise UserError(f"unknown kind '{kind}'; {did_you_mean(kind, TEMPLATES)}")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+._-]{0,40}", name):
        raise UserError(f"name '{name}': use a letter, then letters, digits and + . _ -")
    key = re.sub(r"\W+", "_", name).strip("_").lower()
    cls = "".join(part.capitalize() for part in key.split("_"))
    if keyword.iskeyword(key) or key in sys.stdlib_module_names:
        raise UserError(f"name '{name}': a file {key}.py would hide a module of Python; choose another name")
    path = folder / f"{key}.py"
    if path.exists():
        raise UserError(f"{path.name} exists already; choose another name or move it away")
    if any(entry.name == name for entry in registry(f"{kind}s").entries()):
        raise UserError(f"{kind} '{name}' is there already; choose another name")
    write_atomic(path, TEMPLATES[kind].format(name=name, key=key, cls=cls))
    return path
