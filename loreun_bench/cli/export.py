"""export: an unlearned model of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loreun_bench.cli.says import say


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(export)


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="the run folder of a sweep")],
    row: Annotated[str, typer.Option("--row", metavar="ROW", help="as RL or RL/w_f")],
    to: Annotated[Path, typer.Option("--to", metavar="PATH", help="a .safetensors file; generation: a new folder")],
    seed: Annotated[int | None, typer.Option("--seed", help="of the unlearning [default: the first]")] = None,
    scenario: Annotated[
        str | None, typer.Option("--scenario", help="as in the table's title [default: the only one]")
    ] = None,
    plugin: Annotated[list[Path] | None, typer.Option("--plugin", metavar="FILE.py", help="your own items")] = None,
) -> None:
    """Write an unlearned model: a classifier as safetensors, a pipeline in diffusers' format."""
    import importlib

    from loreun_bench.harness import rerun

    config, records = rerun.opened(run, plugin or ())
    record = rerun.cell(records, row, seed, scenario)
    exporting = importlib.import_module(f"loreun_bench.{config.track}.exporting")
    say(exporting.export(config, record, rerun.model_of(record), to))
