"""The original model's loss by timestep, and the curve a·exp(b·t) + c that LoReUn's weights are relative to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loreun_bench.errors import UserError
from loreun_bench.report.figures.style import COLOURS, INK, QUIET, figure, quiet, save, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = ("o", "s", "^", "D", "v")
WIDE = 20.0  # from this ratio of the largest to the least loss on, the axis is logarithmic


@dataclass(frozen=True)
class LossCurve:
    """Mean losses [n] at timesteps [n], and the fit's (a, b, c) with b per timestep, None if it was not fitted."""

    label: str
    timesteps: Sequence[float]
    losses: Sequence[float]
    fit: tuple[float, float, float] | None = None


def loss_curves(curves: Sequence[LossCurve], out: Path, *, end: int = 1000) -> Path:
    """Points and fitted curves over the timesteps from 0 to `end`; returns `out`, whose ending is the format.

    UserError if there is nothing to draw, or a curve's lists differ in length or hold something that is not finite.
    """
    _check(curves)
    drawn = figure(5.2, 3.4)
    axes = drawn.add_axes((0.13, 0.15, 0.84, 0.80))
    seen: list[float] = []
    for turn, curve in enumerate(curves):
        colour, marker = COLOURS[turn % len(COLOURS)], MARKERS[turn % len(MARKERS)]
        name = f"{words(curve.label)}: " if len(curves) > 1 else ""
        if curve.fit is not None:
            a, b, c = curve.fit
            steps = [end * i / 400 for i in range(401)]
            values = [a * math.exp(b * t) + c for t in steps]
            seen += values
            axes.plot(steps, values, color=colour, linewidth=1.6, label=f"{name}{formula(a, b, c)}", zorder=2)
        axes.plot(
            curve.timesteps, curve.losses, marker, color=colour, markersize=5, markeredgecolor="white",
            markeredgewidth=0.7, zorder=3, label=f"{name}measured",
        )  # fmt: skip
        seen += list(curve.losses)
    _finish(axes, seen, end)
    return save(drawn, out)


def _finish(axes: Axes, values: Sequence[float], end: int) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if min(values) > 0 and max(values) / min(values) >= WIDE:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=min(0.0, *values))
    axes.set_xlim(-0.015 * end, 1.015 * end)
    axes.set_xlabel("timestep t", fontsize=9, color=INK)
    axes.set_ylabel("mean loss of the original model", fontsize=9, color=INK)
    quiet(axes, "left", "bottom")
    axes.yaxis.grid(True, color="#e6e6e6", linewidth=0.6)
    axes.minorticks_off()
    axes.tick_params(colors=QUIET)
    axes.legend(frameon=False, fontsize=8.5, loc="upper right", labelcolor=INK)


def formula(a: float, b: float, c: float) -> str:
    """The fit as people read it, to three digits."""
    return f"{_signed(a)}·exp({_signed(b)}·t) {'−' if c < 0 else '+'} {abs(c):.3g}"


def _signed(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _check(curves: Sequence[LossCurve]) -> None:
    if not curves:
        raise UserError("nothing to draw: no loss curve was measured")
    for curve in curves:
        if len(curve.timesteps) != len(curve.losses) or not len(curve.losses):
            raise UserError(f"loss curve {curve.label}: {len(curve.timesteps)} timesteps, {len(curve.losses)} losses")
        if not all(map(math.isfinite, [*curve.timesteps, *curve.losses, *(curve.fit or ())])):
            raise UserError(f"loss curve {curve.label} holds a value that is not finite")
