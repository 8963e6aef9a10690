"""The run folder's truth: one JSON line a finished or failed cell, appended and synced, never rewritten."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, PlainValidator, TypeAdapter, ValidationError

from loreun_bench.errors import UserError
from loreun_bench.harness.files import locked, named, sealed, sync, unsealed, write_atomic
from loreun_bench.reading import LINE, told
from loreun_bench.versions import Newer, record_as_now

SCHEMA = 1
MAX_BYTES = 4096
STATUSES = ("ok", "diverged", "oom", "timeout", "disk_full", "failed")
LARGEST = 1e100  # a number whose square is one, too
KEY = re.compile(r"[\w+-]{0,64}", re.ASCII)  # it names a folder
DEEPEST = 4  # levels of lists and dictionaries in what a record says of its environment or conditions


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected text, found {_kind(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("holds half a character (a lone surrogate)") from None
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or LARGEST < abs(value) < math.inf:
        found = "a larger one" if type(value) in (int, float) else _kind(value)
        raise ValueError(f"expected a number up to {LARGEST:g}, found {found}")
    return value  # type: ignore[no-any-return]


def _whole(value: Any) -> int:
    if type(value) is not int or abs(value) > 2**64:
        raise ValueError(f"expected a whole number, found {_kind(value)}")
    return value


def _kind(value: Any) -> str:
    """What a value is, in few words."""
    return {int: "a number", float: "a fraction", dict: "a dictionary", type(None): "null"}.get(
        type(value), f"a {type(value).__name__}"
    )


def _plain(value: Any, depth: int = 0) -> Any:
    """The value, if it is what a line of JSON may hold and a table can print: text, numbers, and a few levels of both."""
    if isinstance(value, dict | list):
        if depth == DEEPEST:
            raise ValueError(f"is nested deeper than {DEEPEST} levels")
        for part in (*value, *value.values()) if isinstance(value, dict) else value:
            _plain(part, depth + 1)
    elif isinstance(value, str):
        _text(value)
    elif value is not None and not isinstance(value, bool):
        _number(value)
    return value


def _status(value: str) -> str:
    if value not in STATUSES:
        raise ValueError(f"is none of {', '.join(STATUSES)}")
    return value


def _share(value: float) -> float:
    if not 0 <= value < math.inf:
        raise ValueError("is no share of two sizes")
    return value


def _range(value: list[float]) -> list[float]:
    if len(value) != 2 or not value[0] <= value[1]:
        raise ValueError("is no range from a number to a larger one")
    return value


def _pair(value: list[int]) -> list[int]:
    if len(value) != 2 or not 0 <= value[0] <= value[1] or not value[1]:
        raise ValueError("is no pair of hits and of how many")
    return value


def _key(value: str) -> str:
    if not KEY.fullmatch(value):
        raise ValueError("is no key of the store")
    return value


Text = Annotated[str, BeforeValidator(_text)]
Key = Annotated[str, BeforeValidator(_text), AfterValidator(_key)]
Whole = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[float, PlainValidator(_number)]  # a whole one stays one
Plain = Annotated[dict[str, Any], AfterValidator(_plain)]


class TooLarge(ValueError):
    """A record over MAX_BYTES, which a reader of the journal's tail could not cope with."""


@dataclass(frozen=True)
class Record:
    """One cell: what ran, how it ended, what was measured (plain quantities) and what it cost. A cell without seeds is one
    over all of its row's, whose metrics have a `null`: the range in which 95 % of retrainings lie."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # of what is read back from a journal

    track: Text
    dataset: Text
    model: Text
    scenario: Text
    method: Text
    weighting: Text
    seeds: dict[Text, Whole]
    status: Annotated[Text, AfterValidator(_status)] = "ok"
    reason: Text = ""
    metrics: dict[Text, Number] = field(default_factory=dict)
    cost: dict[Text, Number] = field(default_factory=dict)
    protocol: Text = "corrected"
    backend: Text = ""
    artifact: Key = ""  # the model's key in the store
    evaluation: Key = ""  # the evaluation's
    environment: Plain = field(default_factory=dict)
    limits: dict[Text, Whole] = field(default_factory=dict)
    conditions: Plain = field(default_factory=dict)  # of the measuring, without which rows cannot be compared
    counts: dict[Text, Annotated[list[Whole], AfterValidator(_pair)]] = field(default_factory=dict)  # hits, of how many
    uninformative: list[Text] = field(default_factory=list)  # metrics whose values say nothing here
    null: dict[Text, Annotated[list[Number], AfterValidator(_range)]] = field(default_factory=dict)  # of one over seeds
    models: Whole = 0  # of one over seeds: how many there are of each
    ci95: dict[Text, Number] = field(default_factory=dict)  # of one over seeds: half-widths of intervals
    trials: Whole = 0  # settings that were tried for the method before; 0: it has those that it was given
    weights: Plain = field(default_factory=dict)  # by phase, how uneven the weighting was: training/tally.py
    overlap: Annotated[Number, AfterValidator(_share)] = 0  # forgotten over retained, where seeds draw from the same samples
    trace: Text = ""  # of a failed cell: the file in the run folder with what was raised
    schema: Whole = SCHEMA

    @property
    def row(self) -> str:
        """What a user calls its row: the method, and the weighting if it has one, as "RL" and "RL/w_f"."""
        return self.method if self.weighting == "none" else f"{self.method}/{self.weighting}"

    @property
    def cell(self) -> tuple[Any, ...]:
        """What identifies the cell: a later record of the same cell replaces an earlier one."""
        seeds = tuple(sorted(self.seeds.items()))
        return (self.track, self.dataset, self.model, self.scenario, self.protocol, self.method, self.weighting, seeds)


def encode(record: Record) -> bytes:
    """The record's line. Raises TooLarge over MAX_BYTES, ValueError for what could not be read back."""
    reason = record.reason.encode(errors="replace").decode()  # of a file's name, half a character may come with it
    values = vars(record) | {"reason": reason}
    _checked(values)
    line = sealed(values) + b"\n"
    if len(line) > MAX_BYTES:
        raise TooLarge(f"a record of {len(line)} bytes is over the limit of {MAX_BYTES}; choose fewer metrics")
    return line


def append(path: Path, records: Iterable[Record]) -> None:
    """Append to the journal; a line that a crash cut short is dropped first."""
    append_lines(path, [encode(record) for record in records])


def append_lines(path: Path, lines: Iterable[bytes], lasting: bool = True) -> None:
    """Append records that are encoded; lasting: force them to disk now."""
    with named(path), locked(path.with_name(".records.lock")), open(path, "a+b") as file:
        _drop_torn_tail(file)
        file.write(b"".join(lines))
        file.flush()
        if lasting:
            sync(file.fileno())


def load_records(path: str | Path) -> list[Record]:
    """The records of a run folder (or of a .jsonl file), the newest of each cell, in the order of first appearance.

    UserError if there are none, a line other than a torn last one is not a record, or the schema is newer than ours.
    """
    path = Path(path)
    path = path / "records.jsonl" if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"no records in {path}: is it the folder of a sweep?")
    newest: dict[tuple[Any, ...], Record] = {}
    with told(f"{path} cannot be read"), open(path, "rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LINE), b""), 1):
            if len(line) == LINE:
                raise UserError(f"{path}:{number}: not a record (a line of {LINE >> 20} MiB or more)")
            if line.strip() and line.endswith(b"\n"):  # what follows the last newline is torn
                record = _parse(line, f"{path}:{number}")
                newest[record.cell] = record
    return list(newest.values())


def set_aside(path: Path) -> int:
    """Move the lines of a journal that are no records to `damaged.jsonl` beside it; how many. Newer, if one is."""
    with locked(path.with_name(".records.lock")):
        damaged = _damaged(path)
        with open(path.with_name("damaged.jsonl"), "ab") as file:
            file.write(b"".join(damaged.values()))
            sync(file.fileno())
        lines = path.read_bytes().split(b"\n")
        write_atomic(path, b"\n".join(line for number, line in enumerate(lines, 1) if number not in damaged))
    return len(damaged)


def _damaged(path: Path) -> dict[int, bytes]:
    """The lines that are no records, by number; not a torn last one."""
    lines = enumerate(path.read_bytes().split(b"\n")[:-1], 1)
    return {number: line + b"\n" for number, line in lines if line.strip() and not _sound(line, f"{path}:{number}")}


def _sound(line: bytes, where: str) -> bool:
    try:
        _parse(line, where)
    except Newer:
        raise
    except UserError:
        return False
    return True


def _parse(line: bytes, where: str) -> Record:
    """The record of a line: checked once, here, so that nothing that reads records has to. UserError names the field."""
    remedy = "its sweep, run again, sets the line aside and makes the row anew"
    try:
        values = unsealed(line.rstrip())
        if values["schema"] > SCHEMA:
            raise Newer(where, values["schema"], SCHEMA, values.get("environment"))
        return _checked(record_as_now(values))
    except RecursionError:
        raise UserError(f"{where}: not a record (it is nested too deep); {remedy}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{where}: not a record ({error}); {remedy}") from error


def _checked(values: Any) -> Record:
    """The record of a dictionary of its fields. ValueError names the first field that is not what tables rely on."""
    try:
        return _shape().validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(map(str, first["loc"])).encode("unicode_escape").decode()[:200]
        raise ValueError(f"{name}: {first['msg'].removeprefix('Value error, ')}") from error


@cache
def _shape() -> TypeAdapter[Record]:
    return TypeAdapter(Record)


def _drop_torn_tail(file: Any) -> None:
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - 1))
    if file.read() in (b"", b"\n"):
        return
    start = file.seek(max(0, end - 2 * MAX_BYTES))
    file.truncate(start + file.read().rfind(b"\n") + 1)
