"""Lists and tables of pictures that a user brings: which of them are meant, and what is known of each."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from loreun_bench.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import numpy as np

DELIMITERS = ",;\t|"


def read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of a CSV in UTF-8, separated by commas, semicolons, tabs or bars; blank lines left out.

    UserError names the file, and the line of a row that has other columns than the header.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"table {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"table {path} is not UTF-8 (byte {error.start}): save it as UTF-8") from error
    first = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=first.count)
    try:
        reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
        lines = [(reader.line_num, [value.strip() for value in row]) for row in reader if any(row)]
    except csv.Error as error:
        raise UserError(f"table {path}:{reader.line_num}: no CSV: {error}") from error
    if len(lines) < 2:
        raise UserError(f"table {path} has no rows under its header")
    head = lines[0][1]
    if len(set(head)) < len(head):
        twice = next(name for name in head if head.count(name) > 1)
        raise UserError(f"table {path} has two columns called '{twice}': rename one")
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
        words = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if not words:
        raise UserError(f"{path} lists no picture")
    if all(word.lstrip("-").isdigit() for word in words):
        return np.array([int(word) for word in words], dtype=np.int64)
    if "file" not in table:
        raise UserError(f"{path}: '{next(w for w in words if not w.isdigit())}' is no index, and these data have no files")
    found = match(words, table["file"].tolist())
    lacking = [word for word, place in zip(words, found, strict=True) if place is None]
    if lacking:
        raise UserError(f"{path}: '{lacking[0]}' names no training picture ({len(lacking)} of {len(words)} do not)")
    return np.array(found, dtype=np.int64)


def match(words: Sequence[str], files: Sequence[str]) -> list[int | None]:
    """Where each word stands in `files`: by the whole name, or by the end of a path that only one file has."""
    ends: dict[str, list[int]] = {}
    for number, file in enumerate(files):
        parts = PurePosixPath(file).parts
        for start in range(len(parts)):
            ends.setdefault("/".join(parts[start:]), []).append(number)

    def place(word: str) -> int | None:
        parts = PurePosixPath(word.replace("\\", "/")).parts
        for start in range(len(parts)):  # a name in the table may have more folders before it than ours
            found = ends.get("/".join(parts[start:]), [])
            if len(found) == 1:
                return found[0]
        return None

    return [place(word) for word in words]


def read_columns(
    path: Path, key: str | None, tables: Sequence[Mapping[str, np.ndarray]], counts: Sequence[int]
) -> list[dict[str, np.ndarray]]:
    """The columns of a CSV with an entry for each picture of each part (training, test), "" where it has no row.

    tables: what is known of the parts' pictures; counts: how many there are. UserError if no picture has a row.
    """
    import numpy as np

    head, rows = read_csv(path)
    parts = _by_file(path, head, rows, key, tables) if any("file" in table for table in tables) else None
    if parts is None:
        parts = [_by_order(path, head, rows, key, counts[0]), {}]
    found = []
    for places, count in zip(parts, counts, strict=True):
        columns = {name: np.full(count, "", dtype=object) for name in head}
        for place, row in places.items():
            for name, value in zip(head, row, strict=True):
                columns[name][place] = value
        found.append(columns)
    return found


def _by_file(
    path: Path, head: list[str], rows: list[list[str]], key: str | None, tables: Sequence[Mapping[str, np.ndarray]]
) -> list[dict[int, list[str]]] | None:
    """position → row for each part, by the column that names the most pictures; None if none of them names any."""
    if key is not None and key not in head:
        raise UserError(f"table {path} has no column '{key}'; {did_you_mean(key, head)}")
    best: list[dict[int, list[str]]] = []
    for column in [key] if key is not None else head:
        words = [row[head.index(column)] for row in rows]
        parts = []
        for table in tables:
            places = match(words, table["file"].tolist() if "file" in table else [])
            parts.append({place: row for place, row in zip(places, rows, strict=True) if place is not None})
        if sum(map(len, parts)) > sum(map(len, best)):
            best = parts
    if key is not None and not best:
        raise UserError(f"table {path}: no value of its column '{key}' names a picture of the data")
    if not best and "index" not in [name.lower() for name in head]:
        example = next(table["file"][0] for table in tables if "file" in table and len(table["file"]))
        raise UserError(f"table {path}: none of its columns names pictures of the data, such as {example}")
    return best or None


def _by_order(path: Path, head: list[str], rows: list[list[str]], key: str | None, n: int) -> dict[int, list[str]]:
    """position → row of the training pictures: by a column of indices, or row by row where there are as many."""
    lower = [name.lower() for name in head]
    column = head.index(key) if key in head else lower.index("index") if "index" in lower else None
    if key is not None and key not in head:
        raise UserError(f"table {path} has no column '{key}'; {did_you_mean(key, head)}")
    if column is None:
        if len(rows) != n:
            raise UserError(
                f"table {path} has {len(rows)} rows for {n} training pictures, and no column `index` to say which they are"
            )
        return dict(enumerate(rows))
    words = [row[column] for row in rows]
    wrong = next((word for word in words if not word.isdigit() or int(word) >= n), None)
    if wrong is not None:
        raise UserError(f"table {path}: '{wrong}' in column '{head[column]}' is none of the training pictures 0 to {n - 1}")
    return {int(word): row for word, row in zip(words, rows, strict=True)}


def _load(path: Path) -> np.ndarray:
    import numpy as np

    try:
        found: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} is damaged or no plain .npy: {error}") from error
    return found


def _positions(found: np.ndarray, n: int, path: Path) -> np.ndarray:
    import numpy as np

    if found.dtype == bool and found.shape == (n,):
        return np.flatnonzero(found)
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
        raise UserError(f"{path} holds {found.dtype} {found.shape}; expected integers [m], or booleans [{n}]")
    return found.astype(np.int64)


def _listed(path: Path) -> list[str]:
    """The words of a CSV's column `index` or `file`, of rows that are to be forgotten; or of its only column."""
    head, rows = read_csv(path)
    lower = [name.lower() for name in head]
    column = next((lower.index(name) for name in ("index", "file") if name in lower), 0 if len(head) == 1 else None)
    if column is None:
        raise UserError(f"{path} has no column `index` or `file`; its columns: {', '.join(head)}")
    if "set" in lower:
        rows = [row for row in rows if row[lower.index("set")] == "forget"]
    return [row[column] for row in rows]
