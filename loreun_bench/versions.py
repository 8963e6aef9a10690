"""What other versions of this package wrote: the older is read, the newer says which version reads it."""

from __future__ import annotations

from typing import Any

from loreun_bench.errors import UserError
from loreun_bench.names import clean

CONFIG = 1  # the schema of a configuration
OF_A_RUN = {"device", "precision", "compile", "timeout_s"}  # all of which only the configuration in a run folder says
UNUSED = {"forget_class", "fraction", "name", "forget_prompt", "retain_prompt"}  # once null where a scenario's kind had none


class Newer(UserError):
    """Something has a newer schema than ours. about: what it says of itself, its writer's version perhaps."""

    def __init__(self, where: object, schema: object, ours: int, about: object) -> None:
        writer = about.get("loreun_bench") if isinstance(about, dict) else None
        known = clean(writer)[:40] if isinstance(writer, str) else ""
        install = f"written by loreun_bench {known}: install it or newer" if known else "install the newest"
        super().__init__(f"{where}: schema {schema!r:.40} is newer than this version understands ({ours}); {install}")


def as_now(values: dict[str, Any], where: str) -> dict[str, Any]:
    """A configuration of any version so far in today's words, without what says who wrote it. UserError for a newer one."""
    schema = values.get("schema", CONFIG)
    if type(schema) is not int:
        raise UserError(f"{where}: schema {schema!r:.40} is no whole number")
    if schema > CONFIG:
        raise Newer(where, schema, CONFIG, values)
    values = {key: value for key, value in values.items() if key not in ("schema", "loreun_bench")}
    if isinstance(scenarios := values.get("scenarios"), list):
        values["scenarios"] = [_scenario(each) if isinstance(each, dict) else each for each in scenarios]
    if values.keys() >= OF_A_RUN and values["precision"] == "auto" and values["device"] != "auto":
        values["precision"] = _auto(values["device"])
    return values


def record_as_now(values: dict[str, Any]) -> dict[str, Any]:
    """A record of any version so far in today's words."""
    conditions, made = values.get("conditions"), values.get("environment")
    if not isinstance(conditions, dict) or conditions.get("precision") != "auto":
        return values
    device = made.get("device") if isinstance(made, dict) else None
    return values | {"conditions": conditions | {"precision": _auto(device)}}


def _auto(device: object) -> str:
    """What `precision: auto` was as long as it was written so into results; now they say what it came to."""
    return "bf16" if device == "cuda" else "fp32"


def _scenario(values: dict[str, Any]) -> dict[str, Any]:
    empty = {key for key in UNUSED & values.keys() if values[key] is None}
    if "forget_prompt" in empty:
        empty.add("images")  # which were for a prompt
    return {key: value for key, value in values.items() if key not in empty}
