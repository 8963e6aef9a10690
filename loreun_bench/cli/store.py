"""store ls and store clean."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from loreun_bench.cli.says import say

Keep = Annotated[list[Path] | None, typer.Option("--keep-runs", metavar="RUN", help="keep what this run folder uses")]
Older = Annotated[str | None, typer.Option("--older", metavar="AGE", help="keep what is younger, as 12h, 30d or 2w")]
Unused = Annotated[bool, typer.Option("--unused", help="keep what any run folder uses that is still there")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="only say what would go")]


def register(app: typer.Typer) -> None:
    """Add the family."""
    family = typer.Typer(help="What is stored, and what may go.", no_args_is_help=True, rich_markup_mode=None)
    family.command("ls")(list_store)
    family.command()(clean)
    app.add_typer(family, name="store")


def list_store() -> None:
    """What the store ($LOREUN_STORE) holds, by kind of stage, and which run folders use it."""
    from rich.filesize import decimal
    from tabulate import tabulate

    from loreun_bench.harness import keeping
    from loreun_bench.harness.leases import Sweeps
    from loreun_bench.harness.store import Store, default_root
    from loreun_bench.report.text import plain

    store = Store(default_root())
    found = keeping.contents(store)
    by_kind: dict[str, list[int]] = {}
    for one in found:
        by_kind.setdefault(one.kind, []).append(one.size)
    rows = [[kind, len(sizes), decimal(sum(sizes))] for kind, sizes in sorted(by_kind.items())]
    rows.append(["all", len(found), decimal(sum(one.size for one in found))])
    say(f"{plain(str(store.root))}\n\n{tabulate(rows, ['', 'number', 'size'], colalign=('left', 'right', 'right'))}")
    sizes = {one.key: one.size for one in found}
    for folder, keys in sorted(keeping.runs(store).items()):
        say(f"\n{plain(str(folder))}\n  uses {len(keys)}, {decimal(sum(sizes.get(key, 0) for key in keys))}")
    sweeps = Sweeps(store)
    elsewhere = sweeps.elsewhere()
    if living := sweeps.living() - elsewhere:
        say(f"\n{living} sweep{'s are' if living > 1 else ' is'} under way")
    if elsewhere:
        say(f"\n{_of_others(elsewhere)} may be under way: `store clean` finds out")


def clean(keep_runs: Keep = None, older: Older = None, unused: Unused = False, dry_run: DryRun = False) -> None:
    """Remove what may go: without an option, what is damaged or half-written; with one or more, all that none of them keeps.
    What a sweep under way uses always stays."""
    from rich.filesize import decimal

    from loreun_bench.harness import keeping
    from loreun_bench.harness.leases import EXPIRES, Sweeps
    from loreun_bench.harness.store import Store, default_root

    store = Store(default_root())
    sweeps = Sweeps(store)
    if not dry_run and (many := sweeps.elsewhere()):
        say(f"{_of_others(many)}: waiting {EXPIRES:.0f} s for a sign of life")
        time.sleep(EXPIRES)
        sweeps.clean()
    age = None if older is None else keeping.seconds(older)
    gone = keeping.removable(store, keep_runs, age, unused)
    if not dry_run:
        keeping.remove(store, gone)
    size = decimal(sum(one.size for one in gone))
    say(f"{len(gone)} of the store's items {'would go' if dry_run else 'are gone'}, {size}")


def _of_others(many: int) -> str:
    return f"{many} sweep{'s' * (many > 1)} of another machine or of before a restart"
