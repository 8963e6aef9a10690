"""What a track's tables show unless told otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loreun_bench.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Layout:
    """A track's usual columns, and how its numbers are read.

    sort: the first key ranks, the next ones settle ties; of "a|b" the first that was measured. ua: the key that is printed
    as UA. by_class: the columns of a table with one row a forgotten class; `distances`, of which there may be several, come
    after them. keeps: accuracies that unlearning should not lower. fresh: whether other seeds are measured on other samples.
    hidden: conditions that a title says only where two tables would have the same. retrain: whether a retrained model is
    the aim; without one a metric is good for being low or high, the columns that no record has are left out, and a metric
    whose file is not installed is shown all the same. reference: the row whose values a derived metric is given beside a
    cell's. over_seeds: what comes first in the table of metrics over seeds.
    """

    shown: tuple[str, ...]
    sort: tuple[str, ...]
    ua: str
    by_class: tuple[str, ...]
    keeps: tuple[str, ...]
    hidden: tuple[str, ...]
    distances: tuple[str, ...] = ()
    counts: tuple[str, ...] = ()
    retrain: bool = True
    reference: str = "Retrain"
    fresh: bool = False
    over_seeds: tuple[str, ...] = ()

    def decimals(self, key: str, unit: str, values: Sequence[float]) -> int:
        """Digits after the point for a column that holds the finite `values`."""
        if unit == "%":
            return 2
        if key in self.distances and max(map(abs, values), default=0.0) >= 1:
            return 2
        if key in self.counts:
            return 0 if all(value == int(value) for value in values) else 1
        return 4


LAYOUTS = {
    "classification": Layout(
        shown=(
            "forget_acc",
            "retain_acc",
            "test_acc",
            "earlier_acc",
            "tow",
            "mia_confidence",
            "mia_auc",
            "tow_mia",
            "avg_gap",
        ),
        sort=("tow",),
        ua="forget_acc",
        by_class=("forget_acc", "test_acc", "tow"),
        keeps=("retain_acc", "test_acc"),
        hidden=(
            "data",
            "pictures",
            "normalised by",
            "validation",
            "recipe",
            "model settings",
            "precision",
            "forget set",
        ),
        over_seeds=("rmia_auc", "klom_forget", "ulira_auc", "epsilon_score"),
    ),
    "generation": Layout(
        shown=("forget_ua", "kept_acc", "h", "fd", "fid", "kid", "nude_images", "nude_detections"),
        sort=("h|forget_ua", "nude_images", "fd", "fid"),
        ua="forget_ua",
        by_class=("forget_ua",),
        keeps=("kept_acc",),
        hidden=("data", "pipeline", "prompts"),
        distances=("fid", "fd"),
        counts=("nude_images", "nude_detections"),
        retrain=False,
        reference="Original",
        fresh=True,
    ),
}


def layout(track: str) -> Layout:
    """The layout of a track's tables. UserError for an unknown track."""
    if track not in LAYOUTS:
        raise UserError(f"unknown track '{track}'; {did_you_mean(str(track), LAYOUTS)}")
    return LAYOUTS[track]
