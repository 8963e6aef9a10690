"""Names beside points, none over another or over a point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from loreun_bench.report.charts.sketch import wide

Box = tuple[float, float, float, float]  # left, top, right, bottom
NEAR, FAR = 7.0, 16.0  # from a point


class Boxes:
    """What is taken of a rectangle: add the points with `block`, then `place` the names, the dearest first."""

    def __init__(self, left: float, top: float, right: float, bottom: float) -> None:
        self._whole = (left, top, right, bottom)
        self._taken: list[Box] = []

    def block(self, x: float, y: float, radius: float) -> None:
        """Nothing is written over this point."""
        self._taken.append((x - radius, y - radius, x + radius, y + radius))

    def place(self, x: float, y: float, text: str, size: float) -> tuple[float, float] | None:
        """Where the text starts, and its base line; None where it has no room near the point."""
        width = wide(text, size)
        for left, base in _around(x, y, width, size):
            box = (left, base - 0.8 * size, left + width, base + 0.2 * size)
            if self._free(box):
                self._taken.append(box)
                return left, base
        return None

    def _free(self, box: Box) -> bool:
        left, top, right, bottom = self._whole
        inside = box[0] >= left and box[1] >= top and box[2] <= right and box[3] <= bottom
        return inside and not any(_overlap(box, other) for other in self._taken)


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _around(x: float, y: float, width: float, size: float) -> Iterator[tuple[float, float]]:
    """Starts of a text near a point: at its right and left, above and below, then a little further away."""
    middle = y + 0.3 * size
    for off in (0.0, -0.6 * size, 0.6 * size):
        yield x + NEAR, middle + off
        yield x - NEAR - width, middle + off
    for far in (NEAR, FAR):
        for left in (x - width / 2, x, x - width):
            yield left, y - far - 0.2 * size
            yield left, y + far + 0.8 * size


def spread(wanted: Sequence[float], apart: float, low: float, high: float) -> list[float]:
    """Places in the order of the ascending `wanted`, near them, at least `apart`, and from low to high if they have room."""
    found: list[float] = []
    for place in wanted:
        found.append(max(place, found[-1] + apart if found else low))
    end = high
    for i in reversed(range(len(found))):
        found[i] = min(found[i], end)
        end = found[i] - apart
    return found
