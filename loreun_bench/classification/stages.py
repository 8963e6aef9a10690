"""The stages of the classification track: split, train, unlearn, evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from loreun_bench import config as configuration
from loreun_bench.classification.config import Recipe, Scenario
from loreun_bench.classification.data.images import Dataset, load_dataset
from loreun_bench.classification.data.prepared import DataInfo, verified
from loreun_bench.classification.data.splits import ForgetSplit, csvs_of, draw_all, population, with_losses
from loreun_bench.classification.scoring.evaluation import SETS, Predictions, predictions
from loreun_bench.classification.scoring.evaluation import evaluate as evaluate_model
from loreun_bench.classification.unlearning.fitting import fit
from loreun_bench.classification.unlearning.method import Context, Data, ImageSet
from loreun_bench.classification.unlearning.networks import adapt, build_model, untouched
from loreun_bench.classification.unlearning.phase import losses_of
from loreun_bench.classification.unlearning.protocols import PROTOCOLS
from loreun_bench.harness.files import unchanged
from loreun_bench.harness.measuring import measured
from loreun_bench.harness.seeding import derive, seeded
from loreun_bench.harness.stage import Output
from loreun_bench.harness.store import Artifact
from loreun_bench.registry import registry
from loreun_bench.training.clock import Meter
from loreun_bench.training.context import Phases
from loreun_bench.training.guards import check_finite, checked_model, checked_weights
from loreun_bench.training.optimiser import make_optimiser
from loreun_bench.training.parallel import spread
from loreun_bench.training.snapshots import resumable
from loreun_bench.weightings import phases_of

PREDICTED = ("logits", "labels", "features")
Config = Mapping[str, Any]
Inputs = Mapping[str, Artifact]


def split(config: Config, inputs: Inputs, device: str) -> Output:
    """Draw the forget split of a scenario, or of one request of a sequence."""
    scenario = Scenario(**config["scenario"]) if config["scenario"] else None
    unchanged(config["files"])
    people = population(DataInfo(**config["data"]), csvs_of(scenario))
    if "losses" in inputs:
        people = with_losses(people, inputs["losses"].tensors()["losses"].double().numpy())
    drawn = draw_all(
        people, scenario, validation=config["validation"], seed=config["seed"],
        one_split=PROTOCOLS[config["protocol"]].one_split, images=config["limit_images"],
    )[config["at"]]  # fmt: skip
    sizes = {name: len(tensor) for name, tensor in drawn.tensors().items() if name != "labels"}
    return Output(drawn.tensors(), {"sizes": sizes})


def losses(config: Config, inputs: Inputs, device: str) -> Output:
    """The original model's loss on every picture it was trained on [N], NaN on the others: what `by-loss` chooses by."""
    data, parts = _dataset(config, device), _split(inputs, device)
    context = _context(config, {}, data, device)
    found = torch.full((len(data.train),), torch.nan)
    found[parts.trained.cpu()] = losses_of(
        _load(config, inputs["original"], data, device), _image_set(data, parts, "trained"), context
    ).cpu()
    return Output({"losses": found})


def train(config: Config, inputs: Inputs, device: str) -> Output:
    """Train the original model on the whole training set."""
    data, parts = _dataset(config, device), _split(inputs, device)
    context = _context(config, {}, data, device)
    samples = _image_set(data, parts, "trained")
    context.resumable = True
    select_on = None if context.protocol.last_epoch else _image_set(data, parts, "selection")
    model = _build(config, data, device, config["init_seed"])
    _warm_up(model, samples, config["train"]["batch_size"])
    with spread(model), seeded(config["seed"]), context.meter:
        model = fit(model, samples, select_on, context)
    check_finite(model.state_dict(), "training left")
    return Output(_weights(model), cost=context.meter.cost())


def adopt(config: Config, inputs: Inputs, device: str) -> Output:
    """Take the original model from the user's checkpoint."""
    from loreun_bench.classification.unlearning.checkpoints import read

    data = _dataset(config, device)
    model = _build(config, data, device, 0)
    read(config["checkpoint"]["path"], model)
    return Output(_weights(model), cost={"rte_s": 0.0, "forward_samples": 0, "backward_samples": 0})


def unlearn(config: Config, inputs: Inputs, device: str) -> Output:
    """Unlearn the forget set from the original model, or train anew, with one method and one weighting."""
    data, parts = _dataset(config, device), _split(inputs, device)
    entry = registry("methods").get(config["method"])
    method = configuration.settings(entry, config["method_settings"], f"methods.{config['method']}")
    rule = registry("weightings").get(config["weighting"])
    weighting = configuration.settings(rule, config["weighting_settings"], f"weightings.{config['weighting']}")
    given = phases_of(weighting)
    uses = method.uses | ({"validation"} if any(getattr(each, "validation", False) for each in given.values()) else set())
    phases = Phases(given)  # which remembers who reads them
    context = _context(config, phases, data, device)
    context.resumable = resumable(method, weighting)
    if method.from_scratch:
        model = _build(config, data, device, config["init_seed"])
    else:
        model = _load(config, inputs["original"], data, device)
    sets = {name: _image_set(data, parts, name) for name in ("forget", "retain", "validation")}
    _warm_up(model, sets["retain"], config["train"]["batch_size"])
    before = _weights(model)
    with spread(model), seeded(config["seed"]), context.meter:
        found = method.unlearn(model, Data(sets, uses, data.classes), context)
    model = checked_model(found)
    checked_weights(before, model.state_dict())
    phases.check_read(config["method"])
    return Output(_weights(model), context.uneven(), context.meter.cost())


def predict(config: Config, inputs: Inputs, device: str) -> Output:
    """What a model says of all sets of its split, once for all rows that are compared with it."""
    data, parts = _dataset(config, device), _split(inputs, device)
    found = predictions(_load(config, inputs["model"], data, device), data, parts, features=True)
    return Output({f"{name}.{what}": getattr(each, what) for name, each in found.items() for what in PREDICTED})


def evaluate(config: Config, inputs: Inputs, device: str) -> Output:
    """Compute the stored metrics of a model on all sets of its split. Its margins on each sample stay in the store, for
    what compares many models."""
    data, parts = _dataset(config, device), _split(inputs, device)
    model = _load(config, inputs["model"], data, device)
    original = inputs["original"].tensors() if "original" in inputs else {}
    before = inputs["original_model"].tensors() if "original_model" in inputs else {}
    needs = frozenset[str]().union(*(registry("metrics").get(name).info["needs"] for name in config["metrics"]))
    with seeded(config["seed"]):
        outputs = evaluate_model(
            model, data, parts, PROTOCOLS[config["protocol"]], config["seed"], original, "retrain" in needs
        )
        outputs = replace(
            outputs, original_weights=before, retrain=_predicted(inputs, "retrain"),
            original=_predicted(inputs, "original"), model=model if "model" in needs else None,
            data=_image_set(data, parts, "forget") if "data" in needs else None,
        )  # fmt: skip
        if "losses" in needs:
            outputs = replace(outputs, original_losses=inputs["losses"].tensors()["losses"][parts.forget.cpu()])
        margins = {name: found.margins.float() for name, found in outputs.sets.items() if len(found)}
        return Output(margins, measured(config["metrics"], "classification", outputs).record())


def _predicted(inputs: Inputs, which: str) -> dict[str, Predictions]:
    if f"{which}_predictions" not in inputs:
        return {}
    tensors = inputs[f"{which}_predictions"].tensors()
    return {name: Predictions(*(tensors[f"{name}.{what}"] for what in PREDICTED)) for name in SETS}


def _context(config: Config, phases: Mapping[str, Any], data: Dataset, device: str) -> Context:
    return Context(
        device=device,
        precision=config["precision"],
        protocol=PROTOCOLS[config["protocol"]],
        recipe=Recipe(**config["train"]),
        phases=phases,
        seed=config["seed"],
        meter=Meter(device),
        limit_steps=config["limit_steps"],
        fresh=lambda: _build(config, data, device, derive(config["seed"], "fresh")),
    )


def _dataset(config: Config, device: str) -> Dataset:
    data = config["data"]
    return load_dataset(
        verified(data["file"], data["sha256"]), tuple(data["mean"]), tuple(data["std"]), data["classes"], device
    )


def _split(inputs: Inputs, device: str) -> ForgetSplit:
    return ForgetSplit(**inputs["split"].tensors()).to(device)


def _image_set(data: Dataset, parts: ForgetSplit, name: str) -> ImageSet:
    index = getattr(parts, name)
    return ImageSet(data.train, index, parts.labels[index])


def _build(config: Config, data: Dataset, device: str, seed: int) -> nn.Module:
    height, width, channels = data.shape
    with seeded(seed):
        model = build_model(config["model"], config["model_settings"], channels, data.classes, (height, width))
    model = adapt(model, data.classes, config["network"]["memory_format"], device)
    if config["compile"]:
        model.compile()  # in place, so that the weights keep their names
    return model


def _load(config: Config, artifact: Artifact, data: Dataset, device: str) -> nn.Module:
    model = _build(config, data, device, 0)
    model.load_state_dict(artifact.tensors())
    return model


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _warm_up(model: nn.Module, samples: ImageSet, batch_size: int) -> None:
    """One training step outside the clock, so that no row pays for the device's first call; no trace stays."""
    with untouched(model), torch.random.fork_rng():
        model.train()
        optimiser = make_optimiser(model.parameters(), "sgd", 1e-3, 0.9, 0.0)
        model(samples.images.batch(samples.index[:batch_size])).float().sum().backward()
        optimiser.step()  # the first step of a process imports half of torch
