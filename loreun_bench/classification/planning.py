"""From a configuration to the cells of a classification sweep and the stages they share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loreun_bench import config as configuration
from loreun_bench.classification import over_seeds
from loreun_bench.classification.config import ClassificationConfig, Recipe, Scenario
from loreun_bench.classification.data import splits
from loreun_bench.classification.data.normalisation import normalised, words
from loreun_bench.classification.data.prepared import DataInfo, resolve
from loreun_bench.classification.models.libraries import version
from loreun_bench.classification.unlearning.method import Asked
from loreun_bench.classification.unlearning.protocols import PROTOCOLS
from loreun_bench.config import Seeds
from loreun_bench.errors import UserError
from loreun_bench.harness.files import sha256_file
from loreun_bench.harness.plan import Cell
from loreun_bench.harness.records import Record
from loreun_bench.harness.rows import check_scenario, class_files, cost_of, method_of, samples, uniform, weightings
from loreun_bench.harness.seeding import derive
from loreun_bench.harness.stage import Stage, code_digest, digest
from loreun_bench.names import short
from loreun_bench.registry import Entry, blamed, registry

if TYPE_CHECKING:
    from loreun_bench.classification.unlearning.trial import Trial

PACKAGE = Path(__file__).parents[1]
STAGES = "loreun_bench.classification.stages"
HERE = PACKAGE / "classification"
BOTH_CODE = (
    PACKAGE / "harness" / "seeding.py", HERE / "data" / "images.py", HERE / "unlearning" / "protocols.py",
    HERE / "unlearning" / "networks.py", HERE / "stages.py",
)  # fmt: skip
TRAINING_CODE = (
    PACKAGE / "training", PACKAGE / "ops", PACKAGE / "weightings" / "__init__.py",
    *(HERE / "unlearning" / f"{name}.py" for name in ("fitting", "method", "gradient", "phase")), *BOTH_CODE,
)  # fmt: skip
EVALUATION_CODE = (HERE / "scoring" / "evaluation.py", PACKAGE / "harness" / "measuring.py", *BOTH_CODE)
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
            for block in each.blocks(seeds):
                found += block.cells()
                notes += block.notes
    found += over_seeds.cells(config, found)
    if "Retrain" not in config.methods:
        notes.append("no row is called Retrain: there is nothing to measure gaps and ToW against")
    if config.protocol == "paper":
        notes.append("protocol paper: the reference code's known bugs are repeated; see `show protocols paper`")
    limits = {k: v for k, v in (("steps", config.limit_steps), ("images", config.limit_images)) if v is not None}
    return [replace(cell, record=replace(cell.record, limits=limits)) for cell in found], notes


class Requests:
    """A scenario with its files found, drawn once so that what cannot be drawn is known; and its requests one by one."""

    def __init__(self, config: ClassificationConfig, info: DataInfo, scenario: Scenario, trial: Trial) -> None:
        unused = check_scenario(scenario, config)
        if config.checkpoint is not None and scenario.entry.info["relabels"]:
            raise UserError(f"checkpoint: a model trained elsewhere never saw the wrong labels of scenario {scenario.label}")
        self.config, self.info, self.trial = config, info, trial
        self.scenario, self.files = _located(scenario, config.dataset)
        people = splits.with_losses(splits.population(info, splits.csvs_of(self.scenario)), None)
        self.scenario = splits.spelled(self.scenario, people.classes)
        self.each = splits.requests(self.scenario)
        first, *others = dict.fromkeys(seeds.split for seeds in config.seeds)
        drawn = self._draw(people, first)
        again = self._draw(people, others[0]) if others else drawn
        originals = {seeds.train for seeds in config.seeds} if config.checkpoint is None else ()
        by_losses = self.needs_losses and bool(others or len(originals) > 1)  # each original has its own
        redrawn = [splits.redrawn(*pair) or by_losses for pair in zip(drawn, again, strict=True)]
        self.overlaps = [round(len(s.forget) / len(s.retain), 4) if r else 0.0 for s, r in zip(drawn, redrawn, strict=True)]
        parts = ("forget", "retain", "validation", "test", "test_forget")
        self.sizes = [{name: len(getattr(split, name)) for name in parts} for split in drawn]
        self.notes = [*unused, *people.notes, *(self._said(number) for number in range(len(self.each)))]

    def _draw(self, people: splits.Population, seed: int) -> list[splits.ForgetSplit]:
        return splits.draw_all(
            people, self.scenario, validation=self.config.validation, seed=seed,
            one_split=PROTOCOLS[self.config.protocol].one_split, images=self.config.limit_images,
        )  # fmt: skip

    def blocks(self, seeds: Seeds) -> Iterator[_Block]:
        """The cells of each request under one set of seeds; a request goes on from the models of the one before it."""
        before = None
        for number in range(len(self.each)):
            before = _Block(self, seeds, number, before)
            yield before

    def label(self, number: int) -> str:
        """A request's name in records and tables."""
        own = self.each[number].label
        return short(own if len(self.each) == 1 else f"request {number + 1} of {len(self.each)}: {own}")

    @cached_property
    def trained_on(self) -> Mapping[str, Any] | None:
        """The scenario that decides what the original is trained on: of those that keep pictures from validation, or give
        them wrong labels. None if it does not matter who is forgotten: scenarios share their original then."""
        kept = [each for each in self.each if each.entry.info["explicit"] or each.entry.info["relabels"]]
        if len(kept) < 2:
            return kept[0].spec() if kept else None
        return {"kind": "sequence", "requests": [each.spec() for each in kept]}

    @property
    def needs_losses(self) -> bool:
        """Whether the original's losses decide who is forgotten."""
        return any("original" in each.entry.info["needs"] for each in self.each)

    @cached_property
    def forget_set(self) -> dict[str, str]:
        """What tells a forget set from another with the same label: that of a list, a table, a user's scenario, or of what
        requests before it forgot."""
        theirs = [each.entry.file for each in self.each if each.entry.plugged]
        if len(self.each) == 1 and not (self.files or theirs or self.each[0].entry.info["explicit"]):
            return {}
        text = json.dumps(self.scenario.spec(), sort_keys=True)
        for path, contents in self.files.items():
            text = text.replace(json.dumps(path), contents)
        return {"forget set": digest([text, sorted(self.files.values()), list(map(code_digest, theirs))])[:8]}

    def _said(self, number: int) -> str:
        sizes = self.sizes[number]
        apart = f"; {sizes['test_forget']} test images of it are tested on apart" if sizes["test_forget"] else ""
        whole = sizes["forget"] + sizes["retain"]
        return f"{self.label(number)}: {sizes['forget']} of {whole} training images are forgotten{apart}"


class _Block:
    """The cells of one request under one set of seeds: they share a split, an original and a retrained model."""

    def __init__(self, asked: Requests, seeds: Seeds, number: int, before: _Block | None) -> None:
        self.asked, self.config, self.info, self.seeds = asked, asked.config, asked.info, seeds
        self.scenario, self.sizes, self.number, self.before = asked.scenario, asked.sizes[number], number, before
        self.label = asked.label(number)
        self.protocol = PROTOCOLS[self.config.protocol]
        self.recipe: Recipe = configuration.check(
            Recipe, self.config.train.model_dump() | self.scenario.train, f"scenarios.{self.scenario.label}.train"
        )
        self.models: dict[tuple[str, str], Stage] = {}  # by method and weighting
        self.notes: list[str] = []

    def cells(self) -> list[Cell]:
        """Original first, Retrain, then methods × weightings; the second Retrain, which nothing waits for, last."""
        rows = [self._cell("Original", "none", self.original, None)]
        for name in self.config.methods:
            entry = method_of(name, "classification")
            values = self.config.methods[name] | self.scenario.methods.get(name, {})
            method = configuration.settings(entry, values, f"methods.{name}")
            self._check_single(name, method)
            if refused := self._refused(entry, method):
                self.notes.append(f"{self.label}: {name} left out: {refused}")
                continue
            chosen, notes = weightings(name, method, self.config, self.scenario)
            self.notes += notes
            for rule, weighting in chosen:
                stage = self._unlearn(name, entry, method, rule, weighting)
                self.models[name, rule.name] = stage
                rows.append(self._cell(name, rule.name, stage, None if method.from_scratch else self.original))
            if hasattr(method, "replicate") and self.config.noise_floor:
                again = type(method)(**(asdict(method) | {"replicate": method.replicate + 1}))
                rows.append(self._cell(f"{name}-2", "none", self._unlearn(name, entry, again, *uniform()), None))
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
        config = self._common() | {"seed": 0}
        inputs = {"split": self.training_set, "original": self.original}
        work = int(EVALUATION_COST * self._samples(1))
        return self._stage("losses", config, inputs, (*TRAINING_CODE, self._model_file()), "losses", work)

    def _draw(self, scenario: Mapping[str, Any] | None, label: str, at: int, inputs: Mapping[str, Stage]) -> Stage:
        config = {
            "data": self.info.identity(), "scenario": scenario, "at": at, "seed": self.seeds.split,
            "validation": self.config.validation, "protocol": self.config.protocol,
            "limit_images": self.config.limit_images, "files": self.asked.files if scenario else {},
        }  # fmt: skip
        kinds = [each.entry.file for each in self.asked.each] if scenario else []
        sources = (HERE / "data" / "splits.py", HERE / "data" / "lists.py", HERE / "stages.py", *kinds)
        return self._stage("split", config, inputs, sources, label)

    @cached_property
    def original(self) -> Stage:
        """The model before anything was forgotten."""
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

    def _unlearn(self, name: str, entry: Entry, method: Any, rule: Entry, weighting: Any) -> Stage:
        train = self.seeds.train
        config = self._common() | {
            "method": entry.name, "method_settings": asdict(method),
            "weighting": rule.name, "weighting_settings": asdict(weighting),
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
            before = self.before.models.get((name, rule.name)) if self.before else None
            inputs["original"] = before or self.original
        sources = (*TRAINING_CODE, self._model_file(), *class_files(entry.item), *class_files(rule.item))
        label = name if rule.name == "none" else f"{name} {rule.name}"
        return self._stage("unlearn", config, inputs, sources, label, work)

    def _cell(self, method: str, weighting: str, model: Stage, original: Stage | None) -> Cell:
        entries, _ = over_seeds.parted(self.config.metrics)
        if any(entry.info["derived"] for entry in entries):
            name = next(entry.name for entry in entries if entry.info["derived"])
            raise UserError(f"metrics: '{name}' is derived when a table is made; leave it out, it is always there")
        names = [entry.name for entry in entries]
        if self.number > 0 and "earlier" not in names:  # what came back of the requests before
            entries.append(registry("metrics").get("earlier"))
            names.append("earlier")
        config = self._common() | {"metrics": names, "seed": self.seeds.eval}
        for name in ("train", "limit_steps", "precision"):  # evaluation does not depend on them
            del config[name]
        sources = (*EVALUATION_CODE, self._model_file(), *(entry.file for entry in entries))
        inputs = {"split": self.split, "model": model} | ({"original": original} if original is not None else {})
        needs = frozenset().union(*(entry.info["needs"] for entry in entries))
        if "retrain" in needs:
            inputs["retrain_predictions"] = self._predictions(self._retrain, "Retrain's predictions")
        if "original" in needs:
            inputs["original_model"] = self.original
            inputs["original_predictions"] = self._predictions(self.original, "original's predictions")
        if "losses" in needs:
            inputs["losses"] = self.losses
        work = int(EVALUATION_COST * sum(self.sizes.values())) + cost_of(entries, self.sizes)
        record = Record(
            track="classification", dataset=self.info.name, model=Path(self.config.model).name,
            scenario=self.label, method=method, weighting=weighting,
            seeds=self.seeds.model_dump(), protocol=self.config.protocol, conditions=self.conditions,
            trials=self.config.trials.get(method, 0), overlap=self.asked.overlaps[self.number],
        )  # fmt: skip
        evaluation = self._stage("evaluate", config, inputs, sources, f"measure {method} {weighting}", work)
        return Cell(record, model, evaluation)

    def _predictions(self, model: Stage, label: str) -> Stage:
        config = {key: value for key, value in self._common().items() if key not in ("train", "limit_steps", "precision")}
        sources = (*EVALUATION_CODE, self._model_file())
        work = int(EVALUATION_COST * sum(self.sizes.values()))
        return self._stage("predict", config, {"split": self.split, "model": model}, sources, label, work)

    @cached_property
    def _retrain(self) -> Stage:
        """The row that others are compared with. UserError if there is none."""
        if "Retrain" not in self.config.methods:
            names = [name for name in self.config.metrics if "retrain" in registry("metrics").get(name).info["needs"]]
            raise UserError(f"metrics: {', '.join(names)} compares with Retrain, and no row is called so: add it to methods")
        entry = method_of("Retrain", "classification")
        values = self.config.methods["Retrain"] | self.scenario.methods.get("Retrain", {})
        return self._unlearn("Retrain", entry, configuration.settings(entry, values, "methods.Retrain"), *uniform())

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
        found |= self.asked.forget_set
        return found | ({"model settings": config.model_settings} if config.model_settings else {})

    def _refused(self, entry: Entry, method: Any) -> str:
        """Why a method cannot run here, or ""."""
        with blamed(entry.file, f"method '{entry.name}'"):
            try:
                getattr(method, "check", bool)(Asked(self.asked.trial.model, self.sizes, self.info.classes))
            except UserError as error:
                return str(error)
        return ""

    def _check_single(self, name: str, method: Any) -> None:
        """UserError if the method would train on a set of one image, and the model cannot."""
        uses = [part for part in ("forget", "retain") if part in method.uses and self.sizes[part] == 1]
        if uses and not self.asked.trial.single and not getattr(method, "freeze_batchnorm", False):
            raise UserError(
                f"scenario {self.label}: the {uses[0]} set is one image, and model '{self.config.model}' does not "
                f"train on a batch of one (batch norm?); leave out {name}, set its freeze_batchnorm, or take 2 images"
            )

    def _common(self) -> dict[str, Any]:
        network = {"memory_format": self.asked.trial.memory_format, "library": version(self.config.model)}
        return {
            "data": self.info.identity(), "model": self.config.model, "model_settings": self.config.model_settings,
            "network": network,
            "train": self.recipe.model_dump(mode="json"), "protocol": self.config.protocol,
            "precision": self.config.precision, "compile": self.config.compile, "limit_steps": self.config.limit_steps,
            "device": self.config.device,
        }  # fmt: skip

    def _model_file(self) -> Path:
        from loreun_bench.classification.unlearning.networks import source

        return source(self.config.model)

    def _samples(self, epochs: int) -> int:
        return epochs * (self.sizes["forget"] + self.sizes["retain"])

    def _stage(
        self, run: str, config: Mapping[str, Any], inputs: Mapping[str, Stage], sources: tuple[Path, ...], label: str,
        work: int = 0,
    ) -> Stage:  # fmt: skip
        about = f"{self.label} seed {self.seeds.unlearn} {label}"
        return Stage(f"{STAGES}:{run}", config, inputs, sources, about, work, self.config.timeout_s)


def _located(scenario: Scenario, dataset: str) -> tuple[Scenario, dict[str, str]]:
    """The scenario with whole paths to the files that it names, and the hashes of all that it reads. UserError for one that
    is nowhere."""
    values = scenario.model_dump()
    beside = Path(dataset.rpartition(":")[0] if ".py:" in dataset else dataset)
    places = (Path(), *((beside, beside.parent) if beside.exists() else ()))
    hashes: dict[str, str] = {}

    def located(name: str) -> str:
        path = next((place / name for place in places if (place / name).is_file()), None)
        if path is None:
            raise UserError(f"scenario {scenario.label}: {name} not found, neither here nor beside the data")
        hashes[str(path.resolve())] = sha256_file(path)
        return str(path.resolve())

    def whole(value: Any, paths: Mapping[str, str]) -> Any:
        if isinstance(value, list):
            return [whole(each, paths) for each in value]
        return paths.get(value, value) if isinstance(value, str) else value

    def found(one: Scenario, own: dict[str, Any]) -> dict[str, Any]:
        paths = {name: located(name) for name in splits.files_of(one, "files", "tables")}
        return {key: whole(value, paths) for key, value in own.items()}

    if scenario.kind == "sequence":
        pairs = zip(splits.requests(scenario), values["requests"], strict=True)
        values["requests"] = [found(each, own) for each, own in pairs]
    return Scenario(**found(scenario, values)), hashes
