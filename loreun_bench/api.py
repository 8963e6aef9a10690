"""Sweeps from Python: what `python -m loreun_bench sweep` does, without the printing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loreun_bench import config as configuration
from loreun_bench.config import SweepConfig
from loreun_bench.errors import UserError, did_you_mean, told
from loreun_bench.harness import plan as planning
from loreun_bench.harness import records, scheduler
from loreun_bench.harness.engines import Engine
from loreun_bench.harness.environment import cores, package_version
from loreun_bench.harness.files import write_atomic
from loreun_bench.harness.plan import Plan
from loreun_bench.harness.records import Record, load_records
from loreun_bench.harness.store import Store, data_root, default_root
from loreun_bench.plugins import in_own_process, load_plugin
from loreun_bench.versions import CONFIG

if TYPE_CHECKING:
    from torch import nn


ENGINES = ("local", "ray", "slurm")


@dataclass(frozen=True)
class Where:
    """Where stages run: an engine of ENGINES, how many at a time at most, for Ray the cluster's address and the share of a
    GPU that each takes, for Slurm, of which `workers` are jobs, its settings and the plug-ins. UserError for what cannot be.
    """

    engine: str = "local"
    workers: int | None = None
    address: str | None = None
    gpus_per_stage: float = 1.0
    slurm: tuple[str, ...] = ()
    plugins: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise UserError(f"unknown engine '{self.engine}'; {did_you_mean(self.engine, ENGINES)}")
        if self.workers is not None and self.workers < (self.engine != "local"):
            least = "0 (in this process)" if self.engine == "local" else "1"
            raise UserError(f"--workers {self.workers}: give {least} or more")
        if self.engine != "ray" and (self.address is not None or self.gpus_per_stage != 1):
            raise UserError("--address and --gpus-per-stage are for --engine ray")
        if self.engine == "slurm" and self.workers is None:
            raise UserError("--engine slurm: give the number of jobs, as --workers 8")
        if self.engine != "slurm" and self.slurm:
            raise UserError("--slurm is for --engine slurm")

    def check(self, fresh: bool, shard: str | None) -> None:
        """UserError for what a sweep as jobs of Slurm has not got, or for what it needs."""
        if self.engine != "slurm":
            return
        if fresh or shard is not None:
            raise UserError(f"--engine slurm: leave out {'--fresh' if fresh else '--shard'}, which its jobs cannot share")
        from loreun_bench.harness.engines.slurm import chosen

        chosen(self.slurm)


LOCAL = Where()


def sweep(
    config: SweepConfig | str | Path | dict[str, Any] = "digits",
    out: str | Path | None = None,
    *,
    workers: int | None = None,
    engine: str = "local",
    address: str | None = None,
    gpus_per_stage: float = 1.0,
    slurm: Sequence[str] = (),
    plugins: Sequence[str | Path] = (),
    fresh: bool = False,
    shard: str | None = None,
    listen: Callable[[scheduler.Event], None] = lambda event: None,
) -> list[Record]:
    """Run a sweep and return its records, in the plan's order; running it again continues it.

    config: a preset's name, a YAML file, a dict or a checked configuration. out: the run folder, by default
    `runs/<name>`. workers: processes, by default one a core on the CPU and one on a GPU; 0 runs in this process,
    where what a plug-in does can reach other rows. engine: "local", or "ray": on the cluster at `address`, or with none on
    this machine, each stage on a share of a GPU, if the device is cuda, and at most `workers` at a time; or "slurm": as
    `workers` jobs with the settings `slurm`, as "partition=gpu". fresh: make every result anew, also what the store has.
    shard: only every n-th cell from the k-th on, as "k/n"; sweeps that run at once on one store, on however many machines,
    make each stage once, and one without `shard` collects.
    Raises UserError for input that a user can mend. Failures of single cells are records with a status and a reason.
    """
    where = Where(engine, workers, address, gpus_per_stage, tuple(slurm), tuple(load_plugin(path) for path in plugins))
    where.check(fresh, shard)
    config = resolve(config, here=engine == "local")
    plan = planning.build(config)
    plan = plan if shard is None else planning.shard(plan, shard)
    return execute(config, plan, run_folder(config, out), where=where, fresh=fresh, listen=listen)


def execute(
    config: SweepConfig,
    plan: Plan,
    out: Path,
    *,
    where: Where = LOCAL,
    fresh: bool = False,
    listen: Callable[[scheduler.Event], None] = lambda event: None,
) -> list[Record]:
    """Run a plan made from a resolved configuration in the run folder `out`."""
    if in_own_process():
        raise UserError("a stage of a sweep began a sweep: put the call under `if __name__ == '__main__':`")
    if where.engine == "slurm":
        from loreun_bench.harness.engines.slurm import run

        _begin(out, config, listen)
        return run(plan, out, where.workers or 1, where.slurm, where.plugins, listen)
    engine = make_engine(config.device, where, [stage.run.partition(":")[0] for stage in plan.stages])
    try:
        _begin(out, config, listen)
        found = scheduler.run(plan, engine, Store(default_root()), out, config.device, listen, fresh)
    finally:
        engine.close()
    _restore(out, config, found)
    return found


def _begin(out: Path, config: SweepConfig, listen: Callable[[scheduler.Event], None]) -> None:
    if said := claim(out, config):
        listen(scheduler.Event("note", text=said))


def resolve(
    config: SweepConfig | str | Path | dict[str, Any], overrides: Sequence[str] = (), here: bool = True
) -> SweepConfig:
    """The checked configuration with `auto`, of device and precision, settled by what this machine has: the same for all
    rows, wherever they run. UserError if CUDA is asked for and not there; here: stages run on this machine."""
    if not isinstance(config, SweepConfig):
        config = configuration.load(config, overrides)
    config = _with_device(config, here)
    if config.precision != "auto":
        return config
    from loreun_bench.training.loop import automatic

    return config.model_copy(update={"precision": automatic(config.device)})


def _with_device(config: SweepConfig, here: bool) -> SweepConfig:
    if config.device == "cpu" or (config.device == "cuda" and not here):
        return config
    import torch

    there = torch.cuda.device_count()
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda: torch finds no GPU; use --device cpu, or see `env`")
    if torch.cuda.is_available() and config.ranks > there:
        raise UserError(f"ranks: {config.ranks} GPUs are wanted and torch finds {there}: set ranks to {there} at most")
    return config.model_copy(update={"device": "cuda" if torch.cuda.is_available() else "cpu"})


def run_folder(config: SweepConfig, out: str | Path | None) -> Path:
    """`out`, or runs/<name>."""
    return Path(out) if out is not None else Path("runs") / config.name


def claim(out: Path, config: SweepConfig) -> str:
    """Write `config.yaml` into the run folder. Returns what is to be said: a sweep of the same with fewer seeds is gone on
    with. UserError if it holds another sweep's."""
    try:
        said = _claim(out, out / "config.yaml", config)
        for folder in (default_root(), data_root()):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write or read the folders of this sweep: {told(error)}") from error
    return said


def _claim(out: Path, path: Path, config: SweepConfig) -> str:
    text = configuration.dump(config)
    if not path.is_file():
        if (out / "records.jsonl").exists() and not path.is_file():  # another part of the sweep may write it now
            raise UserError(f"{out} holds records but no config.yaml; choose another folder with --out")
        write_atomic(path, _signed(text))
        return ""
    try:
        before = configuration.load(path)
    except UserError as error:
        raise UserError(f"{out} holds a sweep that cannot be gone on with ({error}); choose another with --out") from error
    if configuration.dump(before) == text:
        return ""
    if not _has_some_seeds(before, config):
        raise UserError(f"{out} holds the sweep of another configuration ({path}); choose another folder with --out")
    write_atomic(path, _signed(text))
    new = len(config.seeds) - len(before.seeds)
    return f"{new} seed{'s are' if new > 1 else ' is'} added to the {len(before.seeds)} that {out} has, which are kept"


def _signed(text: str) -> str:
    """A configuration with who wrote it."""
    return f"schema: {CONFIG}\nloreun_bench: '{package_version()}'\n{text}"


def _restore(out: Path, config: SweepConfig, found: list[Record]) -> None:
    """Write again what of the run folder was removed while the sweep ran."""
    if not (out / "config.yaml").is_file():
        write_atomic(out / "config.yaml", _signed(configuration.dump(config)))
    journal = out / "records.jsonl"
    there = {record.cell: record for record in load_records(out)} if journal.is_file() else {}
    if lost := [record for record in found if record.cell not in there]:
        records.append(journal, lost)


def _has_some_seeds(before: SweepConfig, config: SweepConfig) -> bool:
    """Whether the sweep of `before` is that of `config` with some of its seeds."""
    fewer = config.model_copy(update={"seeds": before.seeds})
    return all(each in config.seeds for each in before.seeds) and configuration.dump(fewer) == configuration.dump(before)


def make_engine(device: str, where: Where, modules: Sequence[str]) -> Engine:
    """The engine for stages that are in `modules`; with 0 workers this process."""
    if where.engine == "ray":
        from loreun_bench.harness.engines.ray import RayEngine

        return RayEngine(where.address, where.workers, device, modules, where.gpus_per_stage)
    workers = (1 if device == "cuda" else cores()) if where.workers is None else where.workers
    if workers == 0:
        from loreun_bench.harness.engines.inline import InlineEngine

        return InlineEngine()
    from loreun_bench.harness.engines.local import LocalEngine

    return LocalEngine(workers, modules)


def evaluate(
    model: nn.Module,
    dataset: str = "digits",
    scenario: Mapping[str, Any] | str | None = None,
    *,
    seed: int = 0,
    validation: float = 0.1,
    metrics: Sequence[str] = ("accuracy", "mia", "loss"),
    protocol: str = "corrected",
    normalise: str | Mapping[str, Any] = "data",
    original: nn.Module | None = None,
    against: str | Path | None = None,
) -> dict[str, float]:
    """The stored metrics of a model that you bring, on a data set's split; it is left as it was.

    scenario: as in a configuration, such as {"kind": "random", "fraction": 0.1}, the default; a sequence is evaluated one
    request at a time. original: the model before unlearning, for a scenario that chooses by its losses. normalise: as in a
    configuration, "data", "none" or {"mean": …, "std": …}: images [B, C, H, W] arrive so, in the type of the model's
    weights. against: a sweep's run folder, whose data, split, protocol and normalisation are then taken; scenario is one of
    its labels (by default the only one), seed one of its splits', and what compares with its Retrain, such as `tow`, is
    there, too. Runs where the model is. UserError if it gives no logits [B, classes], or some that are not finite.
    """
    from loreun_bench.classification import brought

    if against is not None:
        if scenario is not None and not isinstance(scenario, str):
            raise UserError("evaluate: with against=RUN, scenario is the label of one of its scenarios")
        return brought.beside(model, Path(against), scenario, seed, metrics)
    if isinstance(scenario, str):
        raise UserError(f"evaluate: scenario '{scenario}' is a label of a run: give against=RUN, or a dictionary")
    chosen = scenario or {"kind": "random", "fraction": 0.1}
    return brought.on_data(model, dataset, chosen, seed, validation, metrics, protocol, normalise, original)
