"""From a configuration to the cells of a classification sweep and the stages they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from loreun_bench import config as configuration
from loreun_bench.classification.config import ClassificationConfig, Recipe, Scenario
from loreun_bench.classification.data import splits
from loreun_bench.classification.data.prepared import DataInfo, resolve
from loreun_bench.classification.unlearning.protocols import PROTOCOLS
from loreun_bench.config import Seeds
from loreun_bench.errors import UserError
from loreun_bench.harness.files import sha256_file
from loreun_bench.harness.plan import Cell
from loreun_bench.harness.records import Record
from loreun_bench.harness.rows import check_scenario, class_files, uniform, weightings
from loreun_bench.harness.seeding import derive
from loreun_bench.harness.stage import Stage
from loreun_bench.registry import Entry, registry

PACKAGE = Path(__file__).parents[1]
STAGES = "loreun_bench.classification.stages"
HERE = PACKAGE / "classification"
BOTH_CODE = (
    PACKAGE / "harness" / "seeding.py", HERE / "data" / "images.py", HERE / "unlearning" / "protocols.py",
    HERE / "stages.py",
)  # fmt: skip
TRAINING_CODE = (
    PACKAGE / "training", PACKAGE / "ops", PACKAGE / "weightings" / "__init__.py",
    *(HERE / "unlearning" / f"{name}.py" for name in ("fitting", "method", "gradient")), *BOTH_CODE,
)  # fmt: skip
EVALUATION_CODE = (HERE / "scoring" / "evaluation.py", PACKAGE / "harness" / "measuring.py", *BOTH_CODE)
EVALUATION_COST = 0.35  # a forward pass, as a share of a training step


def cells(config: ClassificationConfig) -> tuple[list[Cell], list[str]]:
    """All cells, the first seed's first, and notes on what was left out. UserError if data or settings do not fit."""
    info = resolve(config.dataset, config.image_size)
    _check_model(config, info)
    found: list[Cell] = []
    notes: list[str] = []
    for seeds in config.seeds:
        for scenario in config.scenarios:
            block = _Block(config, info, scenario, seeds)
            found += block.cells()
            notes += [note for note in block.notes if note not in notes]
    if not any(registry("methods").get(name).item.from_scratch for name in config.methods):
        notes.append("no Retrain among the methods: there is nothing to measure gaps and ToW against")
    if config.protocol == "paper":
        notes.append("protocol paper: the reference code's known bugs are repeated; see `show protocols paper`")
    limits = {k: v for k, v in (("steps", config.limit_steps), ("images", config.limit_images)) if v is not None}
    return [replace(cell, record=replace(cell.record, limits=limits)) for cell in found], notes


class _Block:
    """The cells of one scenario under one set of seeds: they share a split, an original and a retrained model."""

    def __init__(self, config: ClassificationConfig, info: DataInfo, scenario: Scenario, seeds: Seeds) -> None:
        self.sizes = splits.sizes(info, scenario, config.validation, config.limit_images)
        check_scenario(scenario, config)
        if config.checkpoint is not None and scenario.kind == "mislabelled":
            raise UserError("checkpoint: a model trained elsewhere never saw the wrong labels of a mislabelled scenario")
        self.config, self.info, self.scenario, self.seeds = config, info, scenario, seeds
        self.protocol = PROTOCOLS[config.protocol]
        self.recipe: Recipe = configuration.check(
            Recipe, config.train.model_dump() | scenario.train, f"scenarios.{scenario.label}.train"
        )
        self.notes: list[str] = []

    def cells(self) -> list[Cell]:
        """Original first, Retrain, then methods × weightings; the second Retrain, which nothing waits for, last."""
        rows = [self._cell("Original", "none", self.original, None)]
        for name in self.config.methods:
            entry = registry("methods").get(name)
            values = self.config.methods[name] | self.scenario.methods.get(name, {})
            method = configuration.settings(entry, values, f"methods.{name}")
            chosen, notes = weightings(name, method, self.config, self.scenario)
            self.notes += notes
            for weighting in chosen:
                stage = self._unlearn(entry, method, *weighting)
                rows.append(self._cell(name, weighting[0].name, stage, None if method.from_scratch else self.original))
            if hasattr(method, "replicate") and self.config.noise_floor:
                again = type(method)(**(asdict(method) | {"replicate": method.replicate + 1}))
                rows.append(self._cell(f"{name}-2", "none", self._unlearn(entry, again, *uniform()), None))
        rows.sort(key=lambda cell: cell.record.method.endswith("-2"))
        return rows

    @cached_property
    def split(self) -> Stage:
        """Who is forgotten."""
        return self._draw(self.scenario.model_dump(include={"kind", "fraction", "forget_class"}), "split")

    @cached_property
    def training_set(self) -> Stage:
        """What the original is trained on. With true labels it does not matter who is forgotten: scenarios share it."""
        return self.split if self.scenario.kind == "mislabelled" else self._draw(None, "training set")

    def _draw(self, scenario: Mapping[str, Any] | None, label: str) -> Stage:
        config = {
            "data": self.info.identity(), "scenario": scenario, "seed": self.seeds.split,
            "validation": self.config.validation, "protocol": self.config.protocol,
            "limit_images": self.config.limit_images,
        }  # fmt: skip
        sources = (HERE / "data" / "splits.py", HERE / "stages.py")
        return self._stage("split", config, {}, sources, label)

    @cached_property
    def original(self) -> Stage:
        train = self.seeds.train
        config = self._common() | {"seed": derive(train, "original"), "init_seed": derive(train, "init")}
        if self.config.checkpoint is not None:
            path = Path(self.config.checkpoint)
            if not path.is_file():
                raise UserError(f"checkpoint {path} not found")
            config |= {"checkpoint": {"path": str(path.resolve()), "sha256": sha256_file(path)}}
            own = (HERE / "unlearning" / "checkpoints.py", HERE / "stages.py", self._model_file())
            return self._stage("adopt", config, {}, own, "original (checkpoint)")
        work = self._samples(self.recipe.epochs)
        sources = (*TRAINING_CODE, self._model_file())
        return self._stage("train", config, {"split": self.training_set}, sources, "original", work)

    def _unlearn(self, entry: Entry, method: Any, rule: Entry, weighting: Any) -> Stage:
        train = self.seeds.train
        config = self._common() | {
            "method": entry.name, "method_settings": asdict(method),
            "weighting": rule.name, "weighting_settings": asdict(weighting),
            "seed": derive(self.seeds.unlearn, "unlearn"), "init_seed": 0,
        }  # fmt: skip
        inputs = {"split": self.split}
        work = method.samples(self.sizes) if hasattr(method, "samples") else self._samples(1)
        if method.from_scratch:
            replicate = getattr(method, "replicate", 0)
            own = self.protocol.own_init or replicate
            config["seed"] = derive(train, "retrain", replicate)
            config["init_seed"] = derive(train, "init", "retrain", replicate) if own else derive(train, "init")
            work = self.recipe.epochs * self.sizes["retain"]
        else:
            inputs["original"] = self.original
        sources = (*TRAINING_CODE, self._model_file(), *class_files(entry.item), *class_files(rule.item))
        label = entry.name if rule.name == "none" else f"{entry.name} {rule.name}"
        return self._stage("unlearn", config, inputs, sources, label, work)

    def _cell(self, method: str, weighting: str, model: Stage, original: Stage | None) -> Cell:
        entries = [registry("metrics").get(name) for name in self.config.metrics]
        if any(entry.info["derived"] for entry in entries):
            name = next(entry.name for entry in entries if entry.info["derived"])
            raise UserError(f"metrics: '{name}' is derived when a table is made; leave it out, it is always there")
        config = self._common() | {"metrics": list(self.config.metrics), "seed": self.seeds.eval}
        for name in ("train", "limit_steps", "precision"):  # evaluation does not depend on them
            del config[name]
        sources = (*EVALUATION_CODE, self._model_file(), *(entry.file for entry in entries))
        inputs = {"split": self.split, "model": model} | ({"original": original} if original is not None else {})
        work = int(EVALUATION_COST * (sum(self.sizes.values()) + sum(self.info.test)))
        record = Record(
            track="classification", dataset=self.info.name, model=Path(self.config.model).name,
            scenario=self.scenario.label, method=method, weighting=weighting,
            seeds=self.seeds.model_dump(), protocol=self.config.protocol,
        )  # fmt: skip
        evaluation = self._stage("evaluate", config, inputs, sources, f"measure {method} {weighting}", work)
        return Cell(record, model, evaluation)

    def _common(self) -> dict[str, Any]:
        return {
            "data": self.info.identity(), "model": self.config.model, "model_settings": self.config.model_settings,
            "train": self.recipe.model_dump(mode="json"), "protocol": self.config.protocol,
            "precision": self.config.precision, "compile": self.config.compile, "limit_steps": self.config.limit_steps,
            "device": self.config.device,
        }  # fmt: skip

    def _model_file(self) -> Path:
        model = self.config.model
        return Path(model.rpartition(":")[0]).resolve() if ".py:" in model else registry("models").get(model).file

    def _samples(self, epochs: int) -> int:
        return epochs * (self.sizes["forget"] + self.sizes["retain"])

    def _stage(
        self, run: str, config: Mapping[str, Any], inputs: Mapping[str, Stage], sources: tuple[Path, ...], label: str,
        work: int = 0,
    ) -> Stage:  # fmt: skip
        about = f"{self.scenario.label} seed {self.seeds.unlearn} {label}"
        return Stage(f"{STAGES}:{run}", config, inputs, sources, about, work, self.config.timeout_s)


def _check_model(config: ClassificationConfig, info: DataInfo) -> None:
    """UserError if the model cannot be built for these data, or the checkpoint does not fit it."""
    if ".py:" not in config.model:
        registry("models").get(config.model)
    if ".py:" in config.model or config.model_settings or config.checkpoint:
        from loreun_bench.classification.stages import try_model
        from loreun_bench.classification.unlearning.checkpoints import read

        model = try_model(config.model, config.model_settings, info.shape, info.classes)
        if config.checkpoint:
            read(config.checkpoint, model)
