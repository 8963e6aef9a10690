"""Metrics over seeds: a cell a row beside those of its seeds, with what retraining alone would have shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loreun_bench.classification.config import ClassificationConfig
from loreun_bench.errors import UserError
from loreun_bench.harness.plan import Cell
from loreun_bench.harness.stage import Output, Stage
from loreun_bench.harness.store import Artifact
from loreun_bench.registry import Entry, registry

if TYPE_CHECKING:
    from torch import Tensor

HERE = Path(__file__).parent
CODE = (
    HERE / "over_seeds.py", HERE / "scoring" / "ensembles.py", HERE / "metrics" / "mia.py",
    HERE.parent / "harness" / "measuring.py", HERE.parent / "harness" / "seeding.py",
)  # fmt: skip
OWN, RETRAINED, AGAIN = "row", "Retrain", "Retrain-2"
Row = tuple[str, str, str]  # scenario, method, weighting


def parted(names: Sequence[str]) -> tuple[list[Entry], list[Entry]]:
    """The metrics of single models, and those over seeds."""
    entries = [registry("metrics").get(name) for name in names]
    return [e for e in entries if "seeds" not in e.info["needs"]], [e for e in entries if "seeds" in e.info["needs"]]


def cells(config: ClassificationConfig, single: Sequence[Cell]) -> list[Cell]:
    """A cell of the sweep's metrics over seeds for each row but Retrain, given the cells of all its seeds. UserError if the
    sweep cannot serve them."""
    entries = parted(config.metrics)[1]
    if not entries:
        return []
    rows: dict[Row, list[Cell]] = {}
    drawn: dict[str, set[str]] = {}
    for cell in single:
        rows.setdefault((cell.record.scenario, cell.record.method, cell.record.weighting), []).append(cell)
        drawn.setdefault(cell.record.scenario, set()).add(cell.evaluation.inputs["split"].recipe)
    _check(config, entries, drawn)
    nulls: dict[str, Stage] = {}
    found = []
    for (scenario, method, weighting), own in rows.items():
        if method == RETRAINED:
            continue
        retrained, again = (_stages(rows[scenario, name, "none"], name) for name in (RETRAINED, AGAIN))
        if scenario not in nulls:
            nulls[scenario] = _stage(config, entries, "null", retrained | again, f"{scenario} retrained twice")
        label = f"{scenario} over seeds {method} {weighting}".removesuffix(" none")
        inputs = _stages(own, OWN) | retrained | {"null": nulls[scenario]}
        record = replace(own[0].record, seeds={}, overlap=0)
        found.append(Cell(record, None, _stage(config, entries, "compare", inputs, label)))
    return found


def _check(config: ClassificationConfig, entries: Sequence[Entry], drawn: Mapping[str, set[str]]) -> None:
    """UserError in one line for what a metric over seeds cannot do without. drawn: the splits of each scenario."""
    names, most = " and ".join(entry.name for entry in entries), max(entries, key=lambda entry: int(entry.info["seeds"]))
    least, seeds = most.info["seeds"], len(config.seeds)
    if seeds < least:
        raise UserError(f"metrics: {most.name} compares models of {least} seeds or more, and there are {seeds}: set seeds="
                        f"{{count: {least}, split: 0}}, or leave it out")  # fmt: skip
    if len({each.split for each in config.seeds}) > 1:
        raise UserError(f"metrics: {names} look at the same samples in the models of all seeds, and each seed draws others: "
                        f"set seeds={{count: {seeds}, split: 0}}")  # fmt: skip
    for scenario, splits in drawn.items():
        if len(splits) > 1:
            raise UserError(f"metrics: {names} look at the same samples in the models of all seeds, and in {scenario} each "
                            "seed's original decides on others: leave either out")  # fmt: skip
    if len({each.train for each in config.seeds}) < seeds:
        raise UserError(f"metrics: {names} compare with {seeds} retrained models, and some seeds share theirs: let `train` "
                        "differ in all")  # fmt: skip
    if RETRAINED not in config.methods:
        raise UserError(f"metrics: {names} compare with Retrain, and no row is called so: add it to methods")
    if not config.noise_floor:
        raise UserError(f"metrics: {names} are held against Retrain beside Retrain-2, which noise_floor: false leaves out")


def _stages(row: Sequence[Cell], name: str) -> dict[str, Stage]:
    return {f"{name} {number}": cell.evaluation for number, cell in enumerate(row)}


def _stage(
    config: ClassificationConfig, entries: Sequence[Entry], run: str, inputs: Mapping[str, Stage], label: str
) -> Stage:
    given = {"metrics": [entry.name for entry in entries], "seed": config.seeds[0].eval, "device": config.device}
    sources = (*CODE, *(entry.file for entry in entries))
    return Stage(f"{__name__}:{run}", given, inputs, sources, label, 0, config.timeout_s)


def null(config: Mapping[str, Any], inputs: Mapping[str, Artifact], device: str) -> Output:
    """The range of each column if models are retrained ones, too."""
    from loreun_bench.classification.scoring import ensembles

    retrained, again = (_margins(inputs, name, device) for name in (RETRAINED, AGAIN))
    return Output(values=ensembles.null(config["metrics"], retrained, again, config["seed"]))


def compare(config: Mapping[str, Any], inputs: Mapping[str, Artifact], device: str) -> Output:
    """The metrics of a row's models beside the retrained ones, and what retraining alone would have shown."""
    from loreun_bench.classification.scoring.ensembles import Ensembles, ci95
    from loreun_bench.harness.measuring import measured

    outputs = Ensembles(*(_margins(inputs, name, device) for name in (OWN, RETRAINED)))
    found = measured(config["metrics"], "classification", outputs).record()
    more = {"null": inputs["null"].values(), "ci95": ci95(config["metrics"], outputs), "models": outputs.seeds}
    return Output(values=found | more)


def _margins(inputs: Mapping[str, Artifact], name: str, device: str) -> dict[str, Tensor]:
    """The margins of a row's models by set [seeds, n]."""
    import torch

    each = [inputs[key].tensors() for key in inputs if key.rpartition(" ")[0] == name]
    return {key: torch.stack([own[key] for own in each]).to(device) for key in each[0]}
