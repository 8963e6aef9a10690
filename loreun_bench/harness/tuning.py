"""Equal care for all methods: the same number of settings tried for each in every scenario, on validation, with seeds of
their own."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from loreun_bench import config as configuration
from loreun_bench.config import Scenario, SweepConfig
from loreun_bench.errors import UserError
from loreun_bench.harness.plan import build
from loreun_bench.harness.records import Record
from loreun_bench.harness.rows import method_of
from loreun_bench.registry import registry

KEPT = "Retrain"  # what others are compared with is not tuned
SCORED = "ua"  # the metric that pictures are scored by
Settings = dict[str, Any]
Space = Mapping[str, tuple[float, float]]  # by setting, the least and the greatest value
Rows = Mapping[str, tuple[str, Sequence[Settings]]]  # by row: the method tuned, and the settings tried in each scenario


@dataclass(frozen=True)
class Trial:
    """Settings tried for a method in a scenario, and how well they did: the mean over seeds, NaN if one failed."""

    method: str
    settings: Settings
    score: float


def spread(space: Space, trials: int) -> list[Settings]:
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


def trials_of(config: SweepConfig, trials: int) -> Rows:
    """So many trials, the same in every scenario, of each method of the sweep that says what can be tuned (`space`). The
    first are the sweep's own settings. UserError if there is no such method."""
    found: dict[str, tuple[str, Sequence[Settings]]] = {}
    for name, values in config.methods.items():
        space = _space(name, config)
        if name == KEPT or not space:
            continue
        own = [dict(values), *(values | point for point in spread(space, trials - 1))] if trials > 1 else [dict(values)]
        found |= _rows(name, 0, [[settings] * len(_scenarios(config)) for settings in own])
    if not found:
        raise UserError("tune: no method of this sweep says what can be tuned")
    return found


def refined(config: SweepConfig, rows: Rows, chosen: Sequence[Mapping[str, Trial]], more: int) -> Rows:
    """The trials that were made, and so many more of each method, in every scenario around what is best there, up to the
    next ones that were tried. Where all failed these are the sweep's own settings again."""
    found = dict(rows)
    for name in dict.fromkeys(method for method, _ in rows.values()):
        tried = [settings for method, settings in rows.values() if method == name]
        near: list[list[Settings]] = [
            _around(config, at, best[name], [settings[at] for settings in tried], more) if name in best else [{}] * more
            for at, best in enumerate(chosen)
        ]
        settings = [[config.methods[name] | point for point in points] for points in zip(*near, strict=True)]
        found |= _rows(name, len(tried), settings)
    return found


def _around(config: SweepConfig, at: int, best: Trial, tried: Sequence[Settings], more: int) -> list[Settings]:
    place = partial(_place, config, _scenarios(config)[at], best.method)
    return spread(_part(_space(best.method, config), place(best.settings), [place(settings) for settings in tried]), more)


def _part(space: Space, best: Mapping[str, float], tried: Sequence[Mapping[str, float]]) -> Space:
    """The part of a space around what is best: up to the next values that were tried. Where there are none, and where
    several settings are tuned, so that no two trials differ in one alone: as far as trials are apart, within the space."""
    found = {}
    for name, (low, high) in space.items():
        if name not in best:
            found[name] = low, high
            continue
        apart, at = (high / low) ** ((len(tried) - 1) ** (-1 / len(space))), best[name]
        others = [place[name] for place in tried if name in place] if len(space) == 1 else []
        below = max((v for v in others if v < at), default=max(min(low, at), at / apart))
        found[name] = below, min((v for v in others if v > at), default=min(max(high, at), at * apart))
    return found


def _place(config: SweepConfig, scenario: Scenario, name: str, settings: Settings) -> dict[str, float]:
    """What a trial has of each setting that is tuned, defaults among them, where that is a place in the logarithm: a method
    of the user's may have None for "as it comes"."""
    values = settings | _own(config, scenario, name, settings)
    method = configuration.settings(method_of(name, config.track), values, f"methods.{name}")
    found = {key: getattr(method, key) for key in _space(name, config)}
    return {key: value for key, value in found.items() if isinstance(value, int | float) and value > 0}


def _rows(name: str, first: int, trials: Sequence[Sequence[Settings]]) -> Rows:
    return {f"{name}:t{number}": (name, settings) for number, settings in enumerate(trials, first)}


def _space(name: str, config: SweepConfig) -> Space:
    return getattr(method_of(name, config.track).item, "space", {})


def search(config: SweepConfig, rows: Rows, seeds: str) -> SweepConfig:
    """The sweep of all trials, unweighted, with seeds of its own. UserError if these are the sweep's, or if it could not be
    scored."""
    values = configuration.as_values(config)
    own = [int(seeds)] if seeds.isdigit() else seeds
    values |= {"name": f"{config.name[:50]}-tune", "weightings": {"none": {}}, "weighted": None, "seeds": own, "trials": {}}
    values["methods"] = {KEPT: config.methods.get(KEPT, {})} if KEPT in config.methods else {}
    usual = {row: tried[0] if _alike(tried) else config.methods[name] for row, (name, tried) in rows.items()}
    values["methods"] |= usual
    for at, scenario in enumerate(_scenarios(config)):
        kept = {name: settings for name, settings in scenario.methods.items() if name == KEPT}
        others = {
            row: _but(tried[at], usual[row]) | _own(config, scenario, name, tried[at]) for row, (name, tried) in rows.items()
        }
        own_of = {"methods": kept | {row: settings for row, settings in others.items() if settings}, "weightings": {}}
        values["scenarios"][at] |= own_of
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


def _alike(settings: Sequence[Settings]) -> bool:
    return all(each == settings[0] for each in settings)


def _but(settings: Settings, others: Settings) -> Settings:
    """What is not the same in others."""
    return {key: value for key, value in settings.items() if others.get(key) != value}


def _own(config: SweepConfig, scenario: Scenario, name: str, settings: Settings) -> Settings:
    """A scenario's own settings of a method that a trial has: all of them where it tries the sweep's, else those that are
    not tuned."""
    own = scenario.methods.get(name, {})
    return dict(own) if settings == config.methods[name] else _untuned(config, name, own)


def _untuned(config: SweepConfig, name: str, settings: Settings) -> Settings:
    """A scenario's own settings of a method, without those that are tuned."""
    return {key: value for key, value in settings.items() if key not in _space(name, config)}


def labels(config: SweepConfig) -> list[set[str]]:
    """By scenario, as its sweep's records call it: a sequence's has a name for each request."""
    alone = {"methods": {KEPT: {}} if config.track == "classification" else dict(list(config.methods.items())[:1])}
    bare = (each.model_copy(update={"methods": {}}) for each in _scenarios(config))  # settings of rows that are left out
    plans = (build(config.model_copy(update=alone | {"scenarios": (each,)})) for each in bare)
    return [{cell.record.scenario for cell in plan.cells} for plan in plans]


def scored(records: Sequence[Record], rows: Rows, scenario: int) -> list[Trial]:
    """Every trial of the scenario at this place, of which the records are, with its score."""
    found = []
    for row, (method, settings) in rows.items():
        own = [record for record in records if record.method == row]
        scores = [_score(record, records) for record in own]
        found.append(Trial(method, settings[scenario], sum(scores) / len(scores) if scores else math.nan))
    return found


def best(trials: Sequence[Trial]) -> dict[str, Trial]:
    """By method the trial of a scenario with the highest score, the earlier of equals; none where every trial failed."""
    found: dict[str, Trial] = {}
    for trial in trials:
        if not math.isnan(trial.score) and (trial.method not in found or trial.score > found[trial.method].score):
            found[trial.method] = trial
    return found


def at_edge(config: SweepConfig, scenario: int, trials: Sequence[Trial], chosen: Mapping[str, Trial]) -> list[str]:
    """What is best at the least or the greatest value that was tried in the scenario at this place, so that a value beyond
    it may be better: "GA lr"."""
    found = []
    for method, trial in chosen.items():
        place = partial(_place, config, _scenarios(config)[scenario], method)
        places = [place(t.settings) for t in trials if t.method == method]
        for key, value in place(trial.settings).items():
            tried = {each[key] for each in places if key in each}
            if len(tried) > 1 and value in (min(tried), max(tried)):
                found.append(f"{method} {key}")
    return found


def written(config: SweepConfig, chosen: Sequence[Mapping[str, Trial]], trials: int, seeds: str, more: int = 0) -> str:
    """The sweep with the settings chosen for each scenario as YAML, which says how they were found: what is best in every
    scenario stands once, what is best in some in theirs. more: trials made around the best of the others."""
    tuned = list(dict.fromkeys(name for each in chosen for name in each))
    methods, scenarios = dict(config.methods), list(_scenarios(config))
    for name, given in config.methods.items():
        found = [each[name].settings if name in each else given for each in chosen]
        if _alike(found):
            methods[name] = found[0]
        for at, settings in enumerate(found):
            own = scenarios[at].methods.get(name, {})
            if settings != given:
                own = _but(settings, methods[name]) | _untuned(config, name, own)
            others = {key: value for key, value in scenarios[at].methods.items() if key != name}
            scenarios[at] = scenarios[at].model_copy(update={"methods": others | ({name: own} if own else {})})
    new = {"methods": methods, "scenarios": tuple(scenarios), "trials": dict.fromkeys(tuned, trials + more)}
    around = f" and {more} around the best of these" * bool(more)
    head = (
        f"{config.name}, tuned: of {trials} settings of each of {', '.join(tuned)}{around} the best on validation, "
        f"unweighted, in each scenario by itself, on seeds {seeds}. Weightings have their method's settings."
    )
    text = configuration.dump(config.model_copy(update=new))
    return textwrap.fill(head, 118, initial_indent="# ", subsequent_indent="# ") + "\n" + text


def _scenarios(config: SweepConfig) -> tuple[Scenario, ...]:
    return cast(Any, config).scenarios  # type: ignore[no-any-return]  # of either track


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
