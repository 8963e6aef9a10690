"""The same prompts with the same seeds, a row a method: what unlearning did to the pictures (LoReUn's figure 3b)."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loreun_bench import reading
from loreun_bench.errors import UserError, did_you_mean
from loreun_bench.names import inside
from loreun_bench.pictures import opened
from loreun_bench.report.figures.blur import Boxes, hidden
from loreun_bench.report.figures.style import INK, QUIET, figure, save

CELL, GAP = 1.25, 0.05  # inches
LINES = 3  # of a prompt above its column
INDEX = "index.json"
EXPLICIT = re.compile(r"\b(nud|nsfw|naked|sex|porn|erotic|topless|undress)")
Index = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Gathered:
    """Pictures to be seen beside one another: [h, w, 3] uint8 by row and column, and their names.

    note: what was hidden of them, if anything was.
    """

    labels: Sequence[str]
    prompts: Sequence[str]
    pictures: Sequence[Sequence[Any]]
    note: str


def picture_grid(
    rows: Sequence[tuple[str, Path]], out: Path, *, names: Sequence[str] = (), columns: int = 8, blur: bool | None = None,
    boxes: Boxes | None = None,
) -> Path:  # fmt: skip
    """A grid of pictures, as `gather` finds them; returns `out`, whose ending is the format."""
    return _draw(gather(rows, names=names, columns=columns, blur=blur, boxes=lambda: boxes), out)


def gather(
    rows: Sequence[tuple[str, Path]], *, names: Sequence[str] = (), columns: int = 8, blur: bool | None = None,
    boxes: Callable[[], Boxes | None] = lambda: None,
) -> Gathered:  # fmt: skip
    """The same pictures of every row.

    rows: (label, folder of NAME.png and index.json); Original is put first. names: the pictures of the columns, by
    default `columns` of them, by turns of each class or concept. blur: hide faces and nudity; None: where the pictures
    are of an explicit concept or prompt, or of no class. boxes: asked, if anything is to be hidden, for what finds it; for
    want of that the whole picture is. UserError if the folders do not hold the same prompts, seeds and guidance.
    """
    rows = sorted(rows, key=lambda row: row[0] != "Original")
    found = [(label, folder, _index(folder)) for label, folder in rows]
    if not found:
        raise UserError("nothing to draw: no folder of pictures is given")
    chosen = list(names) or _choose([index for _, _, index in found], columns)
    _check(found, chosen)
    first = found[0][2]
    hide = explicit([first[name] for name in chosen]) if blur is None else blur
    pictures = [[_read(inside(folder, f"{name}.png", INDEX)) for name in chosen] for _, folder, _ in found]
    note = ""
    if hide:
        found_by = boxes()
        pictures = [[hidden(picture, found_by) for picture in line] for line in pictures]
        note = "faces and nudity blurred" if found_by is not None else "pictures blurred: no detector"
    return Gathered([label for label, _ in rows], [str(first[name]["prompt"]) for name in chosen], pictures, note)


def explicit(entries: Sequence[Mapping[str, Any]]) -> bool:
    """Whether pictures with these entries of an index may show nudity; those of no class, of which nothing is known, may."""
    return any(
        entry.get("label") is None or EXPLICIT.search(f"{entry.get('concept')} {entry.get('prompt')}".lower())
        for entry in entries
    )


def _index(folder: Path) -> Index:
    path = folder / INDEX
    index = reading.as_json(reading.text(path, "index of pictures", reading.INDEX), str(path))
    try:
        if not all("prompt" in entry and "seed" in entry for entry in index.values()):
            raise ValueError("an entry lacks its prompt or seed")
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{path} is no index of pictures: {error}") from error
    return index  # type: ignore[no-any-return]


def _choose(indices: Sequence[Index], columns: int) -> list[str]:
    """Names that all folders have, one of each class or concept by turns."""
    if columns < 1:
        raise UserError(f"a grid of {columns} columns: give 1 or more")
    groups: dict[tuple[Any, str], list[str]] = {}
    for name, entry in indices[0].items():
        if all(name in index for index in indices):
            groups.setdefault((entry.get("label"), str(entry.get("concept"))), []).append(name)
    if not groups:
        raise UserError("nothing to draw: the folders have no picture in common")
    turns = [group[turn] for turn in range(max(map(len, groups.values()))) for group in groups.values() if turn < len(group)]
    order = {name: i for i, name in enumerate(indices[0])}
    return sorted(turns[:columns], key=order.__getitem__)


def _check(found: Sequence[tuple[str, Path, Index]], names: Sequence[str]) -> None:
    _, start, first = found[0]
    for _, folder, index in found:
        for name in names:
            if name not in index:
                raise UserError(f"{folder} has no picture '{name}'; {did_you_mean(name, list(index)[:1000])}")
            for key in ("prompt", "seed", "guidance"):
                if index[name].get(key) != first[name].get(key):
                    raise UserError(
                        f"picture '{name}' was made with another {key} in {folder} than in {start}: not comparable"
                    )


def _read(path: Path) -> Any:
    import numpy as np

    with reading.told(f"picture {path} cannot be read"), opened(path) as image:
        return np.asarray(image.convert("RGB"))


def _draw(found: Gathered, out: Path) -> Path:
    labels, prompts, pictures, note = found.labels, found.prompts, found.pictures, found.note
    lines = [textwrap.wrap(label, 16) or [""] for label in labels]
    heads = [_wrapped(prompt) for prompt in prompts]
    left = 0.16 + 0.078 * max(len(line) for label in lines for line in label)
    top, bottom = 0.10 + 0.125 * max(len(head) for head in heads), 0.22 if note else 0.06
    width = left + len(prompts) * (CELL + GAP) + 0.03
    height = top + len(labels) * (CELL + GAP) + bottom
    drawn = figure(width, height)
    for row, line in enumerate(pictures):
        y = height - top - row * (CELL + GAP) - CELL
        words = "\n".join(lines[row])
        drawn.text((left - 0.1) / width, (y + CELL / 2) / height, words, ha="right", va="center", fontsize=9, color=INK,
                   parse_math=False)  # fmt: skip
        for column, picture in enumerate(line):
            x = left + column * (CELL + GAP)
            axes = drawn.add_axes((x / width, y / height, CELL / width, CELL / height))
            axes.imshow(picture, aspect="equal")
            axes.set_axis_off()
    for column, head in enumerate(heads):
        x = left + column * (CELL + GAP) + CELL / 2
        drawn.text(
            x / width,
            (height - top + 0.05) / height,
            "\n".join(head),
            ha="center",
            va="bottom",
            fontsize=7,
            color=INK,
            parse_math=False,
        )
    if note:
        drawn.text(left / width, 0.07 / height, note, ha="left", va="bottom", fontsize=7, color=QUIET)
    return save(drawn, out)


def _wrapped(prompt: str) -> list[str]:
    """The prompt in a few short lines; what does not fit is cut."""
    lines = textwrap.wrap(" ".join(prompt.split()), 24)
    if len(lines) > LINES:
        lines = [*lines[: LINES - 1], textwrap.shorten(" ".join(lines[LINES - 1 :]), 24, placeholder=" …")]
    return lines or ["(no prompt)"]
