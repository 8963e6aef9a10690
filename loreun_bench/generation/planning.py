"""From a configuration to the cells of a generation sweep and the stages they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from loreun_bench import config as configuration
from loreun_bench.config import Seeds
from loreun_bench.errors import UserError
from loreun_bench.generation.config import GenerationConfig, Scenario
from loreun_bench.generation.data import concepts
from loreun_bench.generation.pipeline import pipelines
from loreun_bench.generation.pipeline.pipelines import PipelineFiles
from loreun_bench.generation.scene import Planned
from loreun_bench.harness.files import sha256_file
from loreun_bench.harness.plan import Cell
from loreun_bench.harness.records import Record
from loreun_bench.harness.rows import check_scenario, class_files, weightings
from loreun_bench.harness.seeding import derive
from loreun_bench.harness.stage import Stage, code_digest, digest
from loreun_bench.registry import Entry, registry

PACKAGE = Path(__file__).parents[1]
HERE = PACKAGE / "generation"
STAGES = "loreun_bench.generation.stages"
DATA, PIPELINE, UNLEARNING, SCORING = (HERE / room for room in ("data", "pipeline", "unlearning", "scoring"))
SHARED = (
    HERE / "stages.py", PIPELINE / "pipelines.py", DATA / "concepts.py", DATA / "names.py", SCORING / "pictures.py",
    SCORING / "images.py", UNLEARNING / "protocols.py",
)  # fmt: skip
SAMPLING = (*SHARED, PIPELINE / "sampling.py")
TRAINING = (
    *SAMPLING, PACKAGE / "training", PACKAGE / "ops", PACKAGE / "weightings" / "__init__.py",
    PACKAGE / "harness" / "seeding.py", DATA / "latents.py", PIPELINE / "attention.py",
    *(UNLEARNING / f"{name}.py" for name in ("method", "gradient", "curve")),
)  # fmt: skip
EVALUATION = (
    *SHARED, PACKAGE / "harness" / "measuring.py", PACKAGE / "harness" / "shares.py", HERE / "scene.py",
    *(SCORING / f"{name}.py" for name in ("classifiers", "distances", "inception", "detector", "intervals", "weights")),
)  # fmt: skip
SAMPLE_COST = 0.3  # a denoiser's pass without gradient, as a share of a training step


def cells(config: GenerationConfig) -> tuple[list[Cell], list[str]]:
    """All cells, the first seed's first, and notes on what was left out. UserError if something given does not fit."""
    files, data = pipelines.find(config.pipeline), concepts.identity(config.dataset)
    if config.sampling.steps > (most := pipelines.timesteps(files.folder)):
        raise UserError(f"sampling.steps: {config.sampling.steps} is more than the {most} timesteps of '{files.name}'")
    found: list[Cell] = []
    notes = ["the pipelines' safety checker is off: it would blacken what is to be measured"]
    for seeds in config.seeds:
        for scenario in config.scenarios:
            block = _Block(config, files, data, scenario, seeds)
            if not found:
                block.check_classifier()
            found += block.cells()
            notes += [note for note in block.notes if note not in notes]
    if config.protocol == "paper":
        notes.append("protocol paper: the reference code's known bugs are repeated; see `show protocols paper`")
    limits = {"steps": config.limit_steps} if config.limit_steps is not None else {}
    return [replace(cell, record=replace(cell.record, limits=limits)) for cell in found], notes


class _Block:
    """The cells of one scenario under one set of seeds: they share the original, its loss curve and the prompts."""

    def __init__(
        self, config: GenerationConfig, files: PipelineFiles, data: Mapping[str, Any], scenario: Scenario, seeds: Seeds
    ) -> None:
        self.config, self.files, self.data_identity, self.scenario, self.seeds = config, files, data, scenario, seeds
        self.notes: list[str] = []
        check_scenario(scenario, config)
        if scenario.kind == "class":
            pictures = concepts.dataset(config.dataset, "train")
            self.classes = pictures.classes
            self.forgotten = concepts.number(self.classes, str(scenario.forget_class))
            self.prompts = [config.prompt.format(name) for name in self.classes]
            if len(self.classes) < 2:
                raise UserError(f"data set '{config.dataset}' has one class, and nothing would be kept: give it another")
            forget = len(pictures.of(self.forgotten))
            self.sizes = {"forget": forget, "retain": len(pictures) - forget}
        else:
            self.classes, self.forgotten = (), 0
            self.prompts = [str(scenario.forget_prompt), str(scenario.retain_prompt)]
            self.sizes = {"forget": scenario.images, "retain": scenario.images}
        self._check_prompts()

    def cells(self) -> list[Cell]:
        """Original first, then methods × weightings."""
        rows = [self._cell("Original", "none", self.original)]
        for name in self.config.methods:
            entry = registry("methods", "generation").get(name)
            values = self.config.methods[name] | self.scenario.methods.get(name, {})
            method = configuration.settings(entry, values, f"methods.{name}")
            chosen, notes = weightings(name, method, self.config, self.scenario)
            self.notes += notes
            for rule, weighting in chosen:
                rows.append(self._cell(name, rule.name, self._unlearn(entry, method, rule, weighting)))
        return rows

    @cached_property
    def original(self) -> Stage:
        return self._stage("original", {}, {}, (HERE / "stages.py",), "original")

    @cached_property
    def generated(self) -> Stage:
        """Pictures of the two prompts of a concept, made by the original model: what is trained on."""
        requests = [
            {"name": f"{label}-{n:05d}", "prompt": prompt, "seed": derive(self.seeds.split, "pictures", label, n) % 2**31,
             "guidance": self.config.sampling.guidance, "label": label, "concept": prompt}
            for label, prompt in enumerate(self.prompts) for n in range(self.scenario.images)
        ]  # fmt: skip
        return self._sample(requests, {}, "training pictures")

    @cached_property
    def curve(self) -> Stage:
        config = self._training() | self.config.curve.model_dump() | {"seed": derive(self.seeds.train, "curve")}
        del config["forgotten"]
        points = self.config.curve.points * self.config.curve.samples
        return self._stage("loss_curve", config, self._pictures(), TRAINING, "loss curve", points)

    @cached_property
    def classifier(self) -> Stage:
        config = {"data": self.config.dataset, "data_identity": self.data_identity, "seed": 0,
                  "size": pipelines.image_size(self.files.folder)}  # fmt: skip
        return self._stage("classifier", config, {}, (SCORING / "classifiers.py", *SHARED), "classifier", own=True)

    @cached_property
    def metrics(self) -> list[Entry]:
        """The metrics of every row. UserError if something that one of them needs is not installed."""
        found = [registry("metrics", "generation").get(name) for name in self.config.metrics]
        for entry in found:
            if entry.info["check"] is not None:
                entry.info["check"](self._planned())
        return found

    def _planned(self) -> Planned:
        """What is known to metrics of this scenario before anything runs."""
        if not self.classes or self.config.sampling.prompts is not None:
            return Planned()
        return Planned(self.classes, self.config.sampling.images * (len(self.classes) - 1))

    @cached_property
    def real(self) -> Stage:
        extractors = sorted({entry.info["features"] for entry in self.metrics} - {""})
        config = self.recognition | {"extractors": extractors, "size": pipelines.image_size(self.files.folder)}
        return self._stage("real_features", config, self._classifier(), EVALUATION, "real pictures", own=True)

    def _unlearn(self, entry: Entry, method: Any, rule: Entry, weighting: Any) -> Stage:
        config = self._training() | {
            "method": entry.name, "method_settings": asdict(method), "weighting": rule.name,
            "weighting_settings": asdict(weighting), "seed": derive(self.seeds.unlearn, "unlearn"),
        }  # fmt: skip
        inputs = self._pictures()
        if weighting.phases():
            inputs["curve"] = self.curve
        sources = (*TRAINING, *class_files(entry.item), *class_files(rule.item))
        label = entry.name if rule.name == "none" else f"{entry.name} {rule.name}"
        return self._stage("unlearn", config, inputs, sources, label, method.samples(self.sizes))

    def _cell(self, method: str, weighting: str, model: Stage) -> Cell:
        inputs = self._classifier()
        if self.classes and any(entry.info["features"] for entry in self.metrics):
            inputs["real"] = self.real  # before the pictures, so that what it lacks is known soon
        inputs["pictures"] = self._sample(self.requests, {"model": model}, f"sample {method} {weighting}")
        config = self.recognition | {
            "metrics": list(self.config.metrics),
            "forget": self.forgotten if self.classes else None,
        }
        sources = (*EVALUATION, *(entry.file for entry in self.metrics))
        record = Record(
            track="generation", dataset=Path(self.config.dataset).name if self.classes else "generated pictures",
            model=self.files.name, scenario=self.scenario.label, method=method, weighting=weighting,
            conditions=self.conditions, seeds=self.seeds.model_dump(), protocol=self.config.protocol,
        )  # fmt: skip
        evaluation = self._stage("evaluate", config, inputs, sources, f"measure {method} {weighting}", own=True)
        return Cell(record, model, evaluation)

    @cached_property
    def conditions(self) -> dict[str, Any]:
        """What the rows of one table have in common, under the words that say it; hashes where words would be too many."""
        how = self.config.sampling
        told = {key: v for key, v in self.recognition["metric_settings"].items() if key not in ("batch_size", "fid_weights")}
        found: dict[str, Any] = {"pictures": len(self.requests)} if how.prompts else {"pictures a class": how.images}
        found |= {"sampling steps": how.steps, "guidance": "each prompt's own" if how.own_guidance else how.guidance}
        found |= {"as metric settings": told} if told else {}
        if self.classes:
            name = self.config.classifier
            contents = self.recognition["files"].get(name, "")[:8]
            found |= {} if name == "small" else {"as classifier": f"{name} {contents}".strip()}
            found["data"] = digest(self.data_identity)[:8]
        asked = [[each["prompt"], each["guidance"], each["label"]] for each in self.requests]
        return found | {"prompts": digest([self.prompts, asked])[:8], "pipeline": digest(self.files.files)[:8]}

    @cached_property
    def requests(self) -> list[dict[str, Any]]:
        """What is sampled for scoring: the classes' prompts in turn, or the prompts of a file."""
        how, seed = self.config.sampling, self.seeds.eval
        if how.prompts is not None:
            from loreun_bench.generation.data.prompts import read

            return [
                {"name": f"{p.number}", "prompt": p.prompt, "seed": p.seed, "concept": self.scenario.label, "label": None,
                 "guidance": p.guidance if how.own_guidance else how.guidance}
                for p in read(Path(how.prompts), how.category, None if how.own_guidance else how.guidance)
            ]  # fmt: skip
        names = self.classes or (self.scenario.label, "other")
        return [
            {"name": f"{label}-{n:04d}", "prompt": prompt, "seed": derive(seed, "sample", label, n) % 2**31,
             "guidance": how.guidance, "label": label, "concept": names[label]}
            for label, prompt in enumerate(self.prompts) for n in range(how.images)
        ]  # fmt: skip

    def _sample(self, requests: list[dict[str, Any]], inputs: Mapping[str, Stage], label: str) -> Stage:
        how = self.config.sampling
        config = self._where() | {
            "requests": requests, "steps": how.steps, "batch_size": how.batch_size,
            "code": digest([code_digest(path) for path in SAMPLING]),  # pictures lie in a folder named after all of this
        }  # fmt: skip
        work = int(SAMPLE_COST * len(requests) * how.steps * (1 if how.guidance == 1 else 2))
        return self._stage("sample", config, inputs, SAMPLING, label, work)

    def _classifier(self) -> dict[str, Stage]:
        return {"classifier": self.classifier} if self.classes and self.config.classifier == "small" else {}

    @cached_property
    def recognition(self) -> dict[str, Any]:
        """What the scoring of pictures depends on, beside the pictures."""
        settings, name = self.config.metric_settings.given(), self.config.classifier if self.classes else None
        values = (name, *settings.values(), *settings.get("own", {}).values())
        named = [value for value in values if isinstance(value, str) and Path(value).is_file()]
        return {
            "metric_settings": settings, "classes": list(self.classes), "classifier": name, "data": self.config.dataset,
            "data_identity": self.data_identity, "files": {v: sha256_file(Path(v)) for v in named},
        }  # fmt: skip

    def _pictures(self) -> dict[str, Stage]:
        return {} if self.classes else {"generated": self.generated}

    def _where(self) -> dict[str, Any]:
        """On what, and how exactly."""
        return {
            "pipeline": {"source": self.files.source, "files": self.files.files}, "precision": self.config.precision,
            "device": self.config.device,
        }  # fmt: skip

    def _common(self) -> dict[str, Any]:
        return self._where() | {"protocol": self.config.protocol, "limit_steps": self.config.limit_steps}

    def _training(self) -> dict[str, Any]:
        return self._common() | {
            "data": self.config.dataset, "data_identity": self.data_identity, "prompts": self.prompts,
            "forgotten": self.forgotten,
        }  # fmt: skip

    def check_classifier(self) -> None:
        """UserError if a classifier that is named is not there, or does not know the classes."""
        from loreun_bench.generation.scoring import classifiers

        name = self.config.classifier
        if not self.classes or name == "small":
            return
        if name == "resnet50":
            classifiers.renumbered(name, tuple(classifiers.IMAGENETTE), self.classes)  # its weights may be far away
        else:
            classifiers.from_name(name).of(self.classes)

    def _check_prompts(self) -> None:
        tokenizer = pipelines.tokenizer(self.files.folder)
        for prompt in self.prompts:
            pipelines.check_prompt(tokenizer, prompt)

    def _stage(
        self, run: str, config: Mapping[str, Any], inputs: Mapping[str, Stage], sources: tuple[Path, ...], label: str,
        work: int = 0, own: bool = False,
    ) -> Stage:  # fmt: skip
        about = f"{self.scenario.label} seed {self.seeds.unlearn} {label}"
        whole = dict(config) if own or "pipeline" in config else self._common() | dict(config)
        if "data" in whole and self.classes:
            sources = (*sources, *concepts.readers(self.config.dataset))
        return Stage(f"{STAGES}:{run}", whole, inputs, sources, about, work, self.config.timeout_s)
