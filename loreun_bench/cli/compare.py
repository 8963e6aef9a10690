"""compare: rows of a run, or the cells of two, with their statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loreun_bench.cli.says import say


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(compare)


def compare(
    run: Annotated[Path, typer.Argument(metavar="A", help="a run folder")],
    other: Annotated[
        Path | None, typer.Argument(metavar="[B]", help="another: its cells are compared with those of A")
    ] = None,
    base: Annotated[
        str | None, typer.Option("--base", metavar="ROW", help="as RL or RL/w_f [default: unweighted, and the first row]")
    ] = None,
    column: Annotated[
        str | None, typer.Option("--column", metavar="KEY", help="what to compare by [default: as it ranks]")
    ] = None,
    paper: Annotated[bool, typer.Option("--paper", help="beside the LoReUn paper's Table 1")] = False,
    style: Annotated[str, typer.Option("--format", help="text, md, csv or json")] = "text",
    width: Annotated[
        int | None, typer.Option("--width", min=0, help="fit text into so many columns; 0: any [default: the terminal's]")
    ] = None,
    plugin: Annotated[list[Path] | None, typer.Option("--plugin", metavar="FILE.py", help="your own metrics")] = None,
) -> None:
    """Differences paired by seed, with intervals and corrected p-values: of a run's rows, or of the cells of two runs."""
    from loreun_bench.cli.tables import terminal
    from loreun_bench.errors import UserError
    from loreun_bench.harness.records import load_records
    from loreun_bench.registry import load_plugin
    from loreun_bench.report import compare as comparing
    from loreun_bench.report import leaderboard, table
    from loreun_bench.report import paper as printed
    from loreun_bench.report.runs import labelled

    leaderboard.check(style, "loreun")
    for path in plugin or ():
        load_plugin(path)
    if paper and (other or base or column or style != "text"):
        raise UserError("--paper takes one run, and prints text")
    if other and base:
        raise UserError("--base is for one run: the cells of two are compared with one another")
    found = [(label, load_records(folder)) for label, folder in labelled([run, *([other] if other else [])])]
    groups = table.build(found)
    room = terminal() if width is None else width or None
    if paper:
        say(printed.render(groups, room), end="")
        return
    if other is None:
        blocks = [block for group in groups for block in comparing.within(group, base, column)]
    else:
        blocks = comparing.across(groups, found[0][0], found[1][0], column)
    say(comparing.render(blocks, style, room), end="")
