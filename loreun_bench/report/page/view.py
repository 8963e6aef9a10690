"""What the page shows of a table: every part in words, for the template to put in its place."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from loreun_bench.report import leaderboard, over_seeds, seeds
from loreun_bench.report.charts.chart import Chart
from loreun_bench.report.charts.svg import svg
from loreun_bench.report.group import Group
from loreun_bench.report.layout import layout
from loreun_bench.report.marks import MARKS, WORDS
from loreun_bench.report.rows import REFERENCES, Column, Row
from loreun_bench.report.text import count, plain
from loreun_bench.report.verdict import verdicts

LONGEST = 120  # characters of a name that are shown
SENTENCE = 1000  # and of a sentence, or a reason
LISTED = 3  # scenarios or data sets that a heading lists


def short(text: str, longest: int = LONGEST) -> str:
    """Somebody's words in one line that is safe to show: what is too long is cut, and says so."""
    safe = plain(text)
    return safe if len(safe) <= longest else f"{safe[: longest // 2]}… ({len(safe)} characters)"


@dataclass(frozen=True)
class Cell:
    """A number, what stands beside it (None: nothing does in its column) and below it. value: what it is sorted by, None
    where there is none."""

    text: str
    value: float | None = None
    beside: str | None = None
    below: str = ""
    best: bool = False
    mark: str = ""


@dataclass(frozen=True)
class Line:
    """A row of a table."""

    method: str
    weighting: str
    run: str
    cells: Sequence[Cell]
    marks: Sequence[str]
    reference: bool


@dataclass(frozen=True)
class Board:
    """The lines of a table, and how their cells are read. numbers: headings of the columns of cells."""

    caption: str
    numbers: Sequence[str]
    lines: Sequence[Line]

    @property
    def marked(self) -> bool:
        """Whether any row is marked."""
        return any(line.marks for line in self.lines)


@dataclass(frozen=True)
class Failure:
    """A cell that did not finish."""

    name: str
    seed: str
    status: str
    reason: str


@dataclass(frozen=True)
class Drawing:
    """A chart as an SVG element, and what stands below it."""

    title: str
    about: str
    svg: str


@dataclass
class Table:
    """A group of comparable rows. name: its heading; title: all that was compared.

    verdict: sentences, the leading one first, once for each run where runs are not compared. boards: its table, and that
    of metrics over seeds where there are any. seeds: the same values seed by seed, a list a row of the table.
    """

    name: str
    title: str
    verdict: Sequence[Sequence[str]]
    boards: Sequence[Board]
    several: bool
    failures: Sequence[Failure]
    seeds: Sequence[tuple[str, Sequence[Sequence[str]]]] = ()
    charts: Sequence[Drawing] = ()
    pictures: Any = None
    missing: str = ""
    group: Group = field(kw_only=True)

    @property
    def cells(self) -> int:
        """How many cells there are, one a seed of a row."""
        return sum(len(leaderboard.cells_of(row)) for row in self.group.rows)


def table(group: Group, ua: str, name: str) -> Table:
    """The group as the page shows it, under a heading, but for charts and pictures."""
    shown, several = group.choose(), len({row.run for row in group.rows}) > 1
    headings = [short(leaderboard.heading(column, ua, group.track)) for column in shown]
    by_row: dict[int, list[Sequence[str]]] = {}
    for row, line in seeds.lines(group, ua, shown):
        by_row.setdefault(id(row), []).append([plain(text) for text in line])
    return Table(
        name=short(name),
        title=short(group.title, SENTENCE),
        verdict=[[short(sentence, SENTENCE) for sentence in said] for said in verdicts(group)],
        boards=[
            Board(_caption(group), ["rank", *headings, "RTE", "n"], _lines(group, shown, ua)), *_over_seeds(group)
        ],
        several=several,
        failures=[
            _failure(_name(row, several), r) for row in group.rows for r in leaderboard.cells_of(row) if r.status != "ok"
        ],
        seeds=[(_name(row, several), by_row[id(row)]) for row in group.rows],
        group=group,
    )


def chart(found: Chart) -> Drawing:
    """A chart as the page shows it."""
    return Drawing(plain(found.title), plain(f"{found.about} {found.note}".strip()), svg(found))


def names(groups: Sequence[Group]) -> list[str]:
    """A heading for each table: its scenario, or all that was compared where two have the same."""
    scenarios = [group.scenario for group in groups]
    return scenarios if len(set(scenarios)) == len(scenarios) else [group.title for group in groups]


def heading(groups: Sequence[Group]) -> str:
    """What was compared, in a few words."""
    data = list(dict.fromkeys(", ".join(dict.fromkeys([g.dataset, g.model])) for g in groups))
    scenarios = list(dict.fromkeys(g.scenario for g in groups))
    return f"{_listed(data, 'data sets and models')}: {_listed(scenarios, 'scenarios')}"


def counted(groups: Sequence[Group]) -> str:
    """How much there is, and how much of it failed."""
    records = [record for group in groups for row in group.rows for record in leaderboard.cells_of(row)]
    failed = sum(record.status != "ok" for record in records)
    rows = sum(len(group.rows) for group in groups)
    return (
        f"{count(len(groups), 'table')}, {count(rows, 'row')}, {count(len(records), 'cell')}, "
        f"{f'{failed} of them failed' if failed else 'none failed'}."
    )


def island(groups: Sequence[Group]) -> str:
    """The leaderboard's rows as JSON, to nine digits, that nothing in it can end: none of it opens a tag or a comment."""
    rows = [{key: _nine(value) for key, value in row.items()} for row in leaderboard.flat(groups)]
    text = json.dumps(rows, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _nine(value: Any) -> Any:
    return float(f"{value:.9g}") if isinstance(value, float) else value


def _listed(names: Sequence[str], what: str) -> str:
    shown = [short(name) for name in names]
    if len(shown) > LISTED:
        return f"{len(shown)} {what}"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def _name(row: Row, several: bool) -> str:
    return short(f"{row.run}: {row.name}" if several else row.name)


def _caption(group: Group) -> str:
    """How its cells are read, in one line."""
    if layout(group.track).retrain:
        return "Mean over seeds (signed difference to Retrain), below it its 95 % interval. Bold: closest to Retrain."
    return "Mean over seeds, below it its 95 % interval. Bold: best."


def _lines(group: Group, shown: Sequence[Column], ua: str) -> list[Line]:
    digits = {column.key: leaderboard.decimals(column, group.rows, group.track) for column in shown}
    gaps = {column.key for column in shown if any(row.cells[column.key].gap is not None for row in group.rows)}
    found = []
    for row in group.rows:
        cells = [_cell(column, row, ua, digits[column.key], group, column.key in gaps) for column in shown]
        weighting = row.rule
        found.append(Line(
            short(row.method), short(weighting), short(row.run),
            [_rank(row, group), *cells, _seconds(row), Cell(f"{len(row.finished)}/{row.expected}", len(row.finished))],
            [f"{symbol} {WORDS[name]}" for name, symbol in MARKS.items() if name in row.marks],
            row.method in REFERENCES,
        ))  # fmt: skip
    return found


def _over_seeds(group: Group) -> list[Board]:
    """The board of metrics over seeds, the range of retraining first; [] if there are none."""
    shown = group.over_seeds
    if not shown:
        return []
    lines = []
    for row, null in over_seeds.lines(group, shown):
        if null is None:
            cells, words = [_over(row, column) for column in shown], (row.method, row.rule)
        else:
            cells = [Cell(over_seeds.span(each, column)) for each, column in zip(null, shown, strict=True)]
            words = (over_seeds.NULL, "")
        reference = null is not None or row.method in REFERENCES
        lines.append(Line(short(words[0]), short(words[1]), short(row.run), cells, [], reference))
    return [Board(over_seeds.caption(group), [short(column.heading) for column in shown], lines)]


def _over(row: Row, column: Column) -> Cell:
    found = row.cells[column.key]
    mean = found.value.mean
    if not math.isfinite(mean):
        return Cell("–")
    digits = over_seeds.places(column, found.null)
    return Cell(f"{mean:.{digits}f}", mean, below=found.value.spread(digits).strip(), mark="=" * found.as_retrained)


def _cell(column: Column, row: Row, ua: str, digits: int, group: Group, gaps: bool) -> Cell:
    said = leaderboard.words(column, row, ua, digits, group.track)
    mean = row.cells[column.key].value.mean
    value = leaderboard.number(100 - mean if leaderboard.flipped(column, ua, group.track) else mean)
    gap = f"({said.gap})" if said.gap else ""
    text = "–" if said.value == "-" else said.value
    return Cell(text, value, gap if gaps else None, said.spread.strip(), column.key in row.best, said.mark)


def _rank(row: Row, group: Group) -> Cell:
    text = leaderboard.rank(row, group)
    first, _, last = text.partition("-")
    return Cell(text.replace("-", "–"), int(first) + int(last or first) / 1e6) if text else Cell("")


def _seconds(row: Row) -> Cell:
    text, _, ratio = leaderboard.seconds(row).partition(" ×")
    value = row.seconds.mean
    return Cell(text, value, below=f"×{ratio}" if ratio else "") if math.isfinite(value) else Cell("–")


def _failure(name: str, record: Any) -> Failure:
    seed = str(record.seeds.get("unlearn", "?")) if record.seeds else "all"
    return Failure(name, seed, record.status, short(record.reason, SENTENCE))
