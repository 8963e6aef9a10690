"""Models that a user brings: their metrics on a data set's split, or on a run's, of which they become a row."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loreun_bench import config as configuration
from loreun_bench.classification.data.splits import ForgetSplit
from loreun_bench.errors import UserError, did_you_mean
from loreun_bench.harness import rerun
from loreun_bench.harness.plan import Cell, Plan, artifacts, build
from loreun_bench.harness.records import Record, load_records
from loreun_bench.harness.stage import Stage
from loreun_bench.harness.store import Store, default_root
from loreun_bench.registry import registry

if TYPE_CHECKING:
    from torch import nn

    from loreun_bench.classification.config import ClassificationConfig
    from loreun_bench.classification.data.images import Dataset
    from loreun_bench.harness.measuring import Measured

YOURS = "yours"


def plan_of(run: Path) -> tuple[ClassificationConfig, Plan]:
    """The configuration and the plan of a run folder. UserError if it is of another track."""
    config = rerun.config_of(run)
    if config.track != "classification":
        raise UserError(f"{run} is a sweep of the track {config.track}, whose concepts have no split")
    return config, build(config)  # type: ignore[return-value]


def cell_of(plan: Plan, scenario: str | None, seed: int | None) -> Cell:
    """A cell of a scenario (by default the only one) under a split's seed (by default the first)."""
    label = rerun.of_scenario([cell.record for cell in plan.cells], scenario)[0].scenario
    own = [cell for cell in plan.cells if cell.record.scenario == label and cell.record.seeds]
    seeds = list(dict.fromkeys(cell.record.seeds["split"] for cell in own))
    if seed is not None and seed not in seeds:
        raise UserError(f"--seed {seed}: the sweep's splits have the seeds {', '.join(map(str, seeds))}")
    return next(cell for cell in own if cell.record.seeds["split"] == (seeds[0] if seed is None else seed))


def drawn(stage: Stage, plan: Plan) -> ForgetSplit:
    """A split as the store has it; drawn anew where nothing but the data decides it. UserError otherwise."""
    artifact = artifacts(plan, Store(default_root())).get(stage.recipe)
    if artifact is not None:
        return ForgetSplit(**artifact.tensors())
    if stage.inputs:
        raise UserError("the store has not got this split, which the original model's losses decide: run the sweep again")
    return ForgetSplit(**stage.function()(stage.config, {}, "cpu").tensors)


def network(run: Path, weights: Path) -> nn.Module:
    """The run's network with weights from a file: the usual wrappings, weights only. UserError if they do not fit."""
    from loreun_bench.classification.data.prepared import DataInfo
    from loreun_bench.classification.unlearning.checkpoints import read
    from loreun_bench.classification.unlearning.networks import build_model

    config = plan_of(run)[1].cells[0].evaluation.config
    info = DataInfo(**config["data"])
    height, width, channels = info.shape
    model = build_model(config["model"], config["model_settings"], channels, info.classes, (height, width))
    read(weights, model)
    return model


def measured(
    model: nn.Module, run: Path, scenario: str | None, seed: int | None, metrics: Sequence[str] | None = None
) -> Record:
    """The record of a model on a run's split. metrics: by default the run's, but for those that compare with other models.

    UserError if it gives no logits [B, classes], or a metric is not for it.
    """
    from loreun_bench.classification.data.images import load_dataset
    from loreun_bench.classification.data.prepared import verified
    from loreun_bench.classification.unlearning.networks import device_of
    from loreun_bench.harness import environment

    config, plan = plan_of(run)
    cell = cell_of(plan, scenario, seed)
    names = [name for name in config.metrics if alone(name)] if metrics is None else list(metrics)
    _check(names)
    device, how = device_of(model), cell.evaluation.config
    split = drawn(cell.evaluation.inputs["split"], plan).to(device)
    about = how["data"]
    file = verified(about["file"], about["sha256"])
    data = load_dataset(file, tuple(about["mean"]), tuple(about["std"]), about["classes"], device)
    found = _measure(model, data, split, config.protocol, how["seed"], names).record()
    return replace(
        cell.record, method=YOURS, weighting="none", trials=0, metrics=found["metrics"], counts=found["counts"],
        uninformative=found["uninformative"], environment=environment.describe(device),
    )  # fmt: skip


def alone(metric: str) -> bool:
    """Whether a metric needs no model but the one that it looks at."""
    about = registry("metrics").get(metric).info
    return not about["derived"] and not about["needs"] - {"model", "data"}


def on_data(
    model: nn.Module, dataset: str, scenario: Mapping[str, Any], seed: int, validation: float, metrics: Sequence[str],
    protocol: str, normalise: Any, original: nn.Module | None,
) -> dict[str, float]:  # fmt: skip
    """The metrics of a model on a data set's split; see `loreun_bench.evaluate`."""
    from loreun_bench.classification.config import Normalised, Scenario
    from loreun_bench.classification.data import splits
    from loreun_bench.classification.data.images import load_dataset
    from loreun_bench.classification.data.normalisation import normalised
    from loreun_bench.classification.data.prepared import resolve as find
    from loreun_bench.classification.unlearning.networks import device_of
    from loreun_bench.classification.unlearning.protocols import PROTOCOLS

    device = device_of(model)
    if protocol not in PROTOCOLS:
        raise UserError(f"evaluate: unknown protocol '{protocol}'; {did_you_mean(str(protocol), PROTOCOLS)}")
    _check(metrics)
    chosen = configuration.check(Scenario, dict(scenario), "scenario")
    by = configuration.check(Normalised, {"normalise": normalise}, "evaluate").normalise
    info = normalised(find(dataset), by)
    data = load_dataset(info.path, info.mean, info.std, info.classes, device)
    people = splits.population(info, splits.csvs_of(chosen))
    if "original" in chosen.entry.info["needs"]:
        people = splits.with_losses(people, _losses(original, data, chosen.label))
    split = splits.draw_all(people, chosen, validation=validation, seed=seed)[-1].to(device)
    return _measure(model, data, split, protocol, seed, metrics)


def beside(model: nn.Module, run: Path, scenario: str | None, seed: int, metrics: Sequence[str]) -> dict[str, float]:
    """The metrics of a model on a run's split, and those that are derived from them and its Retrain's."""
    own = measured(model, run, scenario, seed, metrics)
    same = (own.scenario, own.seeds, "Retrain", "ok")
    retrain = next((r for r in load_records(run) if (r.scenario, r.seeds, r.method, r.status) == same), None)
    found, theirs = dict(own.metrics), retrain.metrics if retrain else {}
    silent = {*own.uninformative, *(retrain.uninformative if retrain else ())}
    cell, base = ({k: v for k, v in each.items() if k not in silent} for each in (own.metrics, theirs))
    for entry in registry("metrics").entries():
        if entry.info["derived"]:
            with contextlib.suppress(KeyError):  # one that it reads was not measured, or says nothing
                found[next(iter(entry.info["columns"]))] = float(entry.item(cell, base))
    return found


def _measure(
    model: nn.Module, data: Dataset, split: ForgetSplit, protocol: str, seed: int, metrics: Sequence[str]
) -> Measured:
    """What metrics find of a model, which is left as it was."""
    from loreun_bench.classification.scoring.evaluation import evaluate
    from loreun_bench.classification.unlearning.method import ImageSet
    from loreun_bench.classification.unlearning.networks import borrowed
    from loreun_bench.classification.unlearning.protocols import PROTOCOLS
    from loreun_bench.harness.measuring import measured as measuring
    from loreun_bench.harness.seeding import seeded

    with borrowed(model, data.test.batch(split.test[:2]), data.classes), seeded(seed):
        outputs = evaluate(model, data, split, PROTOCOLS[protocol], seed, {})
        if any(registry("metrics").get(name).info["needs"] for name in metrics):
            forget = ImageSet(data.train, split.forget, split.labels[split.forget])
            return measuring(metrics, "classification", replace(outputs, model=model, data=forget))
    return measuring(metrics, "classification", outputs)  # what one raises is not the model's


def _check(metrics: Sequence[str]) -> None:
    """UserError for a metric that a model alone does not have."""
    for name in metrics:
        if registry("metrics").get(name).info["derived"]:
            raise UserError(f"evaluate: metric '{name}' is derived when a table is made, from a row and its Retrain")
        if not alone(name):
            raise UserError(f"evaluate: metric '{name}' compares with other models: it is for sweeps")


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
