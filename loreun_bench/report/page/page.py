"""The page itself: its parts put together, and the policy that lets nothing else run in it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loreun_bench.harness.records import Record
from loreun_bench.report import leaderboard, notes
from loreun_bench.report.charts.every import charts
from loreun_bench.report.figures.blur import Boxes
from loreun_bench.report.group import Group
from loreun_bench.report.page import about, view
from loreun_bench.report.page.pictures import strips

LIMIT = 2_000_000  # bytes of a page
PICTURES = 600_000  # of which pictures may take
PARTS = {
    "pictures": "the pictures",
    "charts": "the charts",
    "seeds": "the values seed by seed",
    "more": "all but the first chart of each table",
    "records": "the rows as JSON",
}  # what may be left out, by how much it is missed
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Sources:
    """What the page shows beside tables. find: the folder of a record's pictures; boxes: gives what finds what is hidden in
    them, or None, and then whole pictures are."""

    runs: Sequence[about.Run]
    plugins: Sequence[str] = ()
    find: Callable[[Record], Path | None] = lambda record: None
    boxes: Callable[[], Boxes | None] = lambda: None


def render(groups: Sequence[Group], sources: Sources, ua: str = "loreun") -> tuple[str, list[str]]:
    """The page, and what was left out of it so that it stays under LIMIT: the same bytes for the same records."""
    leaderboard.check("json", ua)
    values, template = _values(groups, sources, ua), _template()

    def draw(without: Sequence[str]) -> str:
        return str(template.render(**values, without=without, left_out=_said(without)))

    text = draw([])
    if len(text.encode()) < LIMIT:
        return text, []
    without = list(PARTS)
    for part in PARTS:
        fewer = [other for other in without if other != part]
        if len(draw(fewer).encode()) < LIMIT:
            without = fewer
    return draw(without), _said(without)


def _said(without: Sequence[str]) -> list[str]:
    return [PARTS[part] for part in without if part != "more" or "charts" not in without]


def _values(groups: Sequence[Group], sources: Sources, ua: str) -> dict[str, Any]:
    """Everything that the template names."""
    tables = [view.table(group, ua, name) for group, name in zip(groups, view.names(groups), strict=True)]
    _illustrate(tables, sources)
    for table in tables:
        table.charts = [view.chart(found) for found in charts(table.group)]
    found, heading = about.facts(groups), view.heading(groups)
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return {
        "tables": tables,
        "title": f"{heading if len(heading) < 80 else 'Unlearning'} – unlearning report",
        "heading": heading,
        "names": [view.short(run.name) for run in sources.runs],
        "counted": view.counted(groups),
        "notes": [_notes(own, ua) for own in _by_track(groups)],
        "facts": found,
        "differing": about.differing(found),
        "runs": sources.runs,
        "plugins": sources.plugins,
        "records": view.island(groups),
        "style": style,
        "script": script,
        "policy": policy(style, script),
    }


def policy(style: str, script: str) -> str:
    """A Content-Security-Policy that allows this style, this script and pictures in the page, and nothing else."""
    return (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _illustrate(tables: Sequence[view.Table], sources: Sources) -> None:
    """Put in pictures where rows have any: those of the first tables, as far as the budget goes."""
    left = PICTURES
    for table in tables:
        if table.group.track != "generation":
            continue
        table.pictures, table.missing = strips(table.group, sources.find, sources.boxes, left)
        left -= table.pictures.size if table.pictures else 0


def _by_track(groups: Sequence[Group]) -> list[list[Group]]:
    return [[group for group in groups if group.track == track] for track in dict.fromkeys(g.track for g in groups)]


def _notes(groups: Sequence[Group], ua: str) -> dict[str, Any]:
    """How cells are read, and what columns mean, of the tables of one track."""
    shown = leaderboard.chosen(groups)
    reading = notes.reading(groups, shown)
    told = notes.definitions(groups[0].track, shown, ua, groups).split("\n")[len(reading) :]
    return {"track": groups[0].track, "reading": reading, "definitions": [line.removeprefix("- ") for line in told]}


def _template() -> Any:
    import jinja2

    loader = jinja2.FileSystemLoader(HERE)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("template.html.j2")
