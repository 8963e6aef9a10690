"""How often a detector finds each label in every method's pictures: LoReUn's figure 3a."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from loreun_bench.errors import UserError
from loreun_bench.report.figures.style import INK, QUIET, figure, looks, original_first, quiet, save, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAR = 0.15  # inches
BETWEEN = 0.9  # bars' thicknesses between two labels


def label_counts(counts: Mapping[str, Mapping[str, float]], out: Path, *, unit: str = "pictures") -> Path:
    """Horizontal bars, grouped by label, one a method; returns `out`, whose ending is the format.

    counts: method → label → count; a label that a method lacks counts 0 for it. Labels are ordered by their largest
    count, those that no method has are left out. unit: what is counted. UserError if there is nothing to draw.
    """
    methods = original_first(counts)
    most = {label: max(own.get(label, 0) for own in counts.values()) for own in counts.values() for label in own}
    labels = sorted((label for label in most if most[label] > 0), key=lambda label: (-most[label], label))
    if not methods or not labels:
        raise UserError("nothing to draw: no label was found in any picture")
    step = len(methods) + BETWEEN
    across = max(1, min(len(methods), int(5.15 / (0.2 + 0.062 * max(map(len, methods))))))  # methods in a line of the legend
    top = 0.14 + 0.18 * math.ceil(len(methods) / across)
    height = len(labels) * step * BAR + top + 0.48
    drawn = figure(6.5, height)
    axes = drawn.add_axes((0.21, 0.48 / height, 0.74, 1 - (top + 0.48) / height))
    shown = looks(methods)
    for turn, method in enumerate(methods):
        colour, hatch = shown[method]
        values = [float(counts[method].get(label, 0)) for label in labels]
        places = [i * step + turn for i in range(len(labels))]
        axes.barh(places, values, 0.86, color=colour, hatch=hatch, edgecolor="white", linewidth=0, label=words(method))
        for place, value in zip(places, values, strict=True):
            axes.annotate(
                f"{value:g}", (value, place), (3, 0), textcoords="offset points", va="center_baseline", fontsize=6.5,
                color=INK if value else QUIET,
            )  # fmt: skip
    middles = [i * step + (len(methods) - 1) / 2 for i in range(len(labels))]
    axes.set_yticks(middles, [words(readable(label)) for label in labels])
    axes.set_ylim(len(labels) * step - BETWEEN / 2 - 0.5, -0.5 - BETWEEN / 2)
    axes.set_xlim(0, 1.06 * max(most.values()))
    _finish(axes, unit)
    handles, names = axes.get_legend_handles_labels()
    order = [i for column in range(across) for i in range(column, len(names), across)]  # legends fill column by column
    drawn.legend(
        [handles[i] for i in order], [names[i] for i in order], ncols=across, frameon=False, fontsize=8,
        loc="upper left", bbox_to_anchor=(0.195, 1.0), handlelength=1.1, handletextpad=0.5, columnspacing=1.3,
    )  # fmt: skip
    return save(drawn, out)


def _finish(axes: Axes, unit: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(unit, fontsize=9, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    quiet(axes, "left")
    axes.tick_params("x", colors=QUIET)
    axes.xaxis.grid(True, color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)


def readable(label: str) -> str:
    """FEMALE_BREAST_EXPOSED as "Female breast": that it is exposed goes without saying, that it is covered does not."""
    text = label.replace("_", " ").strip().capitalize()
    return text.removesuffix(" exposed")
