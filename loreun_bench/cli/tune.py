"""tune."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loreun_bench.cli.says import say
from loreun_bench.cli.sweep import Device, Plugins, Set, Source, Workers

if TYPE_CHECKING:
    from loreun_bench.config import SweepConfig
    from loreun_bench.harness.tuning import Rows, Trial


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(tune)


def tune(
    source: Source = "digits",
    trials: Annotated[int, typer.Option("--trials", min=2, help="settings tried for each method, the given ones first")] = 8,
    refine: Annotated[int, typer.Option("--refine", min=0, help="settings more, around what is best of these")] = 4,
    seeds: Annotated[str, typer.Option("--seeds", help="other than the sweep's: own splits and models")] = "100-101",
    to: Annotated[Path | None, typer.Option("--to", metavar="FILE.yaml", help="where the tuned sweep goes")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="run folder [default: runs/NAME-tune]")] = None,
    set_: Set = None,
    workers: Workers = None,
    device: Device = "auto",
    plugin: Plugins = None,
) -> None:
    """Try as many settings for every method, on validation, and write the sweep with the best for each scenario.

    First they are spread over all that the method allows, then around what was best, in a run folder beside the first. The
    score is ToW with validation in the place of the test set (generation: H), the mean over seeds, unweighted;
    weightings then take their method's settings. Running it again continues it.
    """
    from loreun_bench import config as configuration
    from loreun_bench.harness import tuning
    from loreun_bench.harness.files import write_atomic
    from loreun_bench.registry import load_plugin

    for path in plugin or ():
        load_plugin(path)
    overrides = [*(set_ or []), *([f"device={device}"] if device != "auto" else [])]
    config = configuration.load(source, overrides)
    rows = tuning.trials_of(config, trials)
    folder, found = _tried(config, rows, seeds, out, workers)
    if refine:
        rows = tuning.refined(config, rows, [tuning.best(each) for _, each in found], refine)
        _, found = _tried(config, rows, seeds, folder.with_name(f"{folder.name}-refined"), workers)
    chosen = [tuning.best(each) for _, each in found]
    for at, (name, trials_) in enumerate(found):
        say(f"\n{name}\n{_table(trials_, chosen[at], tuning.at_edge(config, at, trials_, chosen[at]))}")
    path = to or Path(f"{config.name}-tuned.yaml")
    write_atomic(path, tuning.written(config, chosen, trials, seeds, refine))
    say(f"{path}: run it with `sweep {path}`")


def _tried(
    config: SweepConfig, rows: Rows, seeds: str, out: Path | None, workers: int | None
) -> tuple[Path, list[tuple[str, list[Trial]]]]:
    """The run folder of a search, and each scenario with the trials that it made."""
    from loreun_bench import api
    from loreun_bench.cli.progress import Progress
    from loreun_bench.harness import plan as planning
    from loreun_bench.harness import tuning

    searched = api.resolve(tuning.search(config, rows, seeds))
    planned = planning.build(searched)
    folder = api.run_folder(searched, out)
    with Progress(planned, folder) as progress:
        try:
            records = api.execute(searched, planned, folder, where=api.Where(workers=workers), listen=progress)
        except KeyboardInterrupt:
            progress.stop("interrupted; what is finished is kept: run the same command again to continue")
            raise typer.Exit(130) from None
    progress.close(records)
    found = []
    for at, names in enumerate(tuning.labels(searched)):
        own = [record for record in records if record.scenario in names]
        found.append((", ".join(sorted(names)), tuning.scored(own, rows, at)))
    return folder, found


def _table(trials: list[Trial], chosen: dict[str, Trial], at_edge: list[str]) -> str:
    from tabulate import tabulate

    from loreun_bench.cli.tables import terminal
    from loreun_bench.report.text import wrapped

    def words(values: dict[str, Any]) -> str:
        return ", ".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in values.items()) or "default"

    methods = list(dict.fromkeys(t.method for t in trials))
    rows = [
        [t.method, words(t.settings), "failed" if t.score != t.score else f"{t.score:.4f}{' *' * (t in chosen.values())}"]
        for t in sorted(trials, key=lambda t: (methods.index(t.method), _numbers(t)))  # so that a score's course is seen
    ]
    shown = tabulate(rows, ["method", "settings", "score"], colalign=("left", "left", "left"), disable_numparse=True,
                     maxcolwidths=[16, 46, 10])  # fmt: skip
    said = f"\nat the edge of what was tried, beyond which may be better: {', '.join(at_edge)}" if at_edge else ""
    return shown + wrapped(said, terminal())


def _numbers(trial: Trial) -> list[float]:
    return [float(value) for value in trial.settings.values() if isinstance(value, int | float)]
