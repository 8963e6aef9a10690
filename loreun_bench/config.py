"""The sweep's configuration: a preset or a YAML file, changed by `--set key=value`, checked before anything runs."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import typing
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from loreun_bench import plain_yaml, reading
from loreun_bench.errors import UserError, did_you_mean
from loreun_bench.names import clean, twice
from loreun_bench.registry import Entry, blamed, registry, track
from loreun_bench.versions import OF_A_RUN, as_now

PRESETS = Path(__file__).parent / "presets"
MAX_BYTES = 400_000  # a configuration is a page, not a data set


MOST_SEEDS = 10_000
MANY_SEEDS = 20  # from which on one number is more likely to be meant as the seed than as how many there are
FLAGS = {"yes": True, "on": True, "no": False, "off": False}  # text in YAML here, as they may be names


def _flag(value: Any) -> Any:
    """`yes` and `no` stand for true and false where one of these is wanted."""
    return FLAGS.get(value.lower(), value) if isinstance(value, str) else value


Flag = Annotated[bool, BeforeValidator(_flag)]


class Strict(BaseModel):
    """A section of the configuration: unknown keys, NaN and infinity are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Scenario(Strict):
    """What is forgotten: a kind of the registry with its own settings beside it, and what it changes for itself alone."""

    model_config = ConfigDict(extra="allow")

    track: ClassVar[str]
    kind: str
    methods: dict[str, dict[str, Any]] = {}
    weightings: dict[str, dict[str, Any]] = {}

    @model_validator(mode="after")
    def _own_settings(self) -> Scenario:
        _ = self.item
        return self

    @cached_property
    def entry(self) -> Entry:
        """The kind in the registry. UserError for an unknown one."""
        return registry("scenarios", self.track).get(self.kind)

    @cached_property
    def item(self) -> Any:
        """The scenario with its settings checked. UserError names the first that is wrong."""
        return settings(self.entry, self.model_extra or {}, f"scenarios: {self.kind}", self.__class__.model_fields)

    @property
    def label(self) -> str:
        """The scenario's name in records and tables, such as "class-3" or "random-10%"."""
        with blamed(self.entry.file, f"scenario '{self.kind}'"):
            label = self.item.label if hasattr(self.item, "label") else "-".join([self.kind, *self._values()])
        if not isinstance(label, str) or not clean(label):
            raise UserError(f"scenario '{self.kind}': its label must be a text, got {label!r}")
        return clean(label)

    def spec(self) -> dict[str, Any]:
        """Its kind and its own settings with their defaults, as JSON can hold them."""
        return json.loads(json.dumps({"kind": self.kind} | dataclasses.asdict(self.item)))  # type: ignore[no-any-return]

    def _values(self) -> list[str]:
        return [_word(value) for value in (self.model_extra or {}).values()]


def _word(value: Any) -> str:
    """A setting as labels say it; of a file its name, wherever it lies."""
    if isinstance(value, list):
        return "+".join(map(_word, value))
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return f"{value:g}" if isinstance(value, float) else str(value)


Seed = Annotated[int, Field(ge=0, lt=2**63)]  # torch takes no larger one, nor does a record


class Seeds(Strict):
    """Who draws what: the split, the training of original and retrained model, the unlearning, the evaluation."""

    split: Seed = Field(description="who is forgotten, and held out for validation")
    train: Seed = Field(description="initial weights and batches of the original and of Retrain")
    unlearn: Seed = Field(description="the draws of a method")
    eval: Seed = Field(default=0, description="the draws of metrics, and in generation what is sampled")


class SweepConfig(Strict):
    """What every track has: which methods × weightings × seeds, and how to run them. A track adds its own sections."""

    track: str = Field(default="classification", description="classification or generation")
    name: str = Field(
        default="sweep", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="of the sweep, and of its folder in runs"
    )
    protocol: Literal["corrected", "paper"] = Field(
        default="corrected", description="paper repeats the known bugs of the reference code"
    )
    seeds: tuple[Seeds, ...] = Field(min_length=1, description="how many, or a list, or {count: N, split: 0}")
    methods: dict[str, dict[str, Any]] = Field(min_length=1, description="names, each with what is not its default")
    weightings: dict[str, dict[str, Any]] = Field(
        default={"none": {}}, min_length=1, description="names, each with what is not its default"
    )
    weighted: tuple[str, ...] | None = Field(
        default=None, description="methods that every weighting is tried on, the others run without; by default all"
    )
    metrics: tuple[str, ...] = Field(min_length=1, description="names of what is measured")
    trials: dict[str, int] = Field(default={}, description="how many settings of a method were tried for it, by `tune`")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto: cuda where torch finds a GPU")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="of products and convolutions; auto: bf16 where the hardware has it, else fp32"
    )
    compile: Flag = Field(default=False, description="torch.compile the network")
    ranks: int = Field(default=1, ge=1, le=64, description="GPUs (or processes on the CPU) that share a model's training")
    timeout_s: float | None = Field(default=None, gt=0, description="seconds that one stage may take")
    _notes: tuple[str, ...] = PrivateAttr(())

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of how the configuration came about."""
        return self._notes

    @field_validator("methods", "weightings", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        """A list of names stands for those names with their default settings."""
        if isinstance(value, list) and all(isinstance(name, str) for name in value):
            if (name := twice(value)) is not None:
                raise ValueError(f"'{name}' is given twice")
            value = {name: {} for name in value}
        if isinstance(value, dict):
            value = {name: {} if settings is None else settings for name, settings in value.items()}
        return value

    @model_validator(mode="after")
    def _unique_seeds(self) -> SweepConfig:
        if self.compile and self.ranks > 1:
            raise ValueError("a compiled network cannot be shared among ranks: leave compile out, or set ranks to 1")
        if len(set(map(str, self.seeds))) < len(self.seeds):
            raise ValueError("seeds must differ from one another")
        for section in ("trials", "weighted"):
            if other := set(getattr(self, section) or ()) - self.methods.keys():
                raise ValueError(f"{section} names {min(other)}, which is no method of this sweep")
        return self


def load(source: str | Path | dict[str, Any], overrides: Sequence[str] = ()) -> SweepConfig:
    """The checked configuration of a preset's name, a YAML file or a dict, after `overrides` ("key.sub=value")."""
    values = as_now(source, "config") if isinstance(source, dict) else as_now(read_yaml(find(source)), str(source))
    notes: list[str] = []
    for override in overrides:
        values = _set(values, override, notes)
    if "seeds" in values:
        values = values | {"seeds": _each_role(values["seeds"])}
    config: SweepConfig = check(track(values.get("track", "classification"))[0], values, "config")
    config._notes = tuple(notes)
    return config


def _each_role(seeds: Any) -> Any:
    """`seeds: 3` stands for 0, 1, 2, "5-9" for five of them, and one number for the same seed in every role; {count: 32,
    split: 0} for 32 of them with one split."""
    if isinstance(seeds, dict):
        return _counted(seeds)
    if type(seeds) is int and seeds > MANY_SEEDS:
        raise UserError(
            f"config.seeds: {seeds} would be {seeds} seeds; write [{seeds}] for the one, or '0-{seeds - 1}' for all of them"
        )
    if type(seeds) is int:
        seeds = list(range(seeds))
    if isinstance(seeds, str) and (found := re.fullmatch(r"(\d{1,9})-(\d{1,9})", seeds.strip())):
        first, last = int(found[1]), int(found[2])
        if not first <= last < first + MOST_SEEDS:
            raise UserError(f"config.seeds: '{seeds}' is no range from a seed to a later one ({MOST_SEEDS} at most)")
        seeds = list(range(first, last + 1))
    if not isinstance(seeds, list):
        return seeds
    return [{"split": s, "train": s, "unlearn": s, "eval": s} if type(s) is int else s for s in seeds]


def _counted(seeds: dict[str, Any]) -> list[dict[str, Any]]:
    """`count` seeds, 0, 1, … in every role that has no seed of its own here."""
    count, roles = seeds.get("count"), Seeds.model_fields
    if type(count) is not int or not 1 <= count <= MOST_SEEDS:
        raise UserError(f"config.seeds: expected {{count: N, …}} with N from 1 to {MOST_SEEDS}, got count {count!r}")
    fixed = {role: seed for role, seed in seeds.items() if role != "count"}
    if other := {str(role) for role in fixed.keys() - roles.keys()}:
        raise UserError(f"config.seeds: unknown key '{min(other)}'; {did_you_mean(min(other), ['count', *roles])}")
    return [dict.fromkeys(roles, seed) | fixed for seed in range(count)]


def presets() -> dict[str, Path]:
    """The presets that the package ships, by name."""
    return {path.stem: path for path in sorted(PRESETS.glob("*.yaml"))}


def find(source: str | Path) -> Path:
    """The YAML file of a preset's name or a path."""
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UserError(f"configuration file {path} not found")
        return path
    if str(source) not in presets():
        raise UserError(f"unknown preset '{source}'; {did_you_mean(str(source), presets())} (or give a FILE.yaml)")
    return presets()[str(source)]


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; duplicate keys, aliases and anything but plain values are errors."""
    values = plain_yaml.parsed(reading.text(path, "configuration", MAX_BYTES), str(path))
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a mapping of keys to values, found {type(values).__name__}")
    return values


def dump(config: SweepConfig) -> str:
    """The resolved configuration as YAML, which `load` reads back to an equal one."""
    return plain_yaml.dumped(as_values(config))


def as_values(config: SweepConfig) -> dict[str, Any]:
    """The resolved configuration as plain values, which `load` reads back to an equal one."""
    values = config.model_dump(mode="json")
    unsaid = {"trials", "ranks"}  # as sweeps that were never tuned, and ran on one GPU, have always been written
    if config.precision == "auto":  # what says all of these and auto is an earlier version's run folder
        unsaid |= OF_A_RUN
    for name in unsaid:
        if getattr(config, name) == type(config).model_fields[name].default:
            del values[name]
    return values


def check(model: type[Any], values: dict[str, Any], where: str) -> Any:
    """`values` as a `model`; UserError in one line naming the first wrong key, with a suggestion if it is unknown."""
    try:
        return model.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        raise UserError(_first_problem(error, model, where)) from error
    except (TypeError, ValueError, RecursionError) as error:  # json's, of what it has no words for
        raise UserError(f"{where}: a key or value is not plain, or too large or deep: {error}") from error


def settings(entry: Entry, values: dict[str, Any], where: str, beside: Iterable[str] = ()) -> Any:
    """The item of `entry` (a dataclass) with the given settings, types and finiteness checked.

    beside: keys that may stand beside the settings, to be suggested for one that is mistyped.
    """
    fields = {f.name: f for f in dataclasses.fields(entry.item) if f.init}
    for key, value in values.items():
        if key not in fields:
            raise UserError(f"{where}: unknown setting '{key}'; {did_you_mean(key, [*fields, *beside])}")
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{where}.{key}: {value} is not finite")
    try:
        hints = _hints(entry.item)
    except NameError as error:
        raise UserError(f"{where}: {error}; the types of settings must be importable when the file runs") from error
    checked = {key: _setting(hints[key], value, f"{where}.{key}") for key, value in values.items()}
    for key, field in fields.items():
        if key not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise UserError(f"{where}: '{key}' must be given")
    try:
        with blamed(entry.file, where):
            made = entry.item(**checked)
    except UserError as error:
        raise UserError(str(error) if str(error).startswith(where) else f"{where}: {error}") from error
    for key in fields:
        _setting(hints[key], getattr(made, key), f"{where}.{key}")
    return made


@lru_cache(maxsize=1024)
def _hints(item: type) -> dict[str, Any]:
    return typing.get_type_hints(item, include_extras=True)


@lru_cache(maxsize=1024)
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint)


def _setting(hint: Any, value: Any, where: str) -> Any:
    """`value` checked as strictly as in JSON: true is no number, and "1" is none either."""
    value = _flag(value) if hint is bool else value
    try:
        found = _adapter(hint).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UserError(f"{where}: {message}, got {value!r}") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{where}: {value!r} is no plain value; settings are numbers, texts, lists") from error
    if isinstance(found, float) and not math.isfinite(found):
        raise UserError(f"{where}: {found} is not finite")
    return found


def _set(values: dict[str, Any], override: str, notes: list[str]) -> dict[str, Any]:
    """`values` with one `a.b=c` applied; the value is read as YAML, so that numbers and lists work. `a.+b=c` adds b."""
    path, equals, text = override.partition("=")
    if not equals or not path.strip() or path.count(".") > plain_yaml.DEEPEST:
        raise UserError(f"--set {override!r}: expected key=value, such as train.epochs=5")
    value = plain_yaml.parsed(text, f"--set {override!r}") if text.strip() else ""
    return _put(values, path.strip().split("."), value, f"--set {override!r}", notes)


def _put(values: dict[str, Any], keys: list[str], value: Any, where: str, notes: list[str]) -> dict[str, Any]:
    """`values` with `value` at the path `keys`; `notes` gets what it took the place of."""
    head, rest = keys[0], keys[1:]
    if not rest:
        name = head.removeprefix("+")
        if name != head and name in values:
            raise UserError(f"{where}: '{name}' is there already; leave the + out to change it")
        notes += _replaced(name, values.get(name), value)
        return {**values, name: value}
    inner = values.get(head)
    if isinstance(inner, list) and all(isinstance(name, str) for name in inner):
        inner = {name: {} for name in inner}
    if not isinstance(inner, dict):
        if head in values and inner is not None:
            raise UserError(f"{where}: '{head}' is not a section")
        inner = {}
    return {**values, head: _put(inner, rest, value, where, notes)}


def _replaced(name: str, old: Any, new: Any) -> list[str]:
    """What is lost when a section of settings takes the place of another."""
    if not isinstance(old, dict) or not isinstance(new, (dict, list)):
        return []
    lost = {key: values for key, values in old.items() if isinstance(values, dict) and values}
    told = [f"{key} ({', '.join(f'{k} {v}' for k, v in values.items())})" for key, values in lost.items()]
    if not told:
        return []
    return [
        f"--set {name}=… took the place of {', '.join(told)}; to change one setting: "
        f"{name}.{next(iter(lost))}.KEY=VALUE, to add a row: {name}.+NAME={{}}"
    ]


def _first_problem(error: ValidationError, model: type[BaseModel], where: str) -> str:
    problem = error.errors()[0]
    path = [str(part) for part in problem["loc"]]
    name = ".".join([where, *path])
    if problem["type"] == "extra_forbidden":
        known = _known_keys(model, path[:-1])
        return f"{'.'.join([where, *path[:-1]])}: unknown key '{path[-1]}'; {did_you_mean(path[-1], known)}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{name}: {message}" + ("" if problem["type"] in ("missing", "value_error") else f", got {problem['input']!r}")


def _known_keys(model: Any, path: Sequence[str]) -> list[str]:
    """The keys allowed at `path` inside `model`, looking through containers and unions."""
    for part in path:
        if isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields:
            model = model.model_fields[part].annotation
        while not isinstance(model, type) or typing.get_args(model):
            args = [a for a in typing.get_args(model) if isinstance(a, type) and issubclass(a, BaseModel)]
            if not args:
                break
            model = args[0]
    return list(getattr(model, "model_fields", {}))
