"""The sweep's configuration: a preset or a YAML file, changed by `--set key=value`, checked before anything runs."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from loreun_bench.errors import UserError, did_you_mean
from loreun_bench.registry import Entry, blamed, track

PRESETS = Path(__file__).parent / "presets"
MAX_BYTES = 1_000_000  # a configuration is a page, not a data set


class Strict(BaseModel):
    """A section of the configuration: unknown keys, NaN and infinity are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Seeds(Strict):
    """Who draws what: the split, the training of original and retrained model, the unlearning, the evaluation."""

    split: int = Field(ge=0)
    train: int = Field(ge=0)
    unlearn: int = Field(ge=0)
    eval: int = Field(default=0, ge=0)


class SweepConfig(Strict):
    """What every track has: which methods × weightings × seeds, and how to run them. A track adds its own sections."""

    track: str = "classification"
    name: str = Field(default="sweep", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    protocol: Literal["corrected", "paper"] = "corrected"
    seeds: tuple[Seeds, ...] = Field(min_length=1)
    methods: dict[str, dict[str, Any]] = Field(min_length=1)
    weightings: dict[str, dict[str, Any]] = Field(default={"none": {}}, min_length=1)
    metrics: tuple[str, ...] = Field(min_length=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    timeout_s: float | None = Field(default=None, gt=0)

    @field_validator("methods", "weightings", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        """A list of names stands for those names with their default settings."""
        if isinstance(value, list) and all(isinstance(name, str) for name in value):
            value = {name: {} for name in value}
        if isinstance(value, dict):
            value = {name: {} if settings is None else settings for name, settings in value.items()}
        return value

    @model_validator(mode="after")
    def _unique_seeds(self) -> SweepConfig:
        if len(set(map(str, self.seeds))) < len(self.seeds):
            raise ValueError("seeds must differ from one another")
        return self


def load(source: str | Path | dict[str, Any], overrides: Sequence[str] = ()) -> SweepConfig:
    """The checked configuration of a preset's name, a YAML file or a dict, after `overrides` ("key.sub=value")."""
    values = dict(source) if isinstance(source, dict) else read_yaml(find(source))
    for override in overrides:
        values = _set(values, override)
    values = values | {"seeds": _each_role(values.get("seeds"))}
    config: SweepConfig = check(track(values.get("track", "classification"))[0], values, "config")
    return config


def _each_role(seeds: Any) -> Any:
    """`seeds: 3` stands for 0, 1, 2, and one number for the same seed in every role."""
    if type(seeds) is int and seeds <= 10_000:
        seeds = list(range(seeds))
    if not isinstance(seeds, list):
        return seeds
    return [{"split": s, "train": s, "unlearn": s, "eval": s} if type(s) is int else s for s in seeds]


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
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path} is larger than {MAX_BYTES} bytes: not a configuration")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a mapping of keys to values, found {type(values).__name__}")
    return values


def dump(config: SweepConfig) -> str:
    """The resolved configuration as YAML, which `load` reads back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def check(model: type[Any], values: dict[str, Any], where: str) -> Any:
    """`values` as a `model`; UserError in one line naming the first wrong key, with a suggestion if it is unknown."""
    try:
        return model.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        raise UserError(_first_problem(error, model, where)) from error


def settings(entry: Entry, values: dict[str, Any], where: str) -> Any:
    """The item of `entry` (a dataclass) with the given settings, types and finiteness checked."""
    fields = {f.name: f for f in dataclasses.fields(entry.item) if f.init}
    for key, value in values.items():
        if key not in fields:
            raise UserError(f"{where}: unknown setting '{key}'; {did_you_mean(key, fields)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{where}.{key}: {value} is not finite")
    try:
        hints = typing.get_type_hints(entry.item, include_extras=True)
    except NameError as error:
        raise UserError(f"{where}: {error}; the types of settings must be importable when the file runs") from error
    checked = {key: _setting(hints[key], value, f"{where}.{key}") for key, value in values.items()}
    with blamed(entry.file, where):
        made = entry.item(**checked)
    for key in fields:
        _setting(hints[key], getattr(made, key), f"{where}.{key}")
    return made


def _setting(hint: Any, value: Any, where: str) -> Any:
    """`value` checked as strictly as in JSON: true is no number, and "1" is none either."""
    try:
        found = TypeAdapter(hint).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise UserError(f"{where}: {error.errors()[0]['msg']}, got {value!r}") from error
    except TypeError as error:
        raise UserError(f"{where}: {value!r} is no plain value; settings are numbers, texts, lists") from error
    if isinstance(found, float) and not math.isfinite(found):
        raise UserError(f"{where}: {found} is not finite")
    return found


def _set(values: dict[str, Any], override: str) -> dict[str, Any]:
    """`values` with one `a.b=c` applied; the value is read as YAML, so that numbers and lists work."""
    path, equals, text = override.partition("=")
    if not equals or not path.strip():
        raise UserError(f"--set {override!r}: expected key=value, such as train.epochs=5")
    try:
        value = yaml.load(text, Loader=_Loader) if text.strip() else ""
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"--set {override!r}: {error}") from error
    head, *rest = path.strip().split(".")
    if not rest:
        return {**values, head: value}
    inner = values.get(head)
    if isinstance(inner, list) and all(isinstance(name, str) for name in inner):
        inner = {name: {} for name in inner}
    if not isinstance(inner, dict):
        if head in values and inner is not None:
            raise UserError(f"--set {override!r}: '{head}' is not a section")
        inner = {}
    return {**values, head: _set(inner, ".".join(rest) + "=" + text)}


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


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses duplicate keys and aliases, and reads 1e-3 as a number."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not supported in a configuration")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.YAMLError(f"key '{key}' appears twice (line {key_node.start_mark.line + 1})")
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)
