"""verify: a run's weights and metrics against what the store holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MOST = 10  # lines on what differs


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(verify)


def verify(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="the run folder of a sweep")],
    cells: Annotated[
        int | None, typer.Option("--cells", min=0, help="how many to compute again, spread over all [default: every one]")
    ] = None,
    plugin: Annotated[list[Path] | None, typer.Option("--plugin", metavar="FILE.py", help="your own items")] = None,
) -> None:
    """Check each model's bytes by their hash, and compute its metrics again: are they the records', to the last digit?"""
    import sys

    from loreun_bench.harness import rerun
    from loreun_bench.harness.verifying import verify as checked
    from loreun_bench.report.text import plain

    config, records = rerun.opened(run, plugin or ())

    def listen(done: int, of: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{done}/{of} computed again", end="", file=sys.stderr, flush=True)

    found = checked(config, records, cells, listen)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    finished = len(found.whole) + len(found.lost)
    print(f"records: {finished} finished, {len(records) - finished} not")
    print(f"weights: {len(found.whole)} of {finished} are in the store, with the bytes that their hashes say")
    if found.again:
        print(f"metrics: {len(found.equal)} of {found.again} computed again are equal to the last digit")
    for line in found.differing[:MOST]:
        print(f"  {plain(line)}")
    if len(found.differing) > MOST:
        print(f"  and {len(found.differing) - MOST} more")
    if found.unlike:
        print(f"not computed again: {len(found.unlike)}, made by other code, settings or data than are here now")
    for line in found.environments:
        print(f"made with: {plain(line)}")
    if found.differing or found.lost:
        raise typer.Exit(1)
