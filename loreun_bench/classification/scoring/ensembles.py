"""What metrics over seeds look at: every sample in the models of all seeds; and what they say of retraining alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from loreun_bench.harness.measuring import measured
from loreun_bench.harness.seeding import derive
from loreun_bench.registry import registry

GROUPS = 10  # of seeds, one of which is left out
PARTITIONS = 39  # the least and the largest of so many values hold 95 % of the next one


@dataclass(frozen=True)
class Ensembles:
    """The margins of every sample (`Predictions.margins`) by set, [seeds, n] in fp32: of a row's models, and of Retrain's
    with the same seeds. Sets are those of `Outputs` that have samples; all seeds have the same samples in the same order.
    """

    unlearned: Mapping[str, Tensor]
    retrained: Mapping[str, Tensor]

    @property
    def seeds(self) -> int:
        """How many models there are on either side."""
        return len(self.retrained["forget"])

    def of(self, chosen: Tensor) -> Ensembles:
        """Those of some seeds, by number or as a mask."""
        return Ensembles(*({k: v[chosen] for k, v in side.items()} for side in (self.unlearned, self.retrained)))


def ci95(metrics: Sequence[str], outputs: Ensembles) -> dict[str, float]:
    """By column, the half-width of the 95 % interval of a value over seeds: the delete-a-group jackknife with at most GROUPS
    groups of seeds, and Student's t. A metric has none where too few seeds for it are left (`seeds` of its decorator)."""
    from scipy.special import stdtrit

    groups = min(GROUPS, outputs.seeds)
    group = torch.arange(outputs.seeds) % groups
    left = outputs.seeds - math.ceil(outputs.seeds / groups)
    names = [name for name in metrics if registry("metrics").get(name).info["seeds"] <= left]
    found: dict[str, list[float]] = {}
    for number in range(groups):
        for key, value in measured(names, "classification", outputs.of(group != number)).items():
            found.setdefault(key, []).append(value)
    factor = float(stdtrit(groups - 1, 0.975)) * math.sqrt((groups - 1) ** 2 / groups)
    return {key: round(factor * statistics.stdev(values), 6) for key, values in found.items() if _whole(values, groups)}


def null(
    metrics: Sequence[str], retrained: Mapping[str, Tensor], again: Mapping[str, Tensor], seed: int
) -> dict[str, list[float]]:
    """By column, the range in which 95 % of the values lie if the unlearned models are retrained ones, too: [least, largest]
    of PARTITIONS random halves of two retrainings a seed, margins by set [seeds, n] each."""
    stream = torch.Generator().manual_seed(derive(seed, "null"))
    both = {name: torch.cat([retrained[name], again[name]]) for name in retrained}
    seeds, found = len(retrained["forget"]), dict[str, list[float]]()
    for _ in range(PARTITIONS):
        one, other = torch.randperm(2 * seeds, generator=stream).split(seeds)
        halves = Ensembles(*({name: values[part] for name, values in both.items()} for part in (one, other)))
        for key, value in measured(metrics, "classification", halves).items():
            found.setdefault(key, []).append(value)
    return {key: [min(values), max(values)] for key, values in found.items() if _whole(values, PARTITIONS)}


def _whole(values: Sequence[float], count: int) -> bool:
    """Whether there are as many, and all say something."""
    return len(values) == count and all(map(math.isfinite, values))
