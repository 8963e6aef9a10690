"""Tables as somebody printed them: read from JSON, CSV or Markdown."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loreun_bench import reading
from loreun_bench.errors import UserError
from loreun_bench.names import twice

MISSING = {"", "-", "–", "—", "n/a", "na", "nan", "none", "null", "todo", "tbd", "?"}
NAMES = {
    "ua": {"ua", "unlearning accuracy", "unlearn accuracy"},
    "fa": {"fa", "forget accuracy", "forget acc", "forgetting accuracy", "forget_acc"},
    "ra": {"ra", "retain accuracy", "retain acc", "remaining accuracy", "retain_acc"},
    "ta": {"ta", "test accuracy", "test acc", "testing accuracy", "test_acc"},
    "tow": {"tow"},
    "mia": {"mia", "mia-efficacy", "mia efficacy"},
    "time": {"rte", "time", "seconds", "minutes", "runtime", "rte_s"},
    "gap": {"avg. gap", "avg gap", "average gap", "avg_gap", "delta_acc", "δacc", "disparity average"},
}
LARGEST = 1e100  # a number that can be moved by so many digits
MOST_DIGITS = 12  # a double has no more after the point of an accuracy
PAPER = Path(__file__).with_name("loreun.json")  # its Tables 1 and 2
MEANING = {name: key for key, names in NAMES.items() for name in names}


@dataclass(frozen=True)
class Number:
    """A printed number and the digits after its point."""

    value: float
    digits: int

    @property
    def rounding(self) -> float:
        """How far the number before it was rounded may be off."""
        return float(0.5 * 10.0**-self.digits)

    def times(self, factor: float) -> Number:
        """The number in another unit, a power of ten of this one."""
        moved = round(math.log10(factor))
        return Number(self.value * factor, max(self.digits - moved, 0)) if moved else self


@dataclass(frozen=True)
class Published:
    """One table: rows of numbers by heading, those that are not there left out."""

    title: str
    rows: Mapping[str, Mapping[str, Number]]

    def column(self, key: str) -> str | None:
        """The heading that means `key`, of NAMES."""
        headings = dict.fromkeys(heading for row in self.rows.values() for heading in row)
        return next((heading for heading in headings if meaning(heading) == key), None)

    @property
    def retrain(self) -> tuple[str, Mapping[str, Number]] | None:
        """The row of the retrained model, if it has numbers."""
        rows = ((name, row) for name, row in self.rows.items() if re.match(r"(?i)retrain(?!-\d)", name))
        return next(((name, row) for name, row in rows if any(is_share(column) for column in row)), None)

    @property
    def usual_digits(self) -> int:
        """How many digits most accuracies have after the point."""
        found = Counter(v.digits for row in self.rows.values() for c, v in row.items() if is_share(c) and v.value >= 1)
        return found.most_common(1)[0][0] if found else 0


def is_share(heading: str) -> bool:
    """Whether a heading, or its last word, means an accuracy in percent."""
    return not {meaning(heading), meaning(last(heading))}.isdisjoint(("ua", "fa", "ra", "ta", "mia"))


def last(heading: str) -> str:
    """A heading's last word: of "RL UA" what was measured."""
    return heading.split()[-1] if heading.split() else heading


def meaning(heading: str) -> str:
    """What a heading means, of NAMES; "" if that is not known."""
    plain = re.sub(r"[*↑↓%()]|\\(up|down)arrow", "", heading).strip().lower()
    return MEANING.get(plain, "")


def read(path: Path) -> list[Published]:
    """The tables of a file. UserError if there are none, or a cell holds neither a number nor what stands for none."""
    text, kind = reading.text(path, "table"), path.suffix.lower()
    if kind == ".json":
        found = list(_walk(reading.as_json(text, str(path)), path, (), None))
    else:
        with reading.told(f"{path}: no CSV"):
            found = list(_texts(text, path, kind))
    tables = [table for table in found if any(table.rows.values())]
    if not tables:
        raise UserError(f"{path}: no table found: JSON, CSV or Markdown with a heading, a row a method")
    return tables


def _walk(node: Any, path: Path, names: tuple[str, ...], columns: Sequence[str] | None) -> Iterator[Published]:
    """Tables within JSON: a list of rows that name their method; rows by name, as lists under `columns` or dictionaries."""
    title = " ".join(names) or path.stem
    if isinstance(node, list) and node and all(isinstance(row, dict) for row in node):
        key = next((k for k in ("method", "name", "row") if all(isinstance(row.get(k), str) for row in node)), None)
        if key is not None:
            called = [_called(row, key) for row in node]
            if (name := twice(called)) is not None:
                raise UserError(f"{path}: {title}: two rows are called '{name}'")
            rows = {n: {k: v for k, v in row.items() if k != key} for n, row in zip(called, node, strict=True)}
            yield _table(title, rows, path)
    elif isinstance(node, dict):
        found = node.get("columns")
        columns = found if isinstance(found, list) and all(isinstance(each, str) for each in found) else columns
        inner = {str(k): v for k, v in node.items()}
        if columns and inner and all(isinstance(v, list) and len(v) == len(columns) for v in inner.values()):
            yield _table(title, {name: dict(zip(columns, row, strict=True)) for name, row in inner.items()}, path)
        elif _is_table(inner):
            yield _table(title, {name: _flat(row) for name, row in inner.items()}, path)
        else:
            for name, value in inner.items():
                if name not in ("columns", "units"):
                    yield from _walk(value, path, (*names, name), columns)


def _is_table(node: Mapping[str, Any]) -> bool:
    """Whether it is of two or more dictionaries of cells, or of dictionaries of cells, with a number in each."""
    rows = list(node.values())
    return len(rows) > 1 and all(isinstance(row, dict) and _has_number(row) for row in rows)


def _has_number(row: Mapping[str, Any]) -> bool:
    inner = [v for v in row.values() if isinstance(v, dict)]
    if any(isinstance(v, list) for v in row.values()) or not all(map(_has_number, inner)):
        return False
    return bool(inner) or any(isinstance(v, int | float) for v in row.values())


def _flat(row: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in row.items():
        name = f"{before} {key}".strip()
        found |= _flat(value, name) if isinstance(value, dict) else {name: value}
    return found


def _texts(text: str, path: Path, kind: str) -> Iterator[Published]:
    """Tables of a CSV or Markdown file."""
    if kind == ".csv":
        yield _grid(path.stem, [row for row in csv.reader(text.splitlines()) if any(cell.strip() for cell in row)], path)
        return
    title, rows = path.stem, list[list[str]]()
    for line in [*text.splitlines(), ""]:
        if line.lstrip().startswith("|"):
            rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
        else:
            if len(rows) > 2:
                yield _grid(title, [rows[0], *rows[2:]], path)
            rows = []
            title = line.lstrip("# ").strip() if line.startswith("#") else title


def _grid(title: str, rows: Sequence[Sequence[str]], path: Path) -> Published:
    head = rows[0] if rows else []
    if (each := twice(filter(None, head))) is not None:
        raise UserError(f"{path}: {title}: two columns are called '{each}'")
    words = [k for k in range(len(head)) if not meaning(head[k]) and all(_is_words(row, k) for row in rows[1:])] or [0]
    named = {}
    for row in rows[1:]:
        name = " ".join(row[k].strip("* ") for k in words if k < len(row)).strip()
        if name in named:
            raise UserError(f"{path}: {title}: two rows are called '{name}'")
        named[name] = {head[k]: row[k] for k in range(len(head)) if k not in words and k < len(row)}
    return _table(title, named, path)


def _is_words(row: Sequence[str], k: int) -> bool:
    return k >= len(row) or not re.match(r"\**\s*[-+]?\d", row[k].strip())


def _table(title: str, rows: Mapping[str, Mapping[str, Any]], path: Path) -> Published:
    found: dict[str, dict[str, Number]] = {}
    for name, row in rows.items():
        cells = {c: _number(v, c, f"{path}: {title}, row '{name}', column '{c}'") for c, v in row.items()}
        found[name] = {c: number for c, number in cells.items() if number is not None}
    table = Published(title, found)
    return _percent(_digits(table) if path.suffix.lower() == ".json" else table)


def _percent(table: Published) -> Published:
    """Accuracies in percent, and ToW as a fraction, where the whole table has them the other way round."""
    values = {key: [v.value for row in table.rows.values() for c, v in row.items() if key in (meaning(c), meaning(last(c)))]
              for key in ("ua", "fa", "ra", "ta", "mia", "tow")}  # fmt: skip
    kept = values["ra"] + values["ta"]
    times = {key: 100.0 for key in values if key != "tow"} if kept and max(kept) <= 1 else {}
    times |= {"tow": 0.01} if values["tow"] and max(values["tow"]) > 1.5 else {}
    rows = {
        name: {c: v.times(times.get(meaning(c) or meaning(last(c)), 1.0)) for c, v in row.items()}
        for name, row in table.rows.items()
    }
    return Published(table.title, rows)


def _digits(table: Published) -> Published:
    """JSON has lost the zeros at the end of numbers: accuracies have as many as most, others as their column's longest."""
    most = {c: max(row[c].digits for row in table.rows.values() if c in row) for row in table.rows.values() for c in row}
    least = {c: table.usual_digits if is_share(c) else digits for c, digits in most.items()}
    rows = {name: {c: Number(v.value, max(v.digits, least[c])) for c, v in row.items()} for name, row in table.rows.items()}
    return Published(table.title, rows)


def _number(value: Any, heading: str, where: str) -> Number | None:
    """A printed number, with what may stand around it; None for what stands for none, and for text under a heading that
    means nothing here. UserError for text under one that does."""
    text = "" if value is None else str(value).strip().strip("*").strip()
    if text.lower() in MISSING:
        return None
    match = re.match(r"[-+]?\d+(?:\.(\d+))?(?:[eE][-+]?\d+)?(?=$|[\s%±×(\[*†‡§°?])", text)
    wrong = match is None or isinstance(value, bool | list | dict) or not abs(float(match[0])) < LARGEST
    if wrong and not (meaning(heading) or meaning(last(heading))):
        return None
    if match is None or wrong:
        raise UserError(f"{where}: '{text[:40]}' is no number")
    return Number(float(match[0]), min(len(match[1] or ""), MOST_DIGITS))


def _called(row: Mapping[str, Any], key: str) -> str:
    """A row's name: its method, with its weighting if it has one of its own."""
    weighting = row.get("weighting")
    return f"{row[key]} {weighting}" if isinstance(weighting, str) and weighting != "none" else str(row[key])
