"""verify: a run's weights and metrics against what the store holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loreun_bench.cli.says import say, say_again

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

    config, records = rerun.opened(run, plugin or ())

    def listen(done: int, of: int) -> None:
        if sys.stderr.isatty():
            say_again(f"{done}/{of} computed again")

    found = checked(config, records, cells, listen)
    if sys.stderr.isatty():
        say_again("")
    finished = len(found.whole) + len(found.lost)
    say(f"records: {finished} finished, {len(records) - finished} not")
    say(f"weights: {len(found.whole)} of {finished} are in the store, with the bytes that their hashes say")
    if found.again:
        say(f"metrics: {len(found.equal)} of {found.again} computed again are equal to the last digit")
    for line in found.differing[:MOST]:
        say(f"  {line}")
    if len(found.differing) > MOST:
        say(f"  and {len(found.differing) - MOST} more")
    if found.unlike:
        say(f"not computed again: {len(found.unlike)}, made by other code, settings or data than are here now")
    for line in found.environments:
        say(f"made with: {line}")
    if found.differing or found.lost:
        raise typer.Exit(1)
