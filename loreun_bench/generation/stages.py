"""The stages of the generation track: original, curve, unlearn, sample, classifier, evaluate."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from loreun_bench import config as configuration
from loreun_bench.errors import UserError
from loreun_bench.generation.data import concepts
from loreun_bench.generation.data.latents import LatentSet
from loreun_bench.generation.pipeline import pipelines, sampling
from loreun_bench.generation.pipeline.pipelines import Pipeline
from loreun_bench.generation.pipeline.sampling import Request
from loreun_bench.generation.scoring.pictures import Pictures
from loreun_bench.generation.unlearning import curve
from loreun_bench.generation.unlearning.gradient import open_parameters, predict, trainable
from loreun_bench.generation.unlearning.method import Context, Data
from loreun_bench.generation.unlearning.protocols import PROTOCOLS
from loreun_bench.harness.files import sha256_file, unchanged
from loreun_bench.harness.measuring import measured
from loreun_bench.harness.progress import report
from loreun_bench.harness.seeding import seeded
from loreun_bench.harness.stage import Output, digest
from loreun_bench.harness.store import Artifact, Store, default_root
from loreun_bench.harness.work import anew
from loreun_bench.registry import registry
from loreun_bench.training.clock import Meter
from loreun_bench.training.context import Phases
from loreun_bench.training.guards import checked_in_place, checked_weights
from loreun_bench.training.parallel import spread
from loreun_bench.training.snapshots import resumable
from loreun_bench.weightings import phases_of

Config = Mapping[str, Any]
Inputs = Mapping[str, Artifact]
FREE = {"rte_s": 0.0, "forward_samples": 0, "backward_samples": 0}


def original(config: Config, inputs: Inputs, device: str) -> Output:
    """The pipeline as it came: nothing to compute."""
    return Output(values={"files": config["pipeline"]["files"]}, cost=dict(FREE))


def loss_curve(config: Config, inputs: Inputs, device: str) -> Output:
    """Measure ℓ°_t of the original model, over all pictures or over forget and retain set apart; its cost is added to every
    row that uses it."""
    pipeline, context = _pipeline(config, {}, device), _context(config, {}, {}, device)
    pictures, texts = _pictures(config, inputs), pipeline.embed(config["prompts"])
    parts = _parts(pictures, config["forgotten"]) if config["per_set"] else {"all": torch.arange(len(pictures))}
    sets = {name: LatentSet(pipeline, pictures, index, pictures.labels[index]) for name, index in parts.items()}
    steps = curve.timesteps(config["fit"], config["points"], pipeline.timesteps)
    found, about = {}, {}
    _warm_up(pipeline, texts, context)
    with context.meter:
        for name, samples in sets.items():
            losses = curve.measure(pipeline, samples, texts, steps, config["samples"], context)
            means = losses.mean(1).cpu().double().numpy()
            about[name], values = curve.through(config["fit"], steps, means, pipeline.timesteps)
            found[name] = torch.tensor(values, dtype=torch.float32)
    return Output(found, {"curves": about}, context.meter.cost())


def unlearn(config: Config, inputs: Inputs, device: str) -> Output:
    """Unlearn a concept with one method and one weighting; the artifact holds the weights that moved."""
    entry = registry("methods", "generation").get(config["method"])
    method = configuration.settings(entry, config["method_settings"], f"methods.{config['method']}")
    rule = registry("weightings").get(config["weighting"])
    weighting = configuration.settings(rule, config["weighting_settings"], f"weightings.{config['weighting']}")
    pipeline = _pipeline(config, {}, device)
    measured = inputs["curve"].tensors() if "curve" in inputs else {}
    phases = Phases(phases_of(weighting))
    reference = {phase: measured[phase if phase in measured else "all"].to(device) for phase in phases}
    context = _context(config, phases, reference, device)
    context.resumable = resumable(method, weighting) and not concepts.readers(config["data"])
    data = _data(config, inputs, pipeline, method.uses)
    before = _weights(pipeline)
    _warm_up(pipeline, data.texts, context)
    with spread(pipeline.unet), seeded(config["seed"]), context.meter:
        found = method.unlearn(pipeline, data, context)
    checked_in_place(found, pipeline)
    after = _weights(pipeline)
    checked_weights(before, after)
    phases.check_read(config["method"])
    moved = {name: tensor for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    cost = context.meter.cost()
    about: dict[str, Any] = {"moved": len(moved), "of": len(before)} | context.uneven()
    if "curve" in inputs:
        about |= inputs["curve"].values()
        for key, value in inputs["curve"].cost.items():
            cost[key] = max(cost[key], value) if key == "peak_mem_bytes" else cost.get(key, 0) + value
    return Output(moved, about, cost)


def sample(config: Config, inputs: Inputs, device: str) -> Output:
    """Make the pictures of a list of requests; they lie beside the artifacts, which name them with their hashes."""
    pipeline = _pipeline(config, inputs, device)
    requests = [Request(**r) for r in _requests(config)]
    folder = default_root() / "pictures" / digest({"config": config, "model": _model_digest(inputs)})
    if anew():
        shutil.rmtree(folder, ignore_errors=True)
    sampling.sample(
        pipeline, requests, folder, steps=config["steps"], batch_size=config["batch_size"], precision=config["precision"]
    )
    names = [*(f"{r.name}.png" for r in requests), sampling.INDEX]
    return Output(values={"folder": folder.name, "files": {name: sha256_file(folder / name) for name in names}})


def classifier(config: Config, inputs: Inputs, device: str) -> Output:
    """Train the small classifier that recognises the classes of a data set."""
    from loreun_bench.generation.scoring.classifiers import accuracy, small, train_small

    train, test = concepts.planned(config, "train"), concepts.planned(config, "test")
    state = train_small(train, config["size"], config["seed"], listen=lambda _, share: report(share))
    return Output(state, {"test_acc": accuracy(small(train.classes, state, device), test, config["size"])})


def real_features(config: Config, inputs: Inputs, device: str) -> Output:
    """The features of the real pictures that distances compare with: once for all rows."""
    from loreun_bench.generation.scene import Extractor, Scene
    from loreun_bench.generation.scoring.images import Images

    unchanged(config["files"])
    scene = Scene(
        images=Images(()),
        classifier=_classifier(config, inputs, device),
        reference=concepts.planned(config, "test"),
        settings={"device": device, "own": {}, "size": config["size"]} | config["metric_settings"],
        listen=lambda _, share: report(share),
    )
    found = {}
    for name in config["extractors"]:
        extractor: Extractor = scene.inception() if name == "inception" else scene.need_classifier("a distance")
        found[extractor.name] = scene.features(extractor, "reference")
    return Output(found)


def evaluate(config: Config, inputs: Inputs, device: str) -> Output:
    """Score a model's pictures."""
    from loreun_bench.generation.scene import Scene
    from loreun_bench.generation.scoring.images import Images

    unchanged(config["files"])
    folder = checked_pictures(inputs["pictures"])
    details: dict[str, Any] = {}
    scene = Scene(
        images=Images.open(folder, config["classes"]),
        classes=tuple(config["classes"]),
        forget=tuple(config["forget"]),
        classifier=_classifier(config, inputs, device),
        reference=concepts.planned(config, "test") if config["forget"] else None,  # of a concept there are none
        settings={"device": device, "own": {}} | config["metric_settings"],
        details=details,
        listen=lambda _, share: report(share),
        known=inputs["real"].tensors() if "real" in inputs else {},
        model=_model(config["model"], inputs, device) if "model" in config else None,
        original=Images.open(checked_pictures(inputs["original"]), config["classes"]) if "original" in inputs else None,
    )
    found = measured(config["metrics"], "generation", scene)
    networks = {"classifier": scene.classifier.name} if scene.classifier is not None else {}
    if "classifier" in inputs:
        networks["classifier"] += (
            f", which knows {inputs['classifier'].values()['test_acc']:.1f} % of the real test pictures"
        )
    if "fd" in details:
        networks["extractor"] = ", ".join([details["fd"]["extractor"], *details["fd"]["notes"]])
    if "curve" in inputs:
        networks["loss_curve"] = curve.told(inputs["curve"].values()["curves"])
    about = found.record() | {"details": details, "environment": networks}
    return Output(values=about | {"pictures": folder.name})


def _model(config: Config, inputs: Inputs, device: str) -> Any:
    """The model of a metric that looks at it."""
    from loreun_bench.generation.scoring.model import Model

    pipeline = _pipeline(config, inputs, device)
    data = _data(config, inputs, pipeline, frozenset({"forget", "retain"}))
    asked = [Request(**each) for each in config["asked"]]
    return Model(pipeline, _pipeline(config, {}, device), data, lambda: _context(config, {}, {}, device), asked,
                 config["steps"], config["batch_size"])  # fmt: skip


def checked_pictures(artifact: Artifact) -> Path:
    """The folder of a `sample` artifact's pictures. Raises Corrupt if one is missing or changed; a rerun makes it anew."""
    store = Store(default_root())
    for _ in store.pictures(artifact):
        pass
    return store.folder_of_pictures(artifact)


def _pipeline(config: Config, inputs: Inputs, device: str) -> Pipeline:
    """The pipeline of a stage, with the weights of an unlearned model if one is an input."""
    found = pipelines.find(config["pipeline"]["source"])
    if found.files != config["pipeline"]["files"]:
        raise UserError(f"pipeline {found.folder} changed since this sweep was planned: run the command again")
    pipeline = pipelines.load(found.folder, device, config["precision"])
    moved = inputs["model"].tensors() if "model" in inputs and inputs["model"].values().get("moved") else {}
    unknown = pipeline.unet.load_state_dict(moved, strict=False).unexpected_keys
    if unknown:
        raise UserError(f"the unlearned weights do not fit the pipeline: {unknown[0]}")
    return pipeline


def _data(config: Config, inputs: Inputs, pipeline: Pipeline, uses: frozenset[str]) -> Data:
    """The sets of a scenario, and its concepts."""
    pictures, texts = _pictures(config, inputs), pipeline.embed(config["prompts"])
    parts = _parts(pictures, config["forgotten"])
    sets = {name: LatentSet(pipeline, pictures, index, pictures.labels[index]) for name, index in parts.items()}
    about_concepts = (tuple(config[key]) for key in ("forgotten", "names", "concept_texts"))
    return Data(sets, uses, tuple(config["prompts"]), texts, *about_concepts)


def _parts(pictures: Pictures, forgotten: Sequence[int]) -> dict[str, Tensor]:
    """Positions of the forgotten concepts' pictures, and of all others."""
    gone = torch.isin(pictures.labels, torch.tensor(forgotten))
    return {"forget": gone.nonzero().squeeze(1), "retain": (~gone).nonzero().squeeze(1)}


def _context(config: Config, phases: Mapping[str, Any], reference: Mapping[str, Tensor], device: str) -> Context:
    return Context(
        device=device, precision=config["precision"], protocol=PROTOCOLS[config["protocol"]], phases=phases,
        curve=reference, seed=config["seed"], meter=Meter(device), limit_steps=config["limit_steps"],
    )  # fmt: skip


def _pictures(config: Config, inputs: Inputs) -> Pictures:
    """The training pictures: the data set's, or those that the original model made of the two prompts."""
    if "generated" in inputs:
        return concepts.generated(checked_pictures(inputs["generated"]), tuple(config["prompts"]))
    return concepts.planned(config, "train").limited(config["limit_images"])


def _requests(config: Config) -> Sequence[dict[str, Any]]:
    found = config["requests"]
    return json.loads(found) if isinstance(found, str) else found  # type: ignore[no-any-return]


def _model_digest(inputs: Inputs) -> str:
    return inputs["model"].digest if "model" in inputs else ""


def _classifier(config: Config, inputs: Inputs, device: str) -> Any:
    from loreun_bench.generation.scoring import classifiers

    if "classifier" in inputs:
        return classifiers.small(tuple(config["classes"]), inputs["classifier"].tensors(), device)
    name = config["classifier"]
    return classifiers.from_name(name, device=device).of(config["classes"]) if name else None


def _weights(pipeline: Pipeline) -> dict[str, Tensor]:
    """A copy of the denoiser's weights in main memory: a GPU's is for the step."""
    return {name: tensor.to("cpu", copy=True) for name, tensor in pipeline.unet.state_dict().items()}


def _warm_up(pipeline: Pipeline, texts: Tensor, context: Context) -> None:
    """One pass outside the clock, so that no row pays for the device's first call."""
    latents = torch.zeros(2, *pipeline.latent_shape, device=pipeline.device)
    t = torch.zeros(2, dtype=torch.int64, device=pipeline.device)
    open_parameters(pipeline, trainable(pipeline.unet, "full"))
    predict(pipeline, latents, t, texts[:1].expand(2, -1, -1), context).sum().backward()
    pipeline.unet.requires_grad_(False)
    pipeline.unet.zero_grad(set_to_none=True)
    context.meter.forward_samples = 0  # it was not part of the run
