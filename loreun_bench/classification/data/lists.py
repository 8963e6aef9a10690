"""Lists and tables of pictures that a user brings: which of them are meant, and what is known of each."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from loreun_bench import reading
from loreun_bench.errors import UserError, did_you_mean
from loreun_bench.names import of_cell, twice
from loreun_bench.pictures import PARTS

if TYPE_CHECKING:
    import numpy as np

DELIMITERS = ",;\t|"
MOST_DIGITS = 18  # of an index: 64 bits hold them


def read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of a CSV in UTF-8, separated by commas, semicolons, tabs or bars; blank lines left out.

    UserError names the file, and the line of a row that has other columns than the header.
    """
    text = _text(path, "table")
    first = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=first.count)
    try:
        reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
        lines = [(reader.line_num, [of_cell(value.strip()) for value in row]) for row in reader if any(row)]
    except csv.Error as error:
        raise UserError(f"table {path}:{reader.line_num}: no CSV: {error}") from error
    if not lines:
        raise UserError(f"table {path} is empty")
    head = lines[0][1]
    if (name := twice(head)) is not None:
        raise UserError(f"table {path} has two columns called '{name}': rename one")
    for number, row in lines[1:]:
        if len(row) != len(head):
            raise UserError(f"table {path}:{number}: {len(row)} values for {len(head)} columns (quote one that has commas)")
    return head, [row for _, row in lines[1:]]


def read_list(path: Path, table: Mapping[str, np.ndarray], n: int) -> np.ndarray:
    """The positions [m], among n training pictures, that a .npy, .txt or .csv lists; see the scenario `indices`."""
    import numpy as np

    if not path.is_file():
        raise UserError(f"list of pictures {path} not found")
    if path.suffix == ".npy":
        return _positions(_load(path), n, path)
    if path.suffix == ".csv":
        words = _listed(path)
    else:
        words = [line.strip() for line in _text(path, "list of pictures").splitlines() if line.strip()]
    if not words:
        raise UserError(f"{path} lists no picture")
    if all(_is_number(word) for word in words):
        return np.array([int(word) for word in words], dtype=np.int64)
    if "file" not in table:
        raise UserError(f"{path}: '{next(w for w in words if not _is_number(w))}' is no index, and these data have no files")
    found = match(words, [table["file"].tolist()], str(path))
    lacking = [word for word, place in zip(words, found, strict=True) if place is None]
    if lacking:
        raise UserError(f"{path}: '{lacking[0]}' names no training picture ({len(lacking)} of {len(words)} do not)")
    return np.array([place[1] for place in found if place is not None], dtype=np.int64)


def match(words: Sequence[str], parts: Sequence[Sequence[str]], where: str) -> list[tuple[int, int] | None]:
    """(part, place in it) of the picture that each word names, None for a word that names none.

    A word and a file are one if either is the end of the other, whole folders only; their endings (.png) may be left out.
    The longest such file is meant. UserError, beginning with `where`, for a word that several pictures fit equally well.
    """
    whole: dict[str, list[tuple[int, int]]] = {}
    ends: dict[str, list[tuple[int, int]]] = {}
    for part, files in enumerate(parts):
        for number, file in enumerate(files):
            for name in {file, str(PurePosixPath(file).with_suffix(""))} if file else ():
                pieces = PurePosixPath(name).parts
                whole.setdefault("/".join(pieces), []).append((part, number))
                for start in range(1, len(pieces)):
                    ends.setdefault("/".join(pieces[start:]), []).append((part, number))

    def place(word: str) -> tuple[int, int] | None:
        pieces = PurePosixPath(word.replace("\\", "/")).parts
        found = next((whole[tail] for i in range(len(pieces)) if (tail := "/".join(pieces[i:])) in whole), None)
        found = found or ends.get("/".join(pieces)) or [None]  # type: ignore[list-item]
        if len(set(found)) > 1:
            names = " and ".join(parts[part][number] for part, number in sorted(set(found))[:2])
            raise UserError(f"{where}: '{word}' names several pictures, such as {names}: write more of the path")
        return found[0]

    return [place(word) if word.strip("/") else None for word in words]


def read_columns(
    path: Path, key: str | None, tables: Sequence[Mapping[str, np.ndarray]], counts: Sequence[int]
) -> tuple[list[dict[str, np.ndarray]], str]:
    """The columns of a CSV with an entry for each picture of each part (training, test), "" where it has no row; and a note
    on rows and pictures that have no partner. What several rows say of one picture stands on lines of its own.

    tables: what is known of the parts' pictures; counts: how many there are. UserError if no picture has a row.
    """
    import numpy as np

    head, rows = read_csv(path)
    if not rows:
        raise UserError(f"table {path} has no rows under its header")
    if key is not None and key not in head:
        raise UserError(f"table {path} has no column '{key}'; {did_you_mean(key, head)}")
    column, places = _places(path, head, rows, key, tables, counts)
    found = [{name: np.full(count, "", dtype=object) for name in head} for count in counts]
    for place, row in zip(places, rows, strict=True):
        if place is not None:
            part, number = place
            for name, value in zip(head, row, strict=True):
                before = found[part][name][number].split("\n") if found[part][name][number] else []
                found[part][name][number] = "\n".join([*before, value] if value not in before else before)
    return found, _said(path, column, places, counts[0])


def _places(
    path: Path, head: list[str], rows: list[list[str]], key: str | None, tables: Sequence[Mapping[str, np.ndarray]],
    counts: Sequence[int],
) -> tuple[str, list[tuple[int, int] | None]]:  # fmt: skip
    """By which column, "" for their order, and for each row the picture that it is about."""
    if any("file" in table for table in tables):
        files = [table["file"].tolist() if "file" in table else [] for table in tables]
        best = ""
        places: list[tuple[int, int] | None] = [None] * len(rows)
        wrong: UserError | None = None
        for name in [key] if key is not None else head:
            try:
                found = match([row[head.index(name)] for row in rows], files, f"table {path}, column '{name}'")
            except UserError as error:  # of another column, it may not be about pictures at all
                wrong = wrong or error
                continue
            if sum(place is not None for place in found) > sum(place is not None for place in places):
                best, places = name, found
        if 2 * sum(place is not None for place in places) >= len(rows):
            return best, places
        if wrong is not None:
            raise wrong
        if key is not None or "index" not in map(str.lower, head):
            example = next(each[0] for each in files if each)
            what = f"its column '{key}' does not name" if key is not None else "none of its columns names"
            raise UserError(f"table {path}: {what} pictures of the data, such as {example}, in most of its rows")
    return _by_order(path, head, rows, key, counts)


def _by_order(
    path: Path, head: list[str], rows: list[list[str]], key: str | None, counts: Sequence[int]
) -> tuple[str, list[tuple[int, int] | None]]:
    """The pictures by a column of indices (of training pictures, but for a column `part`), or the training pictures row by
    row where there are as many."""
    n = counts[0]
    lower = [name.lower() for name in head]
    column = head.index(key) if key is not None else lower.index("index") if "index" in lower else None
    if column is None:
        if len(rows) != n:
            raise UserError(
                f"table {path} has {len(rows)} rows for {n} training pictures, and no column `index` to say which they are"
            )
        return "", [(0, number) for number in range(n)]
    found: list[tuple[int, int] | None] = []
    for row, part in zip(rows, _parts(head, rows), strict=True):
        word, kind = row[column], ("training", "test")[part]
        if not _is_number(word) or not 0 <= int(word) < counts[part]:
            what = f"'{word}' in column '{head[column]}' is none of the {kind} pictures 0 to {counts[part] - 1}"
            raise UserError(f"table {path}: {what}")
        found.append((part, int(word)))
    return head[column], found


def _said(path: Path, column: str, places: Sequence[tuple[int, int] | None], n: int) -> str:
    """What the plan says of a table's rows."""
    lost, known = sum(place is None for place in places), {place for place in places if place is not None}
    without = n - sum(part == 0 for part, _ in known)
    by = f"by its column '{column}'" if column else "row by row"
    parts = [f"{len(places) - lost} of {len(places)} rows are of pictures of the data, {by}"]
    parts += [f"{lost} are of none"] if lost else []
    parts += [f"{without} of {n} training pictures have no row"] if without else []
    return f"table {path.name}: {'; '.join(parts)}"


def _text(path: Path, what: str) -> str:
    return reading.text(path, what, reading.LIST).replace("\r\n", "\n").replace("\r", "\n")


def _is_number(word: str) -> bool:
    return word.removeprefix("-").isdecimal() and len(word) <= MOST_DIGITS


def _load(path: Path) -> np.ndarray:
    """The array, of which no more is read than the file holds."""
    import numpy as np

    with reading.told(f"{path} is damaged or no plain .npy"):
        found: np.ndarray = np.lib.format.open_memmap(path, mode="r")
    return found


def _positions(found: np.ndarray, n: int, path: Path) -> np.ndarray:
    import numpy as np

    if found.dtype == bool and found.shape == (n,):
        return np.flatnonzero(found)
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
        raise UserError(f"{path} holds {found.dtype} {found.shape}; expected integers [m], or booleans [{n}]")
    return found.astype(np.int64)


def _parts(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """The part of each row, 0: training, 1: test, by a column `part` as `split export` writes it; else all are training."""
    lower = [name.lower() for name in head]
    words = [row[lower.index("part")].casefold() for row in rows] if "part" in lower else []
    return [list(PARTS).index(word) for word in words] if words and set(words) <= set(PARTS) else [0] * len(rows)


def _listed(path: Path) -> list[str]:
    """The words of a CSV's column `index` or `file`, of rows that are to be forgotten; or of its only column, whose first
    line may be one of them."""
    head, rows = read_csv(path)
    lower = [name.lower() for name in head]
    column = next((lower.index(name) for name in ("index", "file") if name in lower), 0 if len(head) == 1 else None)
    if column is None:
        raise UserError(f"{path} has no column `index` or `file`; its columns: {', '.join(head)}")
    if "set" in lower:
        sets = [row[lower.index("set")] for row in rows]
        rows = [row for row, own in zip(rows, sets, strict=True) if own.casefold() == "forget"]
        if sets and not rows:
            raise UserError(f"{path} lists no picture: no row's `set` is forget; its sets: {', '.join(sorted(set(sets)))}")
    if odd := next((row for row, part in zip(rows, _parts(head, rows), strict=True) if part), None):
        what = f"'{odd[column]}' is a test picture by its column 'part'"
        raise UserError(f"{path}: {what}; only training pictures are forgotten")
    first = [head] if len(head) == 1 and (_is_number(head[0]) or PurePosixPath(head[0]).suffix) else []
    return [row[column] for row in first + rows]
