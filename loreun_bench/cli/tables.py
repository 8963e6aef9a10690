"""leaderboard: records as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(leaderboard)


def leaderboard(
    runs: Annotated[list[Path], typer.Argument(metavar="DIR...", help="run folders; several are shown side by side")],
    style: Annotated[str, typer.Option("--format", help="text, md, latex, csv or json")] = "text",
    sort: Annotated[str, typer.Option("--sort", help="the column to sort by, such as tow or forget_acc")] = "tow",
    ua: Annotated[str, typer.Option("--ua", help="loreun: forget accuracy; salun: 100 - forget accuracy")] = "loreun",
    columns: Annotated[str | None, typer.Option("--columns", help="comma-separated keys instead of the usual ones")] = None,
    plugin: Annotated[list[Path] | None, typer.Option("--plugin", metavar="FILE.py", help="your own metrics")] = None,
) -> None:
    """Render a run's records, or several runs side by side."""
    from loreun_bench.harness.records import load_records
    from loreun_bench.registry import load_plugin
    from loreun_bench.report import leaderboard as rendering
    from loreun_bench.report import table

    for path in plugin or ():
        load_plugin(path)
    groups = table.build([(run.name, load_records(run)) for run in runs], sort)
    print(rendering.render(groups, style, ua, columns.split(",") if columns else None), end="")
