"""Making parts of a picture unrecognisable before it is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels
Boxes = Callable[["Pixels"], Sequence[Box]]  # RGB [h, w, 3] uint8 → what is to be hidden
CELLS = 5  # the longer side of what is hidden is reduced to so many cells: no detail can be won back
MARGIN = 0.15  # by which a box is widened on every side


def hidden(pixels: Pixels, boxes: Boxes | None) -> Pixels:
    """A copy of the picture [h, w, 3] with the boxes that `boxes` finds blurred, all of it if there is no detector."""
    height, width = pixels.shape[:2]
    found: Sequence[Box] = [(0, 0, width, height)] if boxes is None else boxes(pixels)
    result: Pixels = pixels.copy()
    for left, top, right, bottom in found:
        wide, high = MARGIN * (right - left), MARGIN * (bottom - top)
        x0, x1 = max(0, int(left - wide)), min(width, int(right + wide) + 1)
        y0, y1 = max(0, int(top - high)), min(height, int(bottom + high) + 1)
        if x0 < x1 and y0 < y1:
            result[y0:y1, x0:x1] = _blurred(result[y0:y1, x0:x1])
    return result


def _blurred(part: Any) -> Any:
    """The part reduced to a few cells and enlarged again."""
    import numpy as np
    from PIL import Image

    height, width = part.shape[:2]
    scale = CELLS / max(height, width)
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    coarse = Image.fromarray(np.ascontiguousarray(part)).resize(small, Image.Resampling.BOX)
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
