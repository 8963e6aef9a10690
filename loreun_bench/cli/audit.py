"""audit: published tables, checked by their own numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loreun_bench.cli.says import say


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(audit)


def audit(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="JSON, CSV or Markdown [default: the LoReUn paper's tables]")
    ] = None,
) -> None:
    """Check published tables: ToW and averages recomputed, units, directions, zero counts, equal compute.

    A table has a heading (UA or FA, RA, TA, ToW, MIA, RTE, …) and a row a method, the retrained model's called Retrain; a
    variant is called as its method, with more words.
    """
    from loreun_bench.cli.tables import terminal
    from loreun_bench.report.audit import checks, tables
    from loreun_bench.report.text import wrapped

    path = file or tables.PAPER
    room = terminal()
    for number, table in enumerate(tables.read(path)):
        say(f"{chr(10) * bool(number)}{wrapped(table.title, room)}")
        for line in checks.audit(table) or ["nothing to check, or nothing found"]:
            say(wrapped(f"- {line}", room))
