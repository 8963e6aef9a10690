"""A drawing before it is drawn: lines, areas, markers and words on a sheet, in units of which a letter is some 7 wide."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from loreun_bench.report.figures.style import COLOURS, INK, QUIET, REFERENCE

WIDTH = 640.0  # of every sheet
SIZE = 13.0  # of letters
LETTER = 7.9  # a letter's width, or a little more
FAINT = 0.4  # opacity
LINE = 18.0  # from one line of words to the next
LOOKS = {
    "ink": INK, "quiet": QUIET, "grid": "#e6e6e6", "band": "#d9e4ec", "reference": REFERENCE,
    **{f"s{i}": colour for i, colour in enumerate(COLOURS)},
}  # fmt: skip
SHAPES: tuple[tuple[tuple[float, float], ...], ...] = (  # corners, in radii, of which a circle has none
    (),
    ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    ((0, -1.15), (1.1, 0.85), (-1.1, 0.85)),
    ((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)),
    ((0, 1.15), (1.1, -0.85), (-1.1, -0.85)),
    ((-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4), (0.4, 1.2), (-0.4, 1.2), (-0.4, 0.4),
     (-1.2, 0.4), (-1.2, -0.4), (-0.4, -0.4)),
    ((0, -0.5), (0.7, -1.2), (1.2, -0.7), (0.5, 0), (1.2, 0.7), (0.7, 1.2), (0, 0.5), (-0.7, 1.2), (-1.2, 0.7), (-0.5, 0),
     (-1.2, -0.7), (-0.7, -1.2)),
)  # fmt: skip


@dataclass(frozen=True)
class Stroke:
    """Lines through points, each line on its own. look: one of LOOKS. tip: what it is, in words, for who points at it."""

    look: str
    lines: tuple[tuple[tuple[float, float], ...], ...]
    thick: float = 1.0
    faint: bool = False
    dashed: bool = False
    tip: str = ""


@dataclass(frozen=True)
class Area:
    """A filled rectangle."""

    look: str
    x: float
    y: float
    width: float
    height: float
    tip: str = ""


@dataclass(frozen=True)
class Marker:
    """A small filled shape, a number into SHAPES, around (x, y)."""

    look: str
    shape: int
    x: float
    y: float
    radius: float = 4.0
    tip: str = ""

    @property
    def corners(self) -> tuple[tuple[float, float], ...]:
        """Of a shape that is no circle."""
        return tuple((self.x + self.radius * x, self.y + self.radius * y) for x, y in SHAPES[self.shape])


@dataclass(frozen=True)
class Words:
    """A line of text on the base line y. anchor: which part of it is at x: start, middle, or end."""

    look: str
    x: float
    y: float
    text: str
    anchor: str = "start"
    size: float = SIZE
    bold: bool = False
    tip: str = ""


Part = Stroke | Area | Marker | Words


@dataclass(frozen=True)
class Sketch:
    """A sheet WIDTH wide, y down from its top; later parts cover earlier ones."""

    height: float
    parts: Sequence[Part]


def look(turn: int) -> tuple[str, int]:
    """The look and marker's shape of the series number `turn`; the shapes go on where colours come again."""
    n = len(COLOURS)
    return f"s{turn % n}", (turn + turn // n) % len(SHAPES)


def wide(text: str, size: float = SIZE) -> float:
    """About how wide a text is."""
    letters = sum(2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in text)
    return letters * LETTER * size / SIZE


def fitted(text: str, room: float) -> str:
    """The text, cut to a width."""
    if wide(text) <= room:
        return text
    while text and wide(text) + LETTER > room:
        text = text[:-1]
    return f"{text}…"


def number(value: float) -> str:
    """A value to four digits, as people read it."""
    shown = f"{value:.4g}" if abs(value) < 1e4 or not math.isfinite(value) else f"{value:.0f}"
    return shown.replace("-", "−")
