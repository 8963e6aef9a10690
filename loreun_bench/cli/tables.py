"""leaderboard: records as a table."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated, TextIO

import typer

from loreun_bench.cli.says import say


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(leaderboard)


def leaderboard(
    runs: Annotated[list[Path], typer.Argument(metavar="DIR...", help="run folders; several are shown side by side")],
    style: Annotated[str, typer.Option("--format", help="text, md, latex, csv or json")] = "text",
    sort: Annotated[
        str | None, typer.Option("--sort", help="the column to sort by, or rte [default: tow; generation: h, then fd]")
    ] = None,
    ua: Annotated[str, typer.Option("--ua", help="loreun: forget accuracy; salun: 100 - forget accuracy")] = "loreun",
    columns: Annotated[str | None, typer.Option("--columns", help="comma-separated keys instead of the usual ones")] = None,
    width: Annotated[
        int | None, typer.Option("--width", min=0, help="fit text into so many columns; 0: any [default: the terminal's]")
    ] = None,
    wide: Annotated[bool, typer.Option("--wide", help="every usual column with its interval, however wide")] = False,
    notes: Annotated[
        bool | None, typer.Option("--notes/--no-notes", help="the columns' definitions [default: not on a terminal]")
    ] = None,
    per_seed: Annotated[bool, typer.Option("--per-seed", help="a line a seed, instead of means")] = False,
    by_class: Annotated[bool, typer.Option("--by-class", help="a row a forgotten class, and their average")] = False,
    plugin: Annotated[list[Path] | None, typer.Option("--plugin", metavar="FILE.py", help="your own metrics")] = None,
) -> None:
    """Render a run's records, or several runs side by side."""
    import gc

    from loreun_bench.errors import UserError
    from loreun_bench.harness.records import load_records
    from loreun_bench.registry import load_plugin
    from loreun_bench.report import byclass, seeds, table
    from loreun_bench.report import leaderboard as rendering
    from loreun_bench.report.runs import labelled

    for path in plugin or ():
        load_plugin(path)
    gc.disable()  # nothing is thrown away here, and looking through 100,000 records for it takes as long as reading them
    found = [(label, load_records(run)) for label, run in labelled(runs)]
    for label, records in found:
        if not records:
            raise UserError(f"{label} holds no record yet")
    groups = table.build(found, sort)
    shown = columns.split(",") if columns else None
    for group in groups:
        group.choose(shown)  # unknown names are an error in every format
    if by_class and per_seed:
        raise UserError("--by-class is of means: leave out one of --by-class and --per-seed")
    room = None if wide else terminal() if width is None else width or None
    if per_seed:
        say(seeds.render(groups, style, ua, shown, width=room), end="")
        return
    render = byclass.render if by_class else rendering.render
    say(render(groups, style, ua, shown, width=room, notes=terminal() is None if notes is None else notes), end="")


def terminal(stream: TextIO | None = None) -> int | None:
    """The columns of the terminal that a stream is, stdout if none is given; None if it is none."""
    return shutil.get_terminal_size().columns if (stream or sys.stdout).isatty() else None
