"""What a run folder and the store have of a sweep that was run: its configuration, its cells, their artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from loreun_bench import config as configuration
from loreun_bench.config import SweepConfig
from loreun_bench.errors import UserError, did_you_mean
from loreun_bench.harness.records import Record, load_records
from loreun_bench.harness.store import Artifact, Store, default_root
from loreun_bench.plugins import load_plugin


def opened(run: Path, plugins: Sequence[Path]) -> tuple[SweepConfig, list[Record]]:
    """The configuration and the records of a run folder, once the plug-ins that it needs are loaded."""
    for path in plugins:
        load_plugin(path)
    return config_of(run), load_records(run)


def config_of(run: Path) -> SweepConfig:
    """The configuration of a run folder. UserError if there is none."""
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run} holds no config.yaml: is it the folder of a sweep?")
    return configuration.load(run / "config.yaml")


def cell(records: Sequence[Record], row: str, seed: int | None, scenario: str | None) -> Record:
    """The finished record of a row, as "RL" or "RL/w_f". seed: of the unlearning, by default the first; scenario: by default
    the only one. UserError if there is none, or it failed."""
    by_row: dict[str, list[Record]] = {}
    for record in of_scenario([record for record in records if record.seeds], scenario):
        by_row.setdefault(record.row, []).append(record)
    found = by_row.get(row.removesuffix("/none"))
    if found is None:
        raise UserError(f"--row: there is no '{row}'; {did_you_mean(row, by_row)}")
    seeds = [record.seeds.get("unlearn") for record in found]
    if seed is not None and seed not in seeds:
        raise UserError(f"--seed {seed}: {row} has the seeds {', '.join(map(str, seeds))}")
    one = found[0] if seed is None else found[seeds.index(seed)]
    if one.status != "ok":
        raise UserError(f"{row}, seed {one.seeds.get('unlearn')}, did not finish ({one.status}: {one.reason})")
    return one


def of_scenario(records: Sequence[Record], scenario: str | None) -> list[Record]:
    """Those of a scenario, by default the only one. UserError if there is none of that label, or there are several."""
    labels = list(dict.fromkeys(record.scenario for record in records))
    if scenario is None and len(labels) > 1:
        raise UserError(f"--scenario: the sweep has {len(labels)}: {', '.join(labels)}")
    if scenario is not None and scenario not in labels:
        raise UserError(f"--scenario: there is no '{scenario}'; {did_you_mean(scenario, labels)}")
    return [record for record in records if scenario in (None, record.scenario)]


def model_of(record: Record) -> Artifact:
    """A record's model, its bytes checked. UserError if the store has not got it."""
    artifact = Store(default_root()).verified(record.artifact) if record.artifact else None
    if artifact is None:
        raise UserError(f"the store {default_root()} has not got this row's model: run the sweep again, which makes it anew")
    return artifact
