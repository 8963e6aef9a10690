"""The forgetting score of the NeurIPS 2023 unlearning challenge: how well an attack on each sample tells models apart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from loreun_bench.decorators import metric

if TYPE_CHECKING:
    from torch import Tensor

    from loreun_bench.classification.scoring.ensembles import Ensembles

DELTA, CAP, BUCKET = 1e-5, 50.0, 0.5  # the challenge's


@metric(
    "epsilon",
    columns={"epsilon_score": "ε score", "epsilon_median": "median ε"},
    unit="",
    needs={"seeds"},
    span=(0, math.inf),
    seeds=16,
    paper="Triantafillou et al., 2024 (2406.09073), NeurIPS 2023 challenge",
)
def epsilon(outputs: Ensembles) -> dict[str, float]:
    """ε: of each forget sample, the privacy loss (delta 1e-5) that the best attack on its margin shows, which calls
    models with a margin in an interval unlearned or retrained. ε score: the challenge's mean of points, which are
    halved every 0.5, 1 for ε below 0.5. Few models bound the ε that can be seen, and the best of many attacks finds
    some by chance: retraining beside retraining does not score 1."""
    import torch

    found = epsilons(outputs.unlearned["forget"], outputs.retrained["forget"])
    buckets = 2 * math.ceil(math.log(outputs.seeds - 1))  # up to the largest ε that so many models could show
    place = (found / BUCKET).floor()
    points = torch.where(place < buckets, 0.5**place, 0.0)
    return {"epsilon_score": float(points.mean()), "epsilon_median": float(found.median())}


def epsilons(own: Tensor, other: Tensor) -> Tensor:
    """Each sample's ε [n], of margins [models, n] of as many unlearned as retrained models: the largest over all
    intervals that part no equal margins. As in the challenge an attack with one error rate of 0 does not count, and one
    without errors is worth 50."""
    import torch

    models, device = len(own), own.device
    margins, order = torch.cat([own, other]).sort(dim=0)
    inside = torch.cat([order.new_zeros(1, order.shape[1]), (order < models).cumsum(0)])  # unlearned below each cut
    rank = torch.arange(2 * models + 1, device=device).unsqueeze(1)
    table = _worth(models).to(device)
    ends = torch.ones_like(margins[:1], dtype=torch.bool)
    allowed = torch.cat([ends, margins[1:] > margins[:-1], ends])
    best = torch.zeros(own.shape[1], device=device, dtype=table.dtype)
    for start in range(2 * models):
        unlearned = inside[start + 1 :] - inside[start]
        worth = table[unlearned, rank[start + 1 :] - rank[start] - unlearned]
        fair = allowed[start + 1 :] & allowed[start]
        best = torch.maximum(best, torch.where(fair, worth, 0.0).amax(0))
    return best


def _worth(models: int) -> Tensor:
    """The ε [models + 1, models + 1] of an attack whose interval holds so many unlearned and so many retrained models."""
    import torch

    share = torch.arange(models + 1, dtype=torch.float64) / models
    unlearned, retrained = share.unsqueeze(1), share.unsqueeze(0)
    return torch.maximum(_of_rates(retrained, 1 - unlearned), _of_rates(unlearned, 1 - retrained))


def _of_rates(false: Tensor, missed: Tensor) -> Tensor:
    """ε of the rates of false positives and negatives; 0 where one of them is 0, CAP where both are."""
    import torch

    found = torch.maximum(torch.log(1 - DELTA - false) - missed.log(), torch.log(1 - DELTA - missed) - false.log())
    found = torch.where((false > 0) & (missed > 0), found.nan_to_num(0.0), 0.0)
    return torch.where((false == 0) & (missed == 0), CAP, found.clamp(0, CAP))
