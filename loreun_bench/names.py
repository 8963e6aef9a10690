"""Names of classes, as a configuration writes them and a data set has them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator

from loreun_bench.errors import UserError, did_you_mean


def as_name(value: Any) -> str:
    """A name as text: 7 is "7". ValueError for what is no name; YAML's true and false must be quoted."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"{value!r} is no name; write it in quotes")
    if not str(value).strip():
        raise ValueError("a name is empty")
    return str(value)


def as_names(value: Any) -> tuple[str, ...]:
    """One name or several, each once. ValueError for an empty list or a name given twice."""
    names = tuple(as_name(each) for each in (value if isinstance(value, (list, tuple)) else [value]))
    if not names:
        raise ValueError("at least one name is needed")
    if len(set(names)) < len(names):
        raise ValueError("a name is given twice")
    return names


LONGEST = 80  # characters of a label


def clean(name: str) -> str:
    """A name as prompts and labels have it: in one line, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in name).split())


def short(label: str) -> str:
    """A label that is not too long for a record; what was cut off is told apart by its hash."""
    return label if len(label) <= LONGEST else f"{label[: LONGEST - 10]}… {sha256(label.encode()).hexdigest()[:8]}"


T = TypeVar("T")
FORMULA = tuple("=+-@\t\r＝＋－＠")  # how a cell begins that a spreadsheet would compute


def as_cell(text: str) -> str:
    """A name as the cell of a CSV, with an apostrophe before what a spreadsheet would take for a formula."""
    return f"'{text}" if text.lstrip("'").startswith(FORMULA) else text


def of_cell(text: str) -> str:
    """The name that `as_cell` made a cell of."""
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(FORMULA) else text


def inside(folder: Path, name: str, what: str) -> Path:
    """The path of a file that somebody names, which lies in `folder`. UserError, beginning with `what`, if it leads out."""
    normal = os.path.normpath(name)
    if not name.isprintable() or os.path.isabs(normal) or normal.split(os.sep)[0] in ("..", "."):
        raise UserError(f"{what}: '{name}' is no name of a file in {folder}")
    return folder / normal


def twice(items: Iterable[T]) -> T | None:
    """The first of the items that is there more than once; None if there is none."""
    items = list(items)
    counts = Counter(items)
    return next((item for item in items if counts[item] > 1), None)


Name = Annotated[str, BeforeValidator(as_name)]
Names = Annotated[tuple[str, ...], BeforeValidator(as_names)]


def places(wanted: Sequence[str], known: Sequence[str], what: str) -> list[int]:
    """Where each of `wanted` stands in `known`, the case of letters ignored where that is clear. UserError for a name
    that is none of them; `what` begins the message."""
    folded = [name.casefold() for name in known]
    found = []
    for name in wanted:
        alike = [number for number, other in enumerate(folded) if other == name.casefold()]
        if name in known:
            found.append(list(known).index(name))
        elif len(alike) == 1:
            found.append(alike[0])
        else:
            raise UserError(f"{what}: there is no '{name}'; {did_you_mean(name, known)}")
    return found
