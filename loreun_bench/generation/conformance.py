"""What `check` runs of a plug-in of the generation track, on the embedded pipeline of digits."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from loreun_bench import config as configuration
from loreun_bench.errors import UserError
from loreun_bench.generation.config import Scenario
from loreun_bench.generation.data import concepts, returned
from loreun_bench.generation.data.latents import LatentSet
from loreun_bench.generation.pipeline import pipelines, sampling
from loreun_bench.generation.pipeline.pipelines import Pipeline
from loreun_bench.generation.scenarios import check
from loreun_bench.generation.scene import Planned, Scene
from loreun_bench.generation.scoring.images import Images
from loreun_bench.generation.scoring.model import Model
from loreun_bench.generation.unlearning.method import Context, Data
from loreun_bench.generation.unlearning.protocols import PROTOCOLS
from loreun_bench.harness.conformance import checked_method, checked_values
from loreun_bench.harness.measuring import called
from loreun_bench.harness.plan import build
from loreun_bench.harness.store import data_root
from loreun_bench.registry import Entry, registry
from loreun_bench.training.clock import Meter
from loreun_bench.training.guards import checked_in_place, checked_weights
from loreun_bench.weightings import phases_of

FORGOTTEN, PICTURES, STEPS = 7, 16, 2


def _data(pipeline: Pipeline, uses: frozenset[str]) -> Data:
    """A few digits, of which the sevens are to be forgotten."""
    pictures = concepts.dataset("digits", "train")
    prompts = tuple(f"an image of {name}" for name in pictures.classes)
    parts = {"forget": pictures.of(FORGOTTEN)[:PICTURES], "retain": pictures.others(FORGOTTEN)[:PICTURES]}
    sets = {name: LatentSet(pipeline, pictures, index, pictures.labels[index]) for name, index in parts.items()}
    return Data(sets, uses, prompts, pipeline.embed(prompts), (FORGOTTEN,))


def _context(pipeline: Pipeline, phases: Mapping[str, Any]) -> Context:
    flat = dict.fromkeys(("forget", "retain"), torch.ones(pipeline.timesteps))
    return Context(
        device="cpu", precision="fp32", protocol=PROTOCOLS["corrected"], curve=flat, seed=0, phases=phases,
        meter=Meter("cpu"), limit_steps=STEPS,
    )  # fmt: skip


def _run(entry: Entry, weighting: str) -> tuple[Meter, str]:
    """Unlearn the sevens in two steps: what was counted, and a note on the weights."""
    method = configuration.settings(entry, {}, entry.name)
    pipeline = pipelines.load(pipelines.find("digits").folder, "cpu")
    context = _context(pipeline, phases_of(registry("weightings").get(weighting).item()))
    before = {name: value.clone() for name, value in pipeline.unet.state_dict().items()}
    with context.meter:
        found = method.unlearn(pipeline, _data(pipeline, method.uses), context)
    checked_in_place(found, pipeline)
    return context.meter, checked_weights(before, pipeline.unet.state_dict())


def _method(entry: Entry) -> str:
    """It reads only what it declares, leaves finite weights of the denoiser, counts what it does, and can be planned."""
    return checked_method(entry, _run, {"track": "generation", "scenarios": [{"kind": "class", "forget_class": "seven"}]})


def _metric(entry: Entry) -> str:
    """It returns finite numbers for columns that it declares, of three pictures a class that the pipeline makes."""
    if entry.info["derived"]:
        keys = {k: 50.0 for e in registry("metrics", "generation").entries() for k in e.info["columns"]}
        return checked_values(entry, {next(iter(entry.info["columns"])): entry.item(keys, keys)})
    from loreun_bench.generation.scoring import classifiers

    pipeline, test = pipelines.load(pipelines.find("digits").folder, "cpu"), concepts.dataset("digits", "test")
    if entry.info["check"] is not None:
        entry.info["check"](Planned(test.classes, 3 * (len(test.classes) - 1), len(test.others(FORGOTTEN))))
    requests = [
        sampling.Request(f"{label}-{n}", f"an image of {name}", 100 * label + n, 3.0, label, name)
        for label, name in enumerate(test.classes) for n in range(3)
    ]  # fmt: skip
    weights = classifiers.train_small(concepts.dataset("digits", "train"), min(pipeline.image_size), seed=0, steps=100)
    with tempfile.TemporaryDirectory() as folder:
        sampling.sample(pipeline, requests, Path(folder), steps=5, batch_size=len(requests))
        images, needs = Images.open(Path(folder), test.classes), entry.info["needs"]
        asked = [request for request in requests if request.label == FORGOTTEN]
        data = _data(pipeline, frozenset({"forget", "retain"}))
        model = Model(pipeline, pipeline, data, lambda: _context(pipeline, {}), asked, 5, len(asked))
        scene = Scene(
            images=images, original=images if "original" in needs else None,
            model=model if needs & {"model", "data"} else None,
            classes=test.classes, forget=(FORGOTTEN,), reference=test,
            classifier=classifiers.small(test.classes, weights), settings={"device": "cpu", "own": {}},
        )  # fmt: skip
        return checked_values(entry, called(entry, scene))


def _dataset(entry: Entry) -> str:
    """Both of its splits give square pictures [n, 3, size, size] in [-1, 1] of every class."""
    counts = []
    for split in ("train", "test"):
        pictures = returned.checked(split, entry.item(data_root(), split), entry.info["classes"], entry.info["names"])
        few = replace(pictures, labels=pictures.labels[:2])
        first, again = (list(returned.pixels(split, few, 16)) for _ in range(2))
        if not all(map(torch.equal, first, again)):
            raise UserError(f"{split}: load gave other pixels the second time: take randomness from a seed of its own")
        counts.append(len(pictures))
    return f"{counts[0]} + {counts[1]} pictures of {', '.join(pictures.classes[:5])}"


def _scenario(entry: Entry) -> str:
    """It tells forgotten concepts from kept ones, of the digits, and a sweep with it can be planned."""
    given = {"kind": entry.name}
    scenario: Scenario = configuration.check(Scenario, given, f"scenario {entry.name} as it is without settings")
    found = scenario.item.draw(concepts.dataset("digits", "train").classes, "an image of {}")
    check(found)
    if not found.images:
        sweep = {"track": "generation", "seeds": 1, "device": "cpu", "methods": ["ESD-x"], "scenarios": [given]}
        build(configuration.load(sweep))
    return f"{scenario.label}: {', '.join(found.names)} of {len(found.prompts)} concepts"


CHECKS = {"methods": _method, "scenarios": _scenario, "metrics": _metric, "datasets": _dataset}
