"""From artifacts to the records of a run folder: each cell's as soon as its outcome is known."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from loreun_bench.errors import UserError
from loreun_bench.harness import environment, records
from loreun_bench.harness.plan import Cell, Plan
from loreun_bench.harness.records import Record
from loreun_bench.harness.store import Artifact
from loreun_bench.harness.work import Outcome
from loreun_bench.versions import Newer

SYNC_EVERY = 1.0  # seconds between two times that rows are forced to disk; one that is lost is made again from the store


class Results:
    """The records of a plan: those that the run folder has, and those that are made of what its stages left."""

    def __init__(self, plan: Plan, out: Path) -> None:
        self.plan, self.journal = plan, out / "records.jsonl"
        self.damaged = 0  # lines of the journal that were set aside
        self.old = {r.cell: r for r in self._load()} if self.journal.is_file() else {}
        self._synced = -SYNC_EVERY
        self._found: dict[tuple[Any, ...], Record] = {}

    def _load(self) -> list[Record]:
        try:
            return records.load_records(self.journal)
        except Newer:
            raise
        except UserError:
            self.damaged = records.set_aside(self.journal)
            return records.load_records(self.journal)

    def other_conditions(self) -> list[str]:
        """What was otherwise when the run folder had its rows: of one configuration, what the user's own files hold."""
        pairs = [(cell.record, self.old.get(cell.record.cell)) for cell in self.plan.cells]
        both = [(new.conditions, old.conditions) for new, old in pairs if old is not None and old.conditions]
        return sorted({name for new, old in both for name in new.keys() | old.keys() if new.get(name) != old.get(name)})

    def write(self, record: Record) -> Record:
        """Keep a cell's record, and append it to the journal if it is not what that says. Returns it as it is kept."""
        try:
            line = records.encode(record)
        except ValueError as error:  # too large, or a value that no table could hold
            record = replace(record, status="failed", reason=str(error), metrics={}, counts={}, uninformative=[])
            line = records.encode(record)
        self._found[record.cell] = record
        if self.old.get(record.cell) != record:
            lasting = time.monotonic() - self._synced >= SYNC_EVERY
            records.append_lines(self.journal, [line], lasting)
            self._synced = time.monotonic() if lasting else self._synced
            self.old[record.cell] = record
        return record

    def all(self) -> list[Record]:
        """Every cell's record, in the plan's order; all of them are on the disk."""
        if self._found:
            records.append_lines(self.journal, [])
        return [self._found[cell.record.cell] for cell in self.plan.cells]

    def clean_traces(self) -> None:
        """Remove the tracebacks that no row of the run folder names: of earlier runs."""
        folder = self.journal.parent
        if self.journal.is_file() and (found := set((folder / "errors").glob("*.txt"))):
            for path in found - {folder / record.trace for record in records.load_records(folder)}:
                path.unlink(missing_ok=True)


def failed(cell: Cell, outcome: Outcome, trace: str) -> Record:
    """The record of a cell of which a stage ended so; trace: the file with what that raised."""
    about = {"loreun_bench": environment.package_version()}
    return replace(cell.record, status=outcome.status, reason=outcome.reason, trace=trace, environment=about)


def measured(cell: Cell, evaluation: Artifact, model: Artifact | None) -> Record:
    """The record of a cell whose stages are done. Raises Corrupt if an artifact is damaged or gone."""
    values = evaluation.values()
    about = {} if model is None else _of_model(model, values)
    return replace(
        cell.record,
        **{"environment": evaluation.manifest["environment"]} | about,
        metrics=values["metrics"],
        counts=values.get("counts", {}),
        uninformative=values.get("uninformative", []),
        null=values.get("null", {}),
        ci95=values.get("ci95", {}),
        models=values.get("models", 0),
        evaluation=evaluation.key,
    )


def _of_model(model: Artifact, values: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says of its model."""
    return {
        "cost": model.manifest["cost"],
        "backend": model.manifest["backend"],
        "environment": model.manifest["environment"] | values.get("environment", {}),
        "weights": model.values().get("weights", {}),
        "artifact": model.key,
    }
