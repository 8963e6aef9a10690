"""Equal care for all methods: the same number of settings tried for each, on validation, with seeds of their own."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from loreun_bench import config as configuration
from loreun_bench.config import SweepConfig
from loreun_bench.errors import UserError
from loreun_bench.harness.records import Record
from loreun_bench.harness.rows import method_of
from loreun_bench.registry import registry

KEPT = "Retrain"  # what others are compared with is not tuned
SCORED = "ua"  # the metric that pictures are scored by
Settings = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """Settings tried for a method, and how well they did: the mean over scenarios and seeds, NaN if one failed."""

    method: str
    settings: Settings
    score: float


def spread(space: Mapping[str, tuple[float, float]], trials: int) -> list[Settings]:
    """So many points of a space of positive settings, each from its least to its greatest value, evenly in the logarithm
    (Halton's sequence; one setting alone is divided evenly). The same for whoever asks, and rounded to three digits."""
    from scipy.stats import qmc

    if len(space) == 1:
        places = [[(k + 0.5) / trials] for k in range(trials)]
    else:
        places = qmc.Halton(len(space), scramble=False).random(trials + 1)[1:].tolist()  # its first point is the corner
    return [
        {
            name: float(f"{low * (high / low) ** at:.3g}")
            for (name, (low, high)), at in zip(space.items(), place, strict=True)
        }
        for place in places
    ]


def trials_of(config: SweepConfig, trials: int) -> dict[str, tuple[str, Settings]]:
    """By row: the method tuned and the settings tried; of every method of the sweep that says what can be tuned (`space`).
    The first are the sweep's own. UserError if there is none."""
    found: dict[str, tuple[str, Settings]] = {}
    for name, values in config.methods.items():
        entry = method_of(name, config.track)
        space = getattr(entry.item, "space", {})
        if name == KEPT or not space:
            continue
        own = [dict(values), *(values | point for point in spread(space, trials - 1))] if trials > 1 else [dict(values)]
        found |= {f"{name}:t{number}": (name, settings) for number, settings in enumerate(own)}
    if not found:
        raise UserError("tune: no method of this sweep says what can be tuned")
    return found


def search(config: SweepConfig, rows: Mapping[str, tuple[str, Settings]], seeds: str) -> SweepConfig:
    """The sweep of all trials, unweighted, with seeds of its own. UserError if these are the sweep's, or if it could not be
    scored."""
    values = config.model_dump(mode="json")
    own = [int(seeds)] if seeds.isdigit() else seeds
    values |= {"name": f"{config.name[:50]}-tune", "weightings": {"none": {}}, "weighted": None, "seeds": own, "trials": {}}
    values["methods"] = {KEPT: config.methods.get(KEPT, {})} if KEPT in config.methods else {}
    values["methods"] |= {row: settings for row, (_, settings) in rows.items()}
    for scenario in values["scenarios"]:
        own_of = scenario["methods"]
        scenario["methods"] = {name: settings for name, settings in own_of.items() if name == KEPT} | {
            row: own_of[name] if settings == config.methods[name] else _untuned(config, name, own_of[name])
            for row, (name, settings) in rows.items()
            if name in own_of
        }
    if config.track == "classification":
        values |= {"metrics": ["accuracy"], "noise_floor": False}
        if KEPT not in config.methods or not values["validation"]:
            raise UserError("tune: it compares with Retrain on validation pictures: the sweep needs both (`validation`)")
    elif SCORED not in values["metrics"]:
        values["metrics"] = [*values["metrics"], SCORED]
    found = configuration.load(values)
    used = {part for each in config.seeds for part in (each.split, each.train, each.unlearn)}
    if both := used & {part for each in found.seeds for part in (each.split, each.train, each.unlearn)}:
        raise UserError(f"tune: seed {min(both)} is one of the sweep's; give others with --seeds")
    return found


def _untuned(config: SweepConfig, name: str, settings: Settings) -> Settings:
    """A scenario's own settings of a method, without those that are tuned."""
    space = method_of(name, config.track).item.space
    return {key: value for key, value in settings.items() if key not in space}


def scored(records: Sequence[Record], rows: Mapping[str, tuple[str, Settings]]) -> list[Trial]:
    """Every trial with its score."""
    found = []
    for row, (method, settings) in rows.items():
        own = [record for record in records if record.method == row]
        scores = [_score(record, records) for record in own]
        found.append(Trial(method, settings, sum(scores) / len(scores) if scores else math.nan))
    return found


def best(trials: Sequence[Trial]) -> dict[str, Trial]:
    """By method the trial with the highest score, the earlier of equals; none where every trial failed."""
    found: dict[str, Trial] = {}
    for trial in trials:
        if not math.isnan(trial.score) and (trial.method not in found or trial.score > found[trial.method].score):
            found[trial.method] = trial
    return found


def written(config: SweepConfig, chosen: Mapping[str, Trial], trials: int, seeds: str) -> str:
    """The sweep with the chosen settings as YAML, which says how they were found."""
    methods = {name: chosen[name].settings if name in chosen else dict(own) for name, own in config.methods.items()}
    other = {name for name, trial in chosen.items() if trial.settings != config.methods[name]}
    scenarios = tuple(
        each.model_copy(
            update={"methods": {n: _untuned(config, n, own) if n in other else own for n, own in each.methods.items()}}
        )
        for each in cast(Any, config).scenarios  # of either track
    )
    tuned = config.model_copy(
        update={"methods": methods, "scenarios": scenarios, "trials": dict.fromkeys(chosen, trials)}
    )
    head = (
        f"{config.name}, tuned: of {trials} settings of each of {', '.join(chosen)} the best on validation, unweighted, "
        f"in all scenarios together, on seeds {seeds}. Weightings have their method's settings."
    )
    return textwrap.fill(head, 118, initial_indent="# ", subsequent_indent="# ") + "\n" + configuration.dump(tuned)


def _score(record: Record, records: Sequence[Record]) -> float:
    """Classification: ToW with validation in the place of the test set, 1 is Retrain. Generation: H, of 100."""
    own = record.metrics
    if record.status != "ok":
        return math.nan
    if record.track == "generation":
        return float(registry("metrics", "generation").get("h").item(own, {}))
    retrain = next(
        (r.metrics for r in records if r.method == KEPT and r.scenario == record.scenario and r.seeds == record.seeds), None
    )
    if retrain is None or "val_acc" not in retrain:  # it failed
        return math.nan
    on_validation = ({**values, "test_acc": values["val_acc"]} for values in (own, retrain))
    return float(registry("metrics").get("tow").item(*on_validation))
