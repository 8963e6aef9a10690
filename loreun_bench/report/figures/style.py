"""What all figures share: colours that colour-blind readers can tell apart, quiet axes, how a file is written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from loreun_bench.errors import UserError, did_you_mean, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ENDINGS = ("png", "pdf", "svg")
INK, QUIET = "#222222", "#767676"
REFERENCE = "#a3a3a3"  # Original: what the others are compared with
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8ad00")  # Okabe and Ito's, yellow darker
HATCHES = ("", "////", "....", "xxxx")
DPI = 200


def figure(width: float, height: float) -> Figure:
    """An empty figure, in inches. UserError if matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("figures need matplotlib: pip install 'loreun-bench[plots]'") from error
    return Figure(figsize=(width, height), facecolor="white")


def save(drawn: Figure, path: Path) -> Path:
    """Write the figure in the format of the path's ending and return the path. UserError for another ending."""
    ending = path.suffix.lstrip(".").lower()
    if ending not in ENDINGS:
        raise UserError(f"figure {path}: it must end in .png, .pdf or .svg; {did_you_mean(ending, ENDINGS)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn.savefig(path, dpi=DPI)
    except OSError as error:
        raise UserError(f"figure {path} cannot be written: {error}") from error
    return path


def words(text: str) -> str:
    """Somebody's name as matplotlib shows it: neither a formula nor a character that cannot be seen."""
    return plain(text).replace("$", r"\$")


def looks(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """(colour, hatch) of each name: Original grey, the others by turns; a colour that comes again is hatched."""
    found: dict[str, tuple[str, str]] = {}
    for name in names:
        if name == "Original":
            found[name] = (REFERENCE, "")
            continue
        turn = len(found) - ("Original" in found)
        found[name] = (COLOURS[turn % len(COLOURS)], HATCHES[turn // len(COLOURS) % len(HATCHES)])
    return found


def quiet(axes: Axes, *keep: str) -> None:
    """Take away the frame but for the sides in `keep`, and the ticks; the text stays dark enough to read."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in keep)
        spine.set_color(QUIET)
    axes.tick_params(length=0, labelsize=9, colors=INK)


def original_first(names: Iterable[str]) -> list[str]:
    """The names in their order, Original before all others."""
    return sorted(names, key=lambda name: name != "Original")
