"""The pictures of a table's rows as strips, small enough to be part of the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loreun_bench.errors import UserError
from loreun_bench.harness.records import Record
from loreun_bench.report.figures.blur import Boxes
from loreun_bench.report.figures.grid import Gathered, gather
from loreun_bench.report.group import Group
from loreun_bench.report.page.view import short
from loreun_bench.report.rows import seeds_of

SIDES = 96, 64, 48, 32  # pixels of a picture, the largest that fits
LEAST = 64  # pixels of the page that a smaller one is shown in
COLUMNS = 8
Find = Callable[[Record], "Path | None"]  # the folder of a record's pictures, if they are still stored


@dataclass(frozen=True)
class Strip:
    """A row's pictures in one. url: its bytes as a data: URI; width, height: in pixels; times: how much it is enlarged."""

    name: str
    url: str
    alt: str
    width: int
    height: int
    times: int


@dataclass(frozen=True)
class Strips:
    """Rows of the same prompts and seeds. note: what was hidden."""

    rows: Sequence[Strip]
    prompts: Sequence[str]
    seed: str
    note: str

    @property
    def size(self) -> int:
        """Characters that they take."""
        return sum(len(row.url) for row in self.rows)


def strips(group: Group, find: Find, boxes: Callable[[], Boxes | None], budget: int) -> tuple[Strips | None, str]:
    """The pictures of the group's first seed, within a budget of characters; without them, and with some missing, why.

    boxes: as for `gather`.
    """
    first = next((record.seeds for row in group.rows for record in row.finished), {})
    found = [(row, record) for row in group.rows for record in row.finished if record.seeds == first]
    folders = [(short(_label(row, group)), find(record)) for row, record in found]
    there = [(name, folder) for name, folder in folders if folder is not None]
    if not there:
        return None, "The store on the machine that made this page holds no pictures of these rows."
    lost = [name for name, folder in folders if folder is None]
    said = f"The store holds no pictures of {', '.join(lost)}." if lost else ""
    try:
        gathered = gather(there, columns=COLUMNS, boxes=boxes)
    except UserError:  # it names a path, which is nothing to a reader
        return None, "No pictures are shown: those in the store are damaged, or not of the same prompts and seeds."
    seed = " ".join(f"{name} {value}" for name, value in seeds_of(found[0][1]))
    for side in SIDES:
        made = Strips([*_rows(gathered, side)], [short(prompt) for prompt in gathered.prompts], seed, gathered.note)
        if made.size <= budget:
            return made, said
    return None, "Pictures are left out: this page would grow too large."


def _label(row: Any, group: Group) -> str:
    several = len({row.run for row in group.rows}) > 1
    return f"{row.run}: {row.name}" if several else str(row.name)


def _rows(found: Gathered, side: int) -> Any:
    alt = f"{len(found.prompts)} pictures{', ' + found.note if found.note else ''}: {'; '.join(map(short, found.prompts))}"
    for label, pictures in zip(found.labels, found.pictures, strict=True):
        strip = _strip(pictures, side)
        times = max(1, min(LEAST, side) // strip.height)
        yield Strip(label, _url(strip), f"{label}, {short(alt)}", strip.width, strip.height, times)


def _strip(pictures: Sequence[Any], side: int) -> Any:
    """The pictures beside one another on white, none larger than `side`."""
    from PIL import Image

    small = []
    for pixels in pictures:
        image = Image.fromarray(pixels)
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        small.append(image)
    size = max(max(image.size) for image in small)
    gap = max(1, size // 24)
    strip = Image.new("RGB", ((size + gap) * len(small) - gap, size), "white")
    for number, image in enumerate(small):
        strip.paste(image, (number * (size + gap), 0))
    return strip


def _url(image: Any) -> str:
    """The image as a data: URI, in the smaller of two formats."""
    best = min((_encoded(image, "PNG", optimize=True), _encoded(image, "JPEG", quality=80)), key=lambda pair: len(pair[1]))
    return f"data:image/{best[0].lower()};base64,{base64.b64encode(best[1]).decode()}"


def _encoded(image: Any, form: str, **options: Any) -> tuple[str, bytes]:
    out = io.BytesIO()
    image.save(out, form, **options)
    return form, out.getvalue()
