"""How uneven the weights of a phase were, epoch by epoch."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

MOST = 20  # numbers of a phase in a record, which is a line


class WeightTally:
    """The weights of every batch of a phase, kept where they are: nobody waits for them before the end."""

    def __init__(self) -> None:
        self._epochs: dict[int, list[Tensor]] = defaultdict(list)

    def add(self, epoch: int, weights: Tensor) -> None:
        """A batch's weights [n], divided or not."""
        self._epochs[epoch].append(weights.detach())

    def state_dict(self) -> dict[str, Any]:
        """All weights in one tensor, with the epoch and the size of each batch."""
        batches = [(epoch, each) for epoch, batches in self._epochs.items() for each in batches]
        sizes = [(epoch, len(each)) for epoch, each in batches]
        return {"sizes": sizes, "weights": torch.cat([each for _, each in batches]) if batches else None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep on."""
        self._epochs.clear()
        sizes = state_dict["sizes"]
        parts = state_dict["weights"].split([size for _, size in sizes]) if sizes else ()
        for (epoch, _), part in zip(sizes, parts, strict=True):
            self.add(epoch, part)

    def summary(self) -> dict[str, list[float]]:
        """By epoch: `effective`, the effective sample size (Σw)²/Σw² as a share of the rows, a mean over batches in which a
        row counts as every other; `largest`, the largest weight of any batch as a multiple of its mean. Of more than MOST
        epochs, these many in equal steps, the first and the last among them. {} without weights."""
        rows = [_uneven(batches) for _, batches in sorted(self._epochs.items())]
        if len(rows) > MOST:
            rows = [rows[round(k * (len(rows) - 1) / (MOST - 1))] for k in range(MOST)]
        return {"effective": [e for e, _ in rows], "largest": [m for _, m in rows]} if rows else {}


def _uneven(batches: list[Tensor]) -> tuple[float, float]:
    sizes = torch.tensor([len(each) for each in batches], dtype=torch.float64)
    w = torch.nn.utils.rnn.pad_sequence([each.double().cpu() for each in batches], batch_first=True)
    sums = w.sum(1)
    share = (sums.square() / w.square().sum(1) / sizes).nan_to_num()  # weights that are all 0 are nobody's
    largest = (w.amax(1) * sizes / sums).nan_to_num()
    return round(float((share * sizes).sum() / sizes.sum()), 4), round(float(largest.max()), 3)
