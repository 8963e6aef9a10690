"""Sweeps from Python: what `python -m loreun_bench sweep` does, without the printing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loreun_bench import config as configuration
from loreun_bench.config import SweepConfig
from loreun_bench.errors import UserError, did_you_mean
from loreun_bench.harness import plan as planning
from loreun_bench.harness import scheduler
from loreun_bench.harness.engines import Engine
from loreun_bench.harness.environment import cores
from loreun_bench.harness.files import write_atomic
from loreun_bench.harness.plan import Plan
from loreun_bench.harness.records import Record
from loreun_bench.harness.store import Store, data_root, default_root
from loreun_bench.plugins import in_own_process, load_plugin
from loreun_bench.registry import registry

if TYPE_CHECKING:
    from torch import nn


def sweep(
    config: SweepConfig | str | Path | dict[str, Any] = "digits",
    out: str | Path | None = None,
    *,
    workers: int | None = None,
    plugins: Sequence[str | Path] = (),
    fresh: bool = False,
    listen: Callable[[scheduler.Event], None] = lambda event: None,
) -> list[Record]:
    """Run a sweep and return its records, in the plan's order; running it again continues it.

    config: a preset's name, a YAML file, a dict or a checked configuration. out: the run folder, by default
    `runs/<name>`. workers: processes, by default one a core on the CPU and one on a GPU; 0 runs in this process,
    where what a plug-in does can reach other rows. fresh: make every result anew, also what the store has.
    Raises UserError for input that a user can mend. Failures of single cells are records with a status and a reason.
    """
    for path in plugins:
        load_plugin(path)
    config = resolve(config)
    plan = planning.build(config)
    return execute(config, plan, run_folder(config, out), workers=workers, fresh=fresh, listen=listen)


def execute(
    config: SweepConfig,
    plan: Plan,
    out: Path,
    *,
    workers: int | None = None,
    fresh: bool = False,
    listen: Callable[[scheduler.Event], None] = lambda event: None,
) -> list[Record]:
    """Run a plan made from a resolved configuration in the run folder `out`."""
    if workers is not None and workers < 0:
        raise UserError(f"--workers {workers}: give 0 (in this process) or more")
    if in_own_process():
        raise UserError("a stage of a sweep began a sweep: put the call under `if __name__ == '__main__':`")
    if said := claim(out, config):
        listen(scheduler.Event("note", text=said))
    store = Store(default_root())
    with store.in_use():
        engine = make_engine(config.device, workers, [stage.run.partition(":")[0] for stage in plan.stages])
        try:
            return scheduler.run(plan, engine, store, out, config.device, listen, fresh)
        finally:
            engine.close()


def resolve(config: SweepConfig | str | Path | dict[str, Any], overrides: Sequence[str] = ()) -> SweepConfig:
    """The checked configuration with `device: auto` settled. UserError if CUDA is asked for and not there."""
    if not isinstance(config, SweepConfig):
        config = configuration.load(config, overrides)
    if config.device == "cpu":
        return config
    import torch

    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda: torch finds no GPU; use --device cpu, or see `env`")
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
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot write or read the folders of this sweep: {error}") from error
    return said


def _claim(out: Path, path: Path, config: SweepConfig) -> str:
    text = configuration.dump(config)
    if not path.is_file():
        if (out / "records.jsonl").exists():
            raise UserError(f"{out} holds records but no config.yaml; choose another folder with --out")
        write_atomic(path, text)
        return ""
    if (before := path.read_text(encoding="utf-8")) == text:
        return ""
    had = _seeds_before(path, before, config)
    if not had:
        raise UserError(f"{out} holds the sweep of another configuration ({path}); choose another folder with --out")
    write_atomic(path, text)
    new = len(config.seeds) - had
    return f"{new} seed{'s are' if new > 1 else ' is'} added to the {had} that {out} has, which are kept"


def _seeds_before(path: Path, text: str, config: SweepConfig) -> int:
    """How many seeds the sweep of `text` has, if it is `config` with some of its seeds; else 0."""
    try:
        before = configuration.load(path)
    except UserError:
        return 0
    fewer = config.model_copy(update={"seeds": before.seeds})
    among = all(each in config.seeds for each in before.seeds)
    return len(before.seeds) if among and configuration.dump(fewer) == text else 0


def make_engine(device: str, workers: int | None, modules: Sequence[str]) -> Engine:
    """The local engine, whose stages are in `modules`, or with 0 workers this process."""
    if workers is None:
        workers = 1 if device == "cuda" else cores()
    if workers == 0:
        from loreun_bench.harness.engines.inline import InlineEngine

        return InlineEngine()
    from loreun_bench.harness.engines.local import LocalEngine

    return LocalEngine(workers, modules)


def evaluate(
    model: nn.Module,
    dataset: str = "digits",
    scenario: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    validation: float = 0.1,
    metrics: Sequence[str] = ("accuracy", "mia", "loss"),
    protocol: str = "corrected",
    normalise: str | Mapping[str, Any] = "data",
    original: nn.Module | None = None,
) -> dict[str, float]:
    """The stored metrics of a model that you bring, on a data set's split; it is left as it was.

    scenario: as in a configuration, such as {"kind": "random", "fraction": 0.1}, the default; a sequence is evaluated one
    request at a time. original: the model before unlearning, for a scenario that chooses by its losses. normalise: as in a
    configuration, "data", "none" or {"mean": …, "std": …}: images [B, C, H, W] arrive so, in the type of the model's
    weights. Runs where the model is. UserError if it gives no logits [B, classes], or some that are not finite.
    """
    from loreun_bench.classification.config import Normalised, Scenario
    from loreun_bench.classification.data import splits
    from loreun_bench.classification.data.images import load_dataset
    from loreun_bench.classification.data.normalisation import normalised
    from loreun_bench.classification.data.prepared import resolve as find
    from loreun_bench.classification.scoring.evaluation import evaluate as outputs_of
    from loreun_bench.classification.unlearning.method import ImageSet
    from loreun_bench.classification.unlearning.networks import borrowed, device_of
    from loreun_bench.classification.unlearning.protocols import PROTOCOLS
    from loreun_bench.harness.measuring import measure
    from loreun_bench.harness.seeding import seeded

    device = device_of(model)
    if protocol not in PROTOCOLS:
        raise UserError(f"evaluate: unknown protocol '{protocol}'; {did_you_mean(str(protocol), PROTOCOLS)}")
    needs = _needs(metrics)
    chosen = configuration.check(Scenario, dict(scenario or {"kind": "random", "fraction": 0.1}), "scenario")
    by = configuration.check(Normalised, {"normalise": normalise}, "evaluate").normalise
    info = normalised(find(dataset), by)
    data = load_dataset(info.path, info.mean, info.std, info.classes, device)
    people = splits.population(info, splits.csvs_of(chosen))
    if "original" in chosen.entry.info["needs"]:
        people = splits.with_losses(people, _losses(original, data, chosen.label))
    split = splits.draw_all(people, chosen, validation=validation, seed=seed)[-1].to(device)
    with borrowed(model, data.test.batch(split.test[:2]), data.classes), seeded(seed):
        outputs = outputs_of(model, data, split, PROTOCOLS[protocol], seed, {})
        if needs:
            forget = ImageSet(data.train, split.forget, split.labels[split.forget])
            return measure(metrics, "classification", replace(outputs, model=model, data=forget))
    return measure(metrics, "classification", outputs)


def _needs(metrics: Sequence[str]) -> set[str]:
    """What the metrics ask for beside predictions. UserError for one that a model alone does not have."""
    needs: set[str] = set()
    for name in metrics:
        about = registry("metrics").get(name).info
        if about["derived"]:
            raise UserError(f"evaluate: metric '{name}' is derived when a table is made, from a row and its Retrain")
        if about["needs"] - {"model", "data"}:
            raise UserError(f"evaluate: metric '{name}' compares with other models: it is for sweeps")
        needs |= about["needs"]
    return needs


def _losses(original: nn.Module | None, data: Any, label: str) -> Any:
    """The original model's losses on all training images [N]."""
    import torch

    from loreun_bench.classification.scoring.evaluation import Predictions, predict
    from loreun_bench.classification.unlearning.networks import borrowed

    if original is None:
        raise UserError(f"scenario {label}: it chooses by the losses of the original model; give original=MODEL")
    index = torch.arange(len(data.train), device=data.train.device)
    with borrowed(original, data.train.batch(index[:2]), data.classes):
        logits = predict(original, data.train, index)
    return Predictions(logits, data.train_labels.cpu()).losses.numpy()
