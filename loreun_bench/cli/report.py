"""report: one self-contained HTML page of one or several runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loreun_bench.cli.says import say


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(report)


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="run folders; several are shown side by side")],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.html", help="[default: RUN/report.html]")] = None,
    ua: Annotated[str, typer.Option("--ua", help="loreun: forget accuracy; salun: 100 - forget accuracy")] = "loreun",
    plugin: Annotated[list[Path] | None, typer.Option("--plugin", metavar="FILE.py", help="your own metrics")] = None,
) -> None:
    """Write one HTML file that needs nothing else: verdict, tables, charts, settings."""
    import functools
    import gc

    from loreun_bench.cli.figures import detector, picture_folder
    from loreun_bench.errors import UserError
    from loreun_bench.harness.files import write_atomic, written
    from loreun_bench.harness.records import load_records
    from loreun_bench.registry import load_plugin
    from loreun_bench.report import table
    from loreun_bench.report.page.about import Run
    from loreun_bench.report.page.page import LIMIT, Sources, render
    from loreun_bench.report.runs import labelled

    if out is None and len(runs) > 1:
        raise UserError("--out: say where the report of several runs goes")
    for path in plugin or ():
        load_plugin(path)
    gc.disable()  # nothing is thrown away here: see tables.py
    folders = labelled(runs)
    found = [(label, load_records(run)) for label, run in folders]
    for label, records in found:
        if not records:
            raise UserError(f"{label} holds no record yet")
    configs = [Run(label, _config(run)) for label, run in folders]
    sources = Sources(configs, [path.name for path in plugin or ()], picture_folder, functools.cache(detector))
    text, left_out = render(table.build(found), sources, ua)
    place = out or _folder(runs[0]) / "report.html"
    with written(place):
        write_atomic(place, text)
    say(place)
    if left_out:
        say(f"note: left out, so that the page stays under 2 MB: {', '.join(left_out)}", err=True)
    if len(text.encode()) >= LIMIT:
        say("note: the tables alone take more than 2 MB: give fewer runs at a time", err=True)


def _folder(run: Path) -> Path:
    """The run folder; a run may be given by its records' file."""
    return run if run.is_dir() else run.parent


def _config(run: Path) -> str:
    """The text of a run's configuration; nothing if it has none."""
    path = _folder(run) / "config.yaml"
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
