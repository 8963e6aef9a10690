"""A scenario of a sweep: its files found, its forget sets drawn once, and the rows that each of its requests has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loreun_bench import config as configuration
from loreun_bench.classification import over_seeds
from loreun_bench.classification.config import ClassificationConfig, Recipe, Scenario
from loreun_bench.classification.data import splits
from loreun_bench.classification.data.prepared import DataInfo
from loreun_bench.classification.models.libraries import version
from loreun_bench.classification.unlearning.method import Asked
from loreun_bench.classification.unlearning.protocols import PROTOCOLS
from loreun_bench.errors import UserError
from loreun_bench.harness.files import sha256_file
from loreun_bench.harness.rows import check_scenario, cost_of, method_of, weightings
from loreun_bench.harness.stage import code_digest, digest
from loreun_bench.names import short
from loreun_bench.registry import Entry, blamed, registry

if TYPE_CHECKING:
    from loreun_bench.classification.unlearning.trial import Trial


@dataclass(frozen=True)
class Measured:
    """The metrics of a request: their names and files, what they need, and the samples that they train on."""

    names: list[str]
    files: tuple[Path, ...]
    needs: frozenset[str]
    cost: int


@dataclass(frozen=True)
class Chosen:
    """A weighting of a row, and its settings as a stage has them."""

    entry: Entry
    settings: dict[str, Any]

    @classmethod
    def of(cls, entry: Entry, weighting: Any) -> Chosen:
        """The weighting `entry` with the settings of `weighting`."""
        return cls(entry, asdict(weighting))


@dataclass(frozen=True)
class Row:
    """A method of a request, the same under every seed, its settings, and the weightings that it is combined with."""

    name: str
    entry: Entry
    method: Any
    settings: dict[str, Any]
    weightings: list[Chosen]


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
        self.rows = [self._rows(number) for number in range(len(self.each))]

    def _draw(self, people: splits.Population, seed: int) -> list[splits.ForgetSplit]:
        return splits.draw_all(
            people, self.scenario, validation=self.config.validation, seed=seed,
            one_split=PROTOCOLS[self.config.protocol].one_split, images=self.config.limit_images,
        )  # fmt: skip

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

    @cached_property
    def recipe(self) -> Recipe:
        """How models are trained: the sweep's recipe, with what the scenario changes."""
        values = self.config.train.model_dump() | self.scenario.train
        found: Recipe = configuration.check(Recipe, values, f"scenarios.{self.scenario.label}.train")
        return found

    @cached_property
    def common(self) -> dict[str, Any]:
        """What every stage of the scenario depends on, whatever the seed and the row."""
        config = self.config
        return {
            "data": self.info.identity(), "model": config.model, "model_settings": config.model_settings,
            "network": {"memory_format": self.trial.memory_format, "library": version(config.model)},
            "train": self.recipe.model_dump(mode="json"), "protocol": config.protocol, "precision": config.precision,
            "compile": config.compile, "limit_steps": config.limit_steps, "device": config.device,
        }  # fmt: skip

    @cached_property
    def limits(self) -> dict[str, int]:
        """By how much the sweep is cut short, for its records."""
        limits = {"steps": self.config.limit_steps, "images": self.config.limit_images}
        return {name: value for name, value in limits.items() if value is not None}

    @cached_property
    def evaluated(self) -> dict[str, Any]:
        """What of it evaluations depend on."""
        return {name: value for name, value in self.common.items() if name not in ("train", "limit_steps", "precision")}

    @cached_property
    def model_file(self) -> Path:
        """The file that makes the model."""
        from loreun_bench.classification.unlearning.networks import source

        return source(self.config.model)

    @cached_property
    def measured(self) -> list[Measured]:
        """By request, what is measured of each model."""
        return [self._measured(number) for number in range(len(self.each))]

    def _measured(self, number: int) -> Measured:
        entries, _ = over_seeds.parted(self.config.metrics)
        if any(entry.info["derived"] for entry in entries):
            name = next(entry.name for entry in entries if entry.info["derived"])
            raise UserError(f"metrics: '{name}' is derived when a table is made; leave it out, it is always there")
        if number > 0 and all(entry.name != "earlier" for entry in entries):  # what came back of the requests before
            entries.append(registry("metrics").get("earlier"))
        needs = frozenset[str]().union(*(entry.info["needs"] for entry in entries))
        names, files = [entry.name for entry in entries], tuple(entry.file for entry in entries)
        return Measured(names, files, needs, cost_of(entries, self.sizes[number]))

    def _rows(self, number: int) -> list[Row]:
        found = []
        for name in self.config.methods:
            entry = method_of(name, "classification")
            values = self.config.methods[name] | self.scenario.methods.get(name, {})
            method = configuration.settings(entry, values, f"methods.{name}")
            self._check_single(name, method, number)
            if refused := self._refused(entry, method, number):
                self.notes.append(f"{self.label(number)}: {name} left out: {refused}")
                continue
            chosen, notes = weightings(name, method, self.config, self.scenario)
            self.notes += notes
            found.append(Row(name, entry, method, asdict(method), [Chosen.of(*each) for each in chosen]))
        return found

    def _refused(self, entry: Entry, method: Any, number: int) -> str:
        """Why a method cannot run here, or ""."""
        with blamed(entry.file, f"method '{entry.name}'"):
            try:
                getattr(method, "check", bool)(Asked(self.trial.model, self.sizes[number], self.info.classes))
            except UserError as error:
                return str(error)
        return ""

    def _check_single(self, name: str, method: Any, number: int) -> None:
        """UserError if the method would train on a set of one image, and the model cannot."""
        uses = [part for part in ("forget", "retain") if part in method.uses and self.sizes[number][part] == 1]
        if uses and not self.trial.single and not getattr(method, "freeze_batchnorm", False):
            raise UserError(
                f"scenario {self.label(number)}: the {uses[0]} set is one image, and model '{self.config.model}' does not "
                f"train on a batch of one (batch norm?); leave out {name}, set its freeze_batchnorm, or take 2 images"
            )

    def _said(self, number: int) -> str:
        sizes = self.sizes[number]
        apart = f"; {sizes['test_forget']} test images of it are tested on apart" if sizes["test_forget"] else ""
        whole = sizes["forget"] + sizes["retain"]
        return f"{self.label(number)}: {sizes['forget']} of {whole} training images are forgotten{apart}"


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
