"""The run folder's truth: one JSON line a finished or failed cell, appended and synced, never rewritten."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from loreun_bench.errors import UserError
from loreun_bench.harness.files import locked, sync

SCHEMA = 1
MAX_BYTES = 4096
STATUSES = ("ok", "diverged", "oom", "timeout", "disk_full", "failed")


class TooLarge(ValueError):
    """A record over MAX_BYTES, which a reader of the journal's tail could not cope with."""


@dataclass(frozen=True)
class Record:
    """One cell: what ran, how it ended, what was measured (plain quantities) and what it cost."""

    track: str
    dataset: str
    model: str
    scenario: str
    method: str
    weighting: str
    seeds: dict[str, int]
    status: str = "ok"
    reason: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    protocol: str = "corrected"
    backend: str = ""
    artifact: str = ""  # the model's key in the store
    evaluation: str = ""  # the evaluation's
    environment: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    conditions: dict[str, Any] = field(default_factory=dict)  # of the measuring, without which rows cannot be compared
    counts: dict[str, list[int]] = field(default_factory=dict)  # of metrics that are shares: hits, and of how many
    trace: str = ""  # of a failed cell: the file in the run folder with what was raised
    schema: int = SCHEMA

    @property
    def cell(self) -> tuple[Any, ...]:
        """What identifies the cell: a later record of the same cell replaces an earlier one."""
        seeds = tuple(sorted(self.seeds.items()))
        return (self.track, self.dataset, self.model, self.scenario, self.protocol, self.method, self.weighting, seeds)


def encode(record: Record) -> bytes:
    """The record's line. Raises TooLarge over MAX_BYTES."""
    line = (json.dumps(asdict(record), sort_keys=True) + "\n").encode()
    if len(line) > MAX_BYTES:
        raise TooLarge(f"a record of {len(line)} bytes is over the limit of {MAX_BYTES}; choose fewer metrics")
    return line


def append(path: Path, records: Iterable[Record]) -> None:
    """Append to the journal; a line that a crash cut short is dropped first."""
    lines = [encode(record) for record in records]
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(".records.lock")), open(path, "a+b") as file:
        _drop_torn_tail(file)
        file.write(b"".join(lines))
        file.flush()
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
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], 1):  # what follows the last newline is empty, or torn
        if line.strip():
            record = _parse(line, f"{path}:{number}")
            newest[record.cell] = record
    return list(newest.values())


def _parse(line: bytes, where: str) -> Record:
    try:
        values = json.loads(line)
        if values["schema"] > SCHEMA:
            raise UserError(f"{where}: schema {values['schema']} is newer than this version understands ({SCHEMA})")
        return _checked(Record(**values))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{where}: not a record ({error})") from error


def _checked(record: Record) -> Record:
    """The record, if its fields have the types that tables rely on. TypeError or ValueError otherwise."""
    for name in ("seeds", "metrics", "cost", "limits", "environment", "conditions", "counts"):
        values = getattr(record, name)
        if not isinstance(values, dict):
            raise TypeError(f"{name} is {values!r}")
        if name == "counts" and not all(
            isinstance(pair, list) and list(map(type, pair)) == [int, int] for pair in values.values()
        ):
            raise TypeError("counts holds something that is no pair of numbers")
        if name in ("seeds", "metrics", "cost", "limits") and not all(
            type(value) in (int, float) for value in values.values()
        ):
            raise TypeError(f"{name} holds something that is no number")
    hash(record.cell)
    if record.status not in STATUSES:
        raise ValueError(f"status is {record.status!r}")
    return record


def _drop_torn_tail(file: Any) -> None:
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        return
    start = max(0, end - 2 * MAX_BYTES)
    file.seek(start)
    tail = file.read()
    if not tail.endswith(b"\n"):
        file.truncate(start + tail.rfind(b"\n") + 1)
        file.seek(0, os.SEEK_END)
