"""KLoM: how far the distribution of a sample's margin is from that of retrained models."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from loreun_bench.decorators import metric

if TYPE_CHECKING:
    from torch import Tensor

    from loreun_bench.classification.scoring.ensembles import Ensembles

BINS, CLIP, LEAST = 20, 100.0, 1e-5  # the source's: bins between the least and the largest margin, and an empty bin's share


@metric(
    "klom",
    columns={
        "klom_forget": "KLoM forget", "klom_forget_95": "KLoM forget 95%", "klom_retain": "KLoM retain",
        "klom_test": "KLoM test",
    },
    unit="nats",
    needs={"seeds"},
    span=(0, math.inf),
    seeds=10,
    paper="Georgiev et al., 2024 (2410.23232)",
)  # fmt: skip
def klom(outputs: Ensembles) -> dict[str, float]:
    """KLoM: the divergence of a sample's margin over unlearned models from that over retrained ones, in 20 bins, in
    nats; the mean over the forget, retain and test samples, and the 95% quantile of the forget samples. Few models make
    it large by themselves, and outliers among them small: compare with what retraining has beside retraining."""
    found = {name: divergence(outputs.unlearned[name], outputs.retrained[name]) for name in ("forget", "retain", "test")}
    means = {f"klom_{name}": float(values.mean()) for name, values in found.items()}
    return means | {"klom_forget_95": float(found["forget"].quantile(0.95))}


def divergence(own: Tensor, other: Tensor) -> Tensor:
    """The Kullback-Leibler divergence of `own` from `other` [models, n] in nats, of each sample [n]. Unlike the
    source's, the last bin holds the largest margin."""
    import torch

    own, other = own.clamp(-CLIP, CLIP), other.clamp(-CLIP, CLIP)
    low, high = (torch.minimum(own.amin(0), other.amin(0)), torch.maximum(own.amax(0), other.amax(0)))
    width = torch.where(high > low, high - low, 1.0)

    def shares(margins: Tensor) -> Tensor:
        places = ((margins - low) / width * BINS).long().clamp_(max=BINS - 1).T
        ones = torch.ones(places.shape, dtype=torch.float64, device=places.device)
        return ones.new_zeros(len(places), BINS).scatter_add_(1, places, ones) / places.shape[1]

    p, q = shares(own), shares(other)
    q = torch.where(p > 0, q.clamp(min=LEAST), q)
    return (torch.xlogy(p, p) - torch.xlogy(p, q / q.sum(1, keepdim=True))).sum(1)
