"""new and check: write a plug-in's first lines, and run one on toy data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loreun_bench.cli.browse import Track
from loreun_bench.cli.says import say


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(new)
    app.command()(check)


def new(
    kind: Annotated[str, typer.Argument(help="method, weighting, scenario, metric, dataset or model")],
    name: Annotated[str, typer.Argument(help="its name; the file is NAME.py here")],
    track: Track = "classification",
) -> None:
    """Scaffold a plug-in: a file that works, to be changed."""
    from loreun_bench.cli.templates import scaffold

    path = scaffold(kind, name, track, Path.cwd())
    say(f"wrote {path.name}; try it: loreun-bench check {path.name}")


def check(path: Annotated[Path, typer.Argument(metavar="FILE.py")]) -> None:
    """Run a plug-in's items on little data in seconds, and say what is wrong."""
    from loreun_bench.harness.conformance import check_plugin

    lines = check_plugin(path)
    for line in lines:
        say(line)
    if any(not line.startswith("ok") for line in lines):
        raise typer.Exit(2)
