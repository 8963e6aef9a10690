"""sweep and plan."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loreun_bench.cli.says import say

if TYPE_CHECKING:
    from loreun_bench.config import SweepConfig
    from loreun_bench.harness.plan import Plan

WORKERS = "processes [default: one a core; a GPU: 1]; 0: in this one, where what a plug-in does can reach other rows"
Source = Annotated[str, typer.Argument(metavar="[PRESET or FILE.yaml]", help="what to run; `ls presets` lists them")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="change a setting, as train.epochs=5")]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="run folder [default: runs/NAME]")]
Workers = Annotated[int | None, typer.Option("--workers", help=WORKERS)]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda")]
Plugins = Annotated[list[Path] | None, typer.Option("--plugin", metavar="FILE.py", help="load your own items from a file")]
Fresh = Annotated[bool, typer.Option("--fresh", help="make every result anew, also what the store has")]
Shard = Annotated[str | None, typer.Option("--shard", metavar="K/N", help="only this part, as 1/8, of an array of jobs")]
EngineName = Annotated[str, typer.Option("--engine", help="local, ray or slurm: see docs/scale.md")]
Address = Annotated[str | None, typer.Option("--address", help="of a Ray cluster, as auto [default: one of this machine]")]
Gpus = Annotated[float, typer.Option("--gpus-per-stage", metavar="SHARE", help="of a GPU that a stage takes, with Ray")]
Slurm = Annotated[list[str] | None, typer.Option("--slurm", metavar="KEY=VALUE", help="a setting, as partition=gpu")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(sweep)
    app.command()(plan)


def sweep(
    source: Source = "digits", set_: Set = None, out: Out = None, engine: EngineName = "local",
    workers: Workers = None, device: Device = "auto", plugin: Plugins = None, fresh: Fresh = False, shard: Shard = None,
    address: Address = None, gpus_per_stage: Gpus = 1.0, slurm: Slurm = None,
) -> None:  # fmt: skip
    """Plan, run, print the leaderboard. Running it again continues it; several at once on one store share the work."""
    from loreun_bench import api
    from loreun_bench.cli.progress import Progress
    from loreun_bench.cli.tables import terminal
    from loreun_bench.harness.scheduler import DiskFull
    from loreun_bench.report import leaderboard, table

    signal.signal(signal.SIGTERM, _interrupt)
    where = api.Where(engine, workers, address, gpus_per_stage, tuple(slurm or ()), tuple(plugin or ()))
    where.check(fresh, shard)
    config, planned = _prepare(source, set_, engine, device, plugin, shard)
    folder = api.run_folder(config, out)
    with Progress(planned, folder) as progress:
        try:
            records = api.execute(config, planned, folder, where=where, fresh=fresh, listen=progress)
        except KeyboardInterrupt:
            progress.stop("interrupted; what is finished is kept: run the same command again to continue")
            raise typer.Exit(130) from None
        except DiskFull as error:
            progress.stop(f"error: {error}")
            raise typer.Exit(1) from None
    if shard is not None:
        progress.close(records)
        progress.stop(f"part {shard} is done: the same command without --shard collects all parts and prints the table")
        raise typer.Exit(1 if any(record.status != "ok" for record in records) else 0)
    groups = table.build([(folder.name, records)])
    missing = _not_written(folder / "leaderboard.md", leaderboard.render(groups, "md"))
    room = terminal()
    say(leaderboard.render(groups, width=room, notes=room is None))
    progress.close(records)
    if missing:
        say(f"error: {missing}", err=True)
    if missing or any(record.status != "ok" for record in records):
        raise typer.Exit(1)


def plan(
    source: Source = "digits", set_: Set = None, engine: EngineName = "local", device: Device = "auto",
    plugin: Plugins = None, workers: Workers = None, out: Out = None, shard: Shard = None,
) -> None:  # fmt: skip
    """Print the stages, which are cached, and what the others will cost. Runs nothing."""
    from loreun_bench import api
    from loreun_bench.cli.tables import terminal
    from loreun_bench.harness.plan import forecast
    from loreun_bench.harness.store import Store, default_root
    from loreun_bench.report.text import wrapped

    api.Where(engine, workers)
    _, planned = _prepare(source, set_, engine, device, plugin, shard)
    stages = forecast(planned, Store(default_root()))
    rows = [
        [
            "cached" if f.cached else f"to run ({', '.join(f.changed)})" if f.changed else "to run",
            f.stage.label,
            f"{f.stage.work:,}" if f.stage.work else "-",
            _seconds(f.seconds),
        ]
        for f in stages
    ]
    room = terminal()
    say(_stages(rows, room))
    for note in planned.notes:
        say(wrapped(f"note: {note}", room))
    todo = [f for f in stages if not f.cached]
    head = f"\n{len(planned.cells)} cells, {len(stages)} stages: {len(stages) - len(todo)} cached, {len(todo)} to run"
    if todo:
        head += f", {sum(f.stage.work for f in todo):,} samples,\n{_cost([f.seconds for f in todo])}"
    say(wrapped(head, room))


def _not_written(path: Path, text: str) -> str:
    """Write a file; in words, why it could not be."""
    from loreun_bench.errors import told
    from loreun_bench.harness.files import write_atomic

    try:
        write_atomic(path, text)
    except OSError as error:
        return told(error)
    return ""


def _stages(rows: list[list[str]], room: int | None) -> str:
    """The table of a plan's stages in `room` columns: what is too long for it goes on below."""
    from tabulate import tabulate

    state = min(24, max(len(row[0]) for row in rows))
    return tabulate(
        rows, ["", "stage", "samples", "seconds"], colalign=("left", "left", "right", "right"), disable_numparse=True,
        maxcolwidths=None if room is None else [state, max(20, room - state - 28), None, None],
    )  # fmt: skip


def _cost(seconds: list[float | None]) -> str:
    """How long stages will take, as far as that is known of each."""
    known = [each for each in seconds if each is not None]
    unknown = len(seconds) - len(known)
    total = sum(known)
    said = [f"about {total:.0f} s of one worker" if total >= 1 else "under 1 s of one worker"] if known else []
    said += [f"{unknown} stages of unknown speed (none of their kind has run yet)"] if unknown else []
    return " and ".join(said)


def _prepare(
    source: str, set_: list[str] | None, engine: str, device: str, plugin: list[Path] | None, shard: str | None
) -> tuple[SweepConfig, Plan]:
    from loreun_bench import api
    from loreun_bench.harness import plan as planning
    from loreun_bench.registry import load_plugin

    for path in plugin or ():
        load_plugin(path)
    overrides = [*(set_ or []), *([f"device={device}"] if device != "auto" else [])]
    config = api.resolve(source, overrides, here=engine == "local")
    planned = planning.build(config)
    return config, planned if shard is None else planning.shard(planned, shard)


def _seconds(value: float | None) -> str:
    return "?" if value is None else f"{value:.1f}" if value >= 0.05 else "<0.1"


def _interrupt(*_: Any) -> None:
    say("terminated", err=True)
    raise KeyboardInterrupt
