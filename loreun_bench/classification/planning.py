"""From a configuration to the cells of a classification sweep and the stages they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from loreun_bench.classification import over_seeds
from loreun_bench.classification.config import ClassificationConfig
from loreun_bench.classification.data.normalisation import normalised, words
from loreun_bench.classification.data.prepared import resolve
from loreun_bench.classification.requested import Chosen, Requests, Row
from loreun_bench.classification.unlearning.protocols import PROTOCOLS
from loreun_bench.config import Seeds
from loreun_bench.errors import UserError
from loreun_bench.harness.files import sha256_file
from loreun_bench.harness.plan import Cell
from loreun_bench.harness.records import Record
from loreun_bench.harness.rows import class_files, ranks, samples, uniform
from loreun_bench.harness.seeding import derive
from loreun_bench.harness.stage import Stage
from loreun_bench.registry import registry

PACKAGE = Path(__file__).parents[1]
STAGES = "loreun_bench.classification.stages"
HERE = PACKAGE / "classification"
BOTH_CODE = (
    PACKAGE / "harness" / "seeding.py", HERE / "data" / "images.py", HERE / "unlearning" / "protocols.py",
    HERE / "unlearning" / "networks.py", HERE / "models" / "layers.py", HERE / "stages.py",
)  # fmt: skip
TRAINING_CODE = (
    PACKAGE / "training", PACKAGE / "ops", PACKAGE / "weightings" / "__init__.py",
    *(HERE / "unlearning" / f"{name}.py" for name in ("fitting", "method", "gradient", "phase", "evaluating")),
    HERE / "scoring" / "evaluation.py", *BOTH_CODE,
)  # fmt: skip
EVALUATION_CODE = (
    HERE / "scoring" / "evaluation.py", PACKAGE / "harness" / "measuring.py", PACKAGE / "training", *BOTH_CODE,
    HERE / "metrics" / "mia.py",
)  # fmt: skip
SPLIT_CODE = (
    HERE / "data" / "splits.py", HERE / "data" / "lists.py", HERE / "stages.py", PACKAGE / "harness" / "seeding.py",
)  # fmt: skip
EVALUATION_COST = 0.35  # a forward pass, as a share of a training step


def cells(config: ClassificationConfig) -> tuple[list[Cell], list[str]]:
    """All cells, the first seed's first, and notes on what was left out. UserError if data or settings do not fit."""
    from loreun_bench.classification.unlearning.trial import tried

    info = normalised(resolve(config.dataset, config.image_size), config.normalise)
    trial, said = tried(config, info)
    if config.validation == 0 and not PROTOCOLS[config.protocol].last_epoch:
        raise UserError("validation: protocol paper takes the original of the best validation epoch, so it cannot be 0")
    asked = {scenario.label: Requests(config, info, scenario, trial) for scenario in config.scenarios}
    found: list[Cell] = []
    notes: list[str] = [*config.notes, *([f"{info.name}: {info.note}"] if info.note else []), *said]
    notes += [note for each in asked.values() for note in each.notes]
    for seeds in config.seeds:
        for each in asked.values():
            before = None  # a request goes on from the models of the one before it
            for number in range(len(each.each)):
                before = _Block(each, seeds, number, before)
                found += before.cells()
    found += over_seeds.cells(config, found)
    if "Retrain" not in config.methods:
        notes.append("no row is called Retrain: there is nothing to measure gaps and ToW against")
    if config.protocol == "paper":
        notes.append("protocol paper: the reference code's known bugs are repeated; see `show protocols paper`")
    return found, notes


class _Block:
    """The cells of one request under one set of seeds: they share a split, an original and a retrained model."""

    def __init__(self, asked: Requests, seeds: Seeds, number: int, before: _Block | None) -> None:
        self.asked, self.config, self.info, self.seeds = asked, asked.config, asked.info, seeds
        self.scenario, self.sizes, self.number, self.before = asked.scenario, asked.sizes[number], number, before
        self.label = asked.label(number)
        self.protocol = PROTOCOLS[self.config.protocol]
        self.recipe, self.common = asked.recipe, asked.common
        self.numbers = seeds.model_dump()
        self.models: dict[tuple[str, str], Stage] = {}  # by method and weighting

    def cells(self) -> list[Cell]:
        """Original first, Retrain, then methods × weightings; the second Retrain, which nothing waits for, last."""
        rows = [self._cell("Original", "none", self.original, None)]
        for row in self.asked.rows[self.number]:
            method = row.method
            for rule in row.weightings:
                stage = self.models[row.name, rule.entry.name] = self._unlearn(row, rule)
                original = None if method.from_scratch else self.original
                rows.append(self._cell(row.name, rule.entry.name, stage, original))
            if hasattr(method, "replicate") and self.config.noise_floor:
                again = type(method)(**(asdict(method) | {"replicate": method.replicate + 1}))
                stage = self._unlearn(replace(row, method=again, settings=asdict(again)), Chosen.of(*uniform()))
                rows.append(self._cell(f"{row.name}-2", "none", stage, None))
        rows.sort(key=lambda cell: cell.record.method.endswith("-2"))
        return rows

    @cached_property
    def split(self) -> Stage:
        """Who is forgotten."""
        losses = {"losses": self.losses} if self.asked.needs_losses else {}
        return self._draw(self.scenario.spec(), "split", self.number, losses)

    @cached_property
    def training_set(self) -> Stage:
        """What the original is trained on."""
        spec = self.asked.trained_on
        return self.split if spec == self.scenario.spec() and self.number == 0 else self._draw(spec, "training set", 0, {})

    @cached_property
    def losses(self) -> Stage:
        """The original's losses, for a scenario that chooses by them."""
        config = self.common | {"seed": 0}
        inputs = {"split": self.training_set, "original": self.original}
        work = int(EVALUATION_COST * self._samples(1))
        return self._stage("losses", config, inputs, (*TRAINING_CODE, self.asked.model_file), "losses", work)

    def _draw(self, scenario: Mapping[str, Any] | None, label: str, at: int, inputs: Mapping[str, Stage]) -> Stage:
        config = {
            "data": self.info.identity(), "scenario": scenario, "at": at, "seed": self.seeds.split,
            "validation": self.config.validation, "protocol": self.config.protocol,
            "limit_images": self.config.limit_images, "files": self.asked.files if scenario else {},
        }  # fmt: skip
        kinds = [file for each in self.asked.each for file in class_files(each.entry.item)] if scenario else []
        return self._stage("split", config, inputs, (*SPLIT_CODE, *kinds), label)

    @cached_property
    def original(self) -> Stage:
        """The model before anything was forgotten."""
        train = self.seeds.train
        config = self.common | {"seed": derive(train, "original"), "init_seed": derive(train, "init")}
        if self.config.checkpoint is not None:
            path = Path(self.config.checkpoint)
            if not path.is_file():
                raise UserError(f"checkpoint {path} not found")
            config |= {"checkpoint": {"path": str(path.resolve()), "sha256": sha256_file(path)}}
            own = (HERE / "unlearning" / "checkpoints.py", HERE / "stages.py", self.asked.model_file)
            return self._stage("adopt", config, {}, own, "original (checkpoint)")
        work = self._samples(self.recipe.epochs)
        sources = (*TRAINING_CODE, self.asked.model_file)
        return self._stage("train", config | ranks(self.config), {"split": self.training_set}, sources, "original", work)

    def _unlearn(self, row: Row, rule: Chosen) -> Stage:
        train, method = self.seeds.train, row.method
        config = self.common | {
            "method": row.entry.name, "method_settings": row.settings,
            "weighting": rule.entry.name, "weighting_settings": rule.settings,
            "seed": derive(self.seeds.unlearn, "unlearn"), "init_seed": 0,
        }  # fmt: skip
        inputs = {"split": self.split}
        work = samples(method, self.sizes, self._samples(1))
        if method.from_scratch:
            replicate = getattr(method, "replicate", 0)
            own = self.protocol.own_init or replicate
            config["seed"] = derive(train, "retrain", replicate)
            config["init_seed"] = derive(train, "init", "retrain", replicate) if own else derive(train, "init")
            work = self.recipe.epochs * self.sizes["retain"]
        else:
            before = self.before.models.get((row.name, rule.entry.name)) if self.before else None
            inputs["original"] = before or self.original
        sources = (*TRAINING_CODE, self.asked.model_file, *class_files(row.entry.item), *class_files(rule.entry.item))
        label = row.name if rule.entry.name == "none" else f"{row.name} {rule.entry.name}"
        return self._stage("unlearn", config | ranks(self.config, method), inputs, sources, label, work)

    def _cell(self, method: str, weighting: str, model: Stage, original: Stage | None) -> Cell:
        measured = self.asked.measured[self.number]
        config = self.asked.evaluated | {"metrics": measured.names, "seed": self.seeds.eval}
        sources = (*EVALUATION_CODE, self.asked.model_file, *measured.files)
        inputs = {"split": self.split, "model": model} | ({"original": original} if original is not None else {})
        if "retrain" in measured.needs:
            inputs["retrain_predictions"] = self.retrain_predictions
        if "original" in measured.needs:
            inputs["original_model"] = self.original
            inputs["original_predictions"] = self.original_predictions
        if "losses" in measured.needs:
            inputs["losses"] = self.losses
        work = int(EVALUATION_COST * sum(self.sizes.values())) + measured.cost
        record = Record(
            track="classification", dataset=self.info.name, model=Path(self.config.model).name,
            scenario=self.label, method=method, weighting=weighting,
            seeds=self.numbers, limits=self.asked.limits, protocol=self.config.protocol, conditions=self.conditions,
            trials=self.config.trials.get(method, 0), overlap=self.asked.overlaps[self.number],
        )  # fmt: skip
        evaluation = self._stage("evaluate", config, inputs, sources, f"measure {method} {weighting}", work)
        return Cell(record, model, evaluation)

    @cached_property
    def retrain_predictions(self) -> Stage:
        """What the row says that others are compared with. UserError if there is none."""
        row = next((row for row in self.asked.rows[self.number] if row.name == "Retrain"), None)
        if row is None:
            names = [name for name in self.config.metrics if "retrain" in registry("metrics").get(name).info["needs"]]
            raise UserError(f"metrics: {', '.join(names)} compares with Retrain, and no row is called so: add it to methods")
        return self._predictions(self._unlearn(row, Chosen.of(*uniform())), "Retrain's predictions")

    @cached_property
    def original_predictions(self) -> Stage:
        """What the original says."""
        return self._predictions(self.original, "original's predictions")

    def _predictions(self, model: Stage, label: str) -> Stage:
        sources = (*EVALUATION_CODE, self.asked.model_file)
        work = int(EVALUATION_COST * sum(self.sizes.values()))
        inputs = {"split": self.split, "model": model}
        return self._stage("predict", self.asked.evaluated, inputs, sources, label, work)

    @cached_property
    def conditions(self) -> dict[str, Any]:
        """What rows of one table have in common beside what its title names: other data, or a Retrain made otherwise."""
        info, config = self.info, self.config
        found: dict[str, Any] = {
            "data": info.sha256[:8],
            "pictures": "×".join(map(str, info.shape)),
            "normalised by": words(info),
            "validation": config.validation,
            "precision": config.precision,
            "recipe": self.recipe.model_dump(mode="json", exclude_defaults=True),
        }
        if config.checkpoint is not None:
            found["original"] = f"checkpoint {self.original.config['checkpoint']['sha256'][:8]}"
        found |= self.asked.forget_set | ranks(config)
        return found | ({"model settings": config.model_settings} if config.model_settings else {})

    def _samples(self, epochs: int) -> int:
        return epochs * (self.sizes["forget"] + self.sizes["retain"])

    def _stage(
        self, run: str, config: Mapping[str, Any], inputs: Mapping[str, Stage], sources: tuple[Path, ...], label: str,
        work: int = 0,
    ) -> Stage:  # fmt: skip
        about = f"{self.label} seed {self.seeds.unlearn} {label}"
        return Stage(f"{STAGES}:{run}", config, inputs, sources, about, work, self.config.timeout_s)
