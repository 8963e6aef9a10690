"""Draws a run's ToW for every method × weighting, with the band of noise that retraining has of itself.

python benchmarks/figure.py RUN_DIR OUT.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from loreun_bench import load_records
from loreun_bench.report import noise
from loreun_bench.report.table import REFERENCES, Group, build

COLOURS = {"none": "0.45", "w_f": "C0", "w_r": "C1", "w_f+w_r": "C2", "loreun-s": "C3", "loreun-d": "C4"}


def draw(axes: plt.Axes, group: Group) -> None:
    """One scenario: a point with its 95 % interval for each row, method by method."""
    rows = [row for row in group.rows if row.method not in REFERENCES and row.complete]
    names = list(COLOURS)
    rows.sort(key=lambda row: (row.run, row.method, names.index(row.weighting) if row.weighting in names else len(names)))
    for x, row in enumerate(rows):
        value = row.cells["tow"].value
        low, high = value.interval or (value.mean, value.mean)
        sides = [[value.mean - low], [high - value.mean]]
        axes.errorbar(x, value.mean, yerr=sides, color=COLOURS.get(row.weighting, "C5"), fmt="o", capsize=3)
    for run in dict.fromkeys(row.run for row in group.rows):
        found = noise.band(group, run)
        if found is not None and found.interval is not None:
            axes.axhspan(*found.interval, color="k", alpha=0.12, lw=0, label="within the noise of retraining (Retrain-2)")
            axes.axhline(found.mean, color="k", lw=0.8, ls="--")
    axes.set_xticks(range(len(rows)), [f"{row.method} {row.weighting}" for row in rows], rotation=90, fontsize=7)
    axes.grid(axis="y", lw=0.3)
    axes.set_ylabel("ToW (1: as Retrain)")
    axes.set_title(group.title, fontsize=9)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower left", fontsize=7)


def main(run: Path, out: Path) -> None:
    """Draw all scenarios of a run below each other."""
    groups = build([(run.name, load_records(run))])
    figure, axes = plt.subplots(len(groups), 1, figsize=(9, 3.6 * len(groups)), squeeze=False)
    for place, group in zip(axes[:, 0], groups, strict=True):
        draw(place, group)
    figure.tight_layout()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
