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
from loreun_bench.generation.data.names import plain
from loreun_bench.generation.pipeline import pipelines, schedules
from loreun_bench.generation.pipeline.pipelines import PipelineFiles
from loreun_bench.generation.scenarios import Concepts, check
from loreun_bench.generation.scene import Planned
from loreun_bench.generation.unlearning.method import Asked
from loreun_bench.harness.files import sha256_file
from loreun_bench.harness.plan import Cell
from loreun_bench.harness.records import Record
from loreun_bench.harness.rows import asked_of, check_scenario, class_files, cost_of, method_of, ranks, samples, weightings
from loreun_bench.harness.seeding import derive
from loreun_bench.harness.stage import Stage, code_digest, digest
from loreun_bench.names import short
from loreun_bench.registry import Entry, blamed, registry
from loreun_bench.weightings import phases_of

PACKAGE = Path(__file__).parents[1]
HERE = PACKAGE / "generation"
STAGES = "loreun_bench.generation.stages"
DATA, PIPELINE, UNLEARNING, SCORING = (HERE / room for room in ("data", "pipeline", "unlearning", "scoring"))
SHARED = (
    HERE / "stages.py", *(PIPELINE / f"{name}.py" for name in ("pipelines", "schedules", "files")),
    *(DATA / f"{name}.py" for name in ("concepts", "returned", "names", "packed")),
    SCORING / "pictures.py", SCORING / "images.py", PACKAGE / "pictures.py", UNLEARNING / "protocols.py",
)  # fmt: skip
SAMPLING = (*SHARED, PIPELINE / "sampling.py")
TRAINING = (
    *SAMPLING, PACKAGE / "training", PACKAGE / "ops", PACKAGE / "weightings" / "__init__.py",
    PACKAGE / "harness" / "seeding.py", DATA / "latents.py", PIPELINE / "attention.py",
    *(UNLEARNING / f"{name}.py" for name in ("method", "gradient", "curve")),
)  # fmt: skip
EVALUATION = (
    *SHARED, *(PACKAGE / "harness" / f"{name}.py" for name in ("measuring", "seeding", "shares")), HERE / "scene.py",
    *(SCORING / f"{name}.py" for name in ("classifiers", "distances", "inception", "detector", "intervals", "weights")),
)  # fmt: skip
SAMPLE_COST = 0.3  # a denoiser's pass without gradient, as a share of a training step


def cells(config: GenerationConfig) -> tuple[list[Cell], list[str]]:
    """All cells, the first seed's first, and notes on what was left out. UserError if something given does not fit."""
    files = pipelines.find(config.pipeline)
    data = concepts.identity(config.dataset, min(pipelines.image_size(files.folder)))
    found: list[Cell] = []
    recognised = False
    off = "the pipelines' safety checker is off: it would blacken what is to be measured"
    notes = [*config.notes, off, *pipelines.tried(files, config.device, config.precision)]
    _check_timesteps(config, files)
    for seeds in config.seeds:
        for scenario in config.scenarios:
            block = _Block(config, files, data, scenario, seeds)
            if block.classes and not recognised:  # all that have classes have the same
                recognised = True
                block.check_classifier()
            found += block.cells()
            notes += block.notes
    if config.protocol == "paper":
        notes.append("protocol paper: the reference code's known bugs are repeated; see `show protocols paper`")
    limits = {"steps": config.limit_steps, "images": config.limit_images}
    given = {name: limit for name, limit in limits.items() if limit is not None}
    return [replace(cell, record=replace(cell.record, limits=given)) for cell in found], notes


def _check_timesteps(config: GenerationConfig, files: PipelineFiles) -> None:
    """UserError if more timesteps are asked for than the pipeline has."""
    schedule = schedules.ddim(files.folder)
    schedules.check_steps(schedule, config.sampling.steps, "sampling.steps")
    if config.curve.points > (most := int(schedule.config.num_train_timesteps)):
        raise UserError(f"curve.points: {config.curve.points} is more than the {most} timesteps of the pipeline")


class _Block:
    """The cells of one scenario under one set of seeds: they share the original, its loss curve and the prompts."""

    def __init__(
        self, config: GenerationConfig, files: PipelineFiles, data: Mapping[str, Any], scenario: Scenario, seeds: Seeds
    ) -> None:
        self.config, self.files, self.data_identity, self.scenario, self.seeds = config, files, data, scenario, seeds
        self.notes: list[str] = []
        self.notes += check_scenario(scenario, config)
        pictures = concepts.dataset(config.dataset, "train").limited(config.limit_images)
        with blamed(scenario.entry.file, f"scenario '{scenario.kind}'"):
            self.concepts: Concepts = scenario.item.draw(pictures.classes, config.prompt)
            check(self.concepts)
        self.prompts, self.forgotten = list(self.concepts.prompts), list(self.concepts.forgotten)
        self.label = short(scenario.label)
        self.classes = () if self.concepts.images else pictures.classes
        if self.classes and len(self.prompts) != len(self.classes):
            given = f"{len(self.prompts)} prompts for {len(self.classes)} classes"
            raise UserError(f"scenario {scenario.label} gives {given}: one each is needed, or `images` of the prompts")
        if self.concepts.images and config.limit_images:
            raise UserError(f"limit_images: scenario {scenario.label} makes its own pictures: set its `images` instead")
        if self.classes:
            gone = sum(int((pictures.labels == number).sum()) for number in self.forgotten)
            self.sizes = {"forget": gone, "retain": len(pictures) - gone}
            _ = self.side
        else:
            forgotten = len(self.forgotten)
            kept = len(self.prompts) - forgotten
            self.sizes = {"forget": forgotten * self.concepts.images, "retain": kept * self.concepts.images}
        self._check_prompts()

    def cells(self) -> list[Cell]:
        """Original first, then methods × weightings."""
        rows = [self._cell("Original", "none", self.original)]
        for name in self.config.methods:
            entry = method_of(name, "generation")
            values = self.config.methods[name] | self.scenario.methods.get(name, {})
            method = configuration.settings(entry, values, f"methods.{name}")
            if hasattr(method, "check"):
                asked_of(method, "check", self.asked)
            chosen, notes = weightings(name, method, self.config, self.scenario)
            self.notes += notes
            for rule, weighting in chosen:
                rows.append(self._cell(name, rule.name, self._unlearn(name, entry, method, rule, weighting), weighting))
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
            for label, prompt in enumerate(self.prompts) for n in range(self.concepts.images)
        ]  # fmt: skip
        return self._sample(requests, {}, "training pictures")

    @cached_property
    def curve(self) -> Stage:
        config = self._training() | self.config.curve.model_dump() | {"seed": derive(self.seeds.train, "curve")}
        for key in ("names", "concept_texts", *([] if config["per_set"] else ["forgotten"])):
            del config[key]
        points = self.config.curve.points * self.config.curve.samples * (2 if config["per_set"] else 1)
        return self._stage("loss_curve", config, self._pictures(), TRAINING, "loss curve", points)

    @cached_property
    def classifier(self) -> Stage:
        config = {"data": self.config.dataset, "data_identity": self.data_identity, "seed": 0,
                  "size": self.side}  # fmt: skip
        return self._stage("classifier", config, {}, (SCORING / "classifiers.py", *SHARED), "classifier", own=True)

    @cached_property
    def side(self) -> int:
        """Pixels on a side of a picture of a class. UserError if the pipeline's are not square: a data set's are."""
        height, width = pipelines.image_size(self.files.folder)
        if height != width:
            raise UserError(f"pipeline '{self.files.name}' makes pictures of {height}×{width} pixels, those of classes are "
                            "square: take one with a square sample_size, or a scenario of kind concept")  # fmt: skip
        return height

    @cached_property
    def metrics(self) -> list[Entry]:
        """The metrics of every row. UserError if something that one of them needs is not installed."""
        found = [registry("metrics", "generation").get(name) for name in self.config.metrics]
        for entry in found:
            if entry.info["about_classes"]:
                self._planned().need_classes(entry.name)
            if entry.info["check"] is not None:
                with blamed(entry.file, f"metric '{entry.name}'"):
                    entry.info["check"](self._planned())
        return found

    def _planned(self) -> Planned:
        """What is known to metrics of this scenario before anything runs."""
        if not self.classes or self.config.sampling.prompts is not None:
            return Planned(settings=self.config.metric_settings.given())
        kept = self.config.sampling.images * (len(self.classes) - len(self.forgotten))
        real = concepts.dataset(self.config.dataset, "test").labels.tolist()
        own = sum(label not in self.forgotten for label in real)
        return Planned(self.classes, kept, own, self.config.metric_settings.given())

    @cached_property
    def real(self) -> Stage:
        extractors = sorted({entry.info["features"] for entry in self.metrics} - {""})
        config = self.recognition | {"extractors": extractors, "size": self.side}
        return self._stage("real_features", config, self._classifier(), EVALUATION, "real pictures", own=True)

    def _unlearn(self, name: str, entry: Entry, method: Any, rule: Entry, weighting: Any) -> Stage:
        config = self._training() | {
            "method": entry.name, "method_settings": asdict(method), "weighting": rule.name,
            "weighting_settings": asdict(weighting), "seed": derive(self.seeds.unlearn, "unlearn"),
        }  # fmt: skip
        inputs = self._pictures() | self._curve(weighting)
        sources = (*TRAINING, *class_files(entry.item), *class_files(rule.item))
        label = name if rule.name == "none" else f"{name} {rule.name}"
        config |= ranks(self.config, method)
        return self._stage("unlearn", config, inputs, sources, label, samples(method, self.sizes, 0))

    def _cell(self, method: str, weighting: str, model: Stage, rule: Any = None) -> Cell:
        inputs = self._classifier() | self._curve(rule)
        if self.classes and any(entry.info["features"] for entry in self.metrics):
            inputs["real"] = self.real  # before the pictures, so that what it lacks is known soon
        inputs["pictures"] = self._sample(self.requests, {"model": model}, f"sample {method} {weighting}")
        config = self.recognition | {
            "metrics": list(self.config.metrics),
            "forget": self.forgotten if self.classes else [],
        }
        needs = frozenset[str]().union(*(entry.info["needs"] for entry in self.metrics))
        if "original" in needs:
            inputs["original"] = self._sample(self.requests, {"model": self.original}, "sample Original none")
        if needs & {"model", "data"}:
            inputs |= {"model": model} | self._pictures()
            config["model"] = self._looked_at()
        trained = (*TRAINING, SCORING / "model.py") if "model" in config else ()
        sources = (*EVALUATION, *trained, *(entry.file for entry in self.metrics))
        record = Record(
            track="generation", dataset=concepts.called(self.config.dataset) if self.classes else "generated pictures",
            model=self.files.name, scenario=self.label, method=method, weighting=weighting,
            conditions=self.conditions, seeds=self.seeds.model_dump(), protocol=self.config.protocol,
            trials=self.config.trials.get(method, 0),
        )  # fmt: skip
        work = cost_of(self.metrics, self.sizes)
        evaluation = self._stage("evaluate", config, inputs, sources, f"measure {method} {weighting}", work, own=True)
        return Cell(record, model, evaluation)

    def _looked_at(self) -> dict[str, Any]:
        """What metrics are told of the model itself."""
        how = self.config.sampling
        asked = [each for each in self.requests if each["label"] in self.forgotten]
        return self._training() | {
            "seed": derive(self.seeds.eval, "metrics"), "asked": asked, "steps": how.steps, "batch_size": how.batch_size,
        }  # fmt: skip

    @cached_property
    def conditions(self) -> dict[str, Any]:
        """What the rows of one table have in common, under the words that say it; hashes where words would be too many."""
        how = self.config.sampling
        told = {key: v for key, v in self.recognition["metric_settings"].items() if key not in ("batch_size", "fid_weights")}
        found: dict[str, Any] = {"pictures": len(self.requests)} if how.prompts else {"pictures a class": how.images}
        found |= {"sampling steps": how.steps, "guidance": "each prompt's own" if how.own_guidance else how.guidance}
        found |= ({"as metric settings": told} if told else {}) | ranks(self.config)
        found |= {"precision": "bf16"} if self.config.precision == "bf16" else {}  # of earlier results, none said fp32
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

            chosen = read(Path(how.prompts), how.category, None if how.own_guidance else how.guidance, self.notes.append)
            if not how.own_guidance and any(p.guidance != how.guidance for p in chosen):
                self.notes.append(f"prompt file {Path(how.prompts).name}: its guidance is not used, every prompt has "
                                  f"{how.guidance:g}; sampling.own_guidance=true uses it")  # fmt: skip
            return [
                {"name": f"{p.number}", "prompt": p.prompt, "concept": self.label, "label": None,
                 "seed": p.seed if p.seed is not None else derive(seed, "sample", p.number) % 2**31,
                 "guidance": p.guidance if how.own_guidance else how.guidance}
                for p in chosen
            ]  # fmt: skip
        names = self.classes or self.concepts.shown
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

    def _curve(self, weighting: Any) -> dict[str, Stage]:
        return {"curve": self.curve} if weighting is not None and phases_of(weighting) else {}

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
            "data": self.config.dataset, "data_identity": self.data_identity, "limit_images": self.config.limit_images,
            "prompts": self.prompts, "forgotten": self.forgotten, "names": list(self.concepts.names),
            "concept_texts": list(self.concepts.bare),
        }  # fmt: skip

    def check_classifier(self) -> None:
        """UserError if a classifier that is named is not there, or does not know the classes; a note on what else a file's
        knows."""
        from loreun_bench.generation.scoring import classifiers

        name = self.config.classifier
        if not self.classes or name == "small":
            return
        if name == "resnet50":
            classifiers.renumbered(name, tuple(classifiers.IMAGENETTE), self.classes)  # its weights may be far away
        else:
            found = classifiers.from_name(name)
            found.of(self.classes)
            wanted = {plain(each) for each in self.classes}
            others = [each for each in found.classes if plain(each) not in wanted]
            if others and Path(name).suffix == ".safetensors":
                self.notes.append(f"classifier {name} knows classes that the data lack, and pictures that it takes for one "
                                  f"of them count as not recognised: {short(', '.join(others))}")  # fmt: skip

    @cached_property
    def asked(self) -> Asked:
        """What methods may look at before anything runs."""
        folder = self.files.folder
        own = self.concepts
        return Asked(pipelines.tokenizer(folder), schedules.ddim(folder), own.prompts, own.forgotten, own.names)

    def _check_prompts(self) -> None:
        """UserError if a prompt has no word, or two are one to the text encoder. Notes on words that it does not read."""
        tokenizer = self.asked.tokenizer
        for text in (*self.prompts, *self.concepts.bare):
            pipelines.check_prompt(tokenizer, text)
        called = self.classes or tuple(self.prompts)
        for keys in (pipelines.read_of(tokenizer, self.prompts), [plain(name) for name in called]):
            seen: dict[str, str] = {}
            for key, name in zip(map(str, keys), called, strict=True):
                if key in seen:
                    raise UserError(f"'{seen[key]}' and '{name}' are one and the same where prompts are read: rename one")
                seen[key] = name
        texts = [*self.prompts, *self.concepts.bare, *(each["prompt"] for each in self.requests)]
        long = [text for text in dict.fromkeys(texts) if pipelines.cut_off(tokenizer, text)]
        if long:
            more = f" and {len(long) - 1} more" if len(long) > 1 else ""
            self.notes.append(f"the text encoder reads {tokenizer.model_max_length} tokens: the last words of the prompt "
                              f"'{short(long[0])}'{more} are cut off")  # fmt: skip

    def _stage(
        self, run: str, config: Mapping[str, Any], inputs: Mapping[str, Stage], sources: tuple[Path, ...], label: str,
        work: int = 0, own: bool = False,
    ) -> Stage:  # fmt: skip
        about = f"{self.label} seed {self.seeds.unlearn} {label}"
        whole = dict(config) if own or "pipeline" in config else self._common() | dict(config)
        if "data" in whole and self.classes:
            sources = (*sources, *concepts.readers(self.config.dataset))
        return Stage(f"{STAGES}:{run}", whole, inputs, sources, about, work, self.config.timeout_s)
