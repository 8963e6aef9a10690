"""The rows of a sweep in either track: which weightings a method is combined with, and whose code a row depends on."""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from loreun_bench import config as configuration
from loreun_bench import weightings as weightings_
from loreun_bench.errors import UserError, did_you_mean
from loreun_bench.registry import Entry, blamed, registry
from loreun_bench.weightings import PHASES, Phase, Rule


def method_of(name: str, track: str) -> Entry:
    """The method of a row's name: RL, or RL:paired, which is RL with settings of its own."""
    return registry("methods", track).get(name.partition(":")[0])


def cost_of(metrics: Iterable[Entry], sizes: Mapping[str, int]) -> int:
    """The samples that metrics train on."""
    found = 0
    for entry in metrics:
        if entry.info["cost"] is not None:
            with blamed(entry.file, f"metric '{entry.name}'"):
                found += int(entry.info["cost"](sizes))
    return found


def check_scenario(scenario: Any, config: Any) -> list[str]:
    """UserError if a scenario has settings for a method or a weighting that there is not. Those of rows that its sweep
    leaves out do no harm; a note says which these are."""
    unused = []
    for section in ("methods", "weightings"):
        known = {entry.name for entry in registry(section, config.track).entries()}
        for name in getattr(scenario, section):
            if name not in getattr(config, section) and name not in known:
                where = f"scenarios.{scenario.label}.{section}"
                raise UserError(f"{where}: there is no '{name}'; {did_you_mean(name, getattr(config, section))}")
            unused += [name] if name not in getattr(config, section) else []
    return [f"{scenario.label}: its settings of {', '.join(unused)} are for rows that the sweep has not"] if unused else []


def weightings(name: str, method: Any, config: Any, scenario: Any) -> tuple[list[tuple[Entry, Any]], list[str]]:
    """The sweep's weightings that change something for `method`, those of which every phase is one that it runs; and
    notes on those left out. The scenario's settings come before the sweep's, and these before the track's defaults."""
    if config.weighted is not None and name not in config.weighted:
        return [uniform()], []
    active = active_phases(method)
    if not active:
        told = says_active(type(method)) or (hasattr(method, "active") and not _said(method))
        reason = f"{name} × weightings left out: its own `unlearn` reads none (`active` can say which phases it weighs)"
        return [uniform()], [] if told else [reason]
    found, notes = [], []
    for rule, values in config.weightings.items():
        entry = registry("weightings").get(rule)
        own = entry.info["defaults"].get(config.track, {})
        weighting = configuration.settings(entry, own | values | scenario.weightings.get(rule, {}), f"weightings.{rule}")
        phases = phases_of(entry, weighting)
        if config.track not in entry.info["tracks"]:
            notes.append(f"{rule} left out: it is for {' and '.join(entry.info['tracks'])}")
        elif not getattr(config, "validation", 0) and any(isinstance(p, Rule) and p.validation for p in phases.values()):
            notes.append(f"{rule} left out: it needs validation pictures, and there are none: set `validation`")
        elif phases.keys() <= active:
            found.append((entry, weighting))
        else:
            notes.append(f"{name} × {rule} left out: {name} has no {' or '.join(sorted(phases.keys() - active))} phase")
    return found, notes + _unlike_controls(found, scenario.label)


def _unlike_controls(found: Sequence[tuple[Entry, Any]], where: str) -> list[str]:
    """A note on each control that has not the settings of what it controls for, so that more than the direction differs."""
    rows = {entry.name: asdict(weighting) for entry, weighting in found}
    controls = ((entry.name, getattr(weighting, "control_of", ""), rows[entry.name]) for entry, weighting in found)
    return [
        f"{where}: {control} ({_told(own)}) is no control of {of} ({_told(rows[of])}): their settings differ"
        for control, of, own in controls
        if of in rows and own != rows[of]
    ]


def _told(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def active_phases(method: Any) -> set[str]:
    """The phases in which a weighting can act on a method: none where it has an `unlearn` of its own that neither reads
    `context.phases` nor hands over to the loop, unless it says so itself in an `active` of its own; both where it reads
    them and no `active` says which."""
    cls = type(method)
    if says_active(cls):
        return _said(method)
    if not _mentions(vars(_definer(cls, "unlearn"))["unlearn"]):
        return set()
    return (_said(method) if hasattr(cls, "active") else set()) or set(PHASES)


def phases_of(entry: Entry, weighting: Any) -> Mapping[str, Phase | Rule]:
    """A weighting's phases. UserError if it does not return a Phase or a Rule for some of PHASES."""
    with blamed(entry.file, f"weighting '{entry.name}'"):
        found = weightings_.phases_of(weighting)
    if (
        not isinstance(found, Mapping)
        or not found.keys() <= PHASES
        or not all(isinstance(phase, (Phase, Rule)) for phase in found.values())
    ):
        raise UserError(f"weighting '{entry.name}': phases() returned {found!r}, not a Phase for 'forget', 'retain' or both")
    return found


def _said(method: Any) -> set[str]:
    """What the method's `active` says. UserError if that is no phases."""
    found = asked_of(method, "active")
    if isinstance(found, str) or not isinstance(found, Iterable) or not (said := set(found)) <= PHASES:
        raise UserError(f"method '{method.name}': active() returned {found!r}, not some of 'forget' and 'retain'")
    return said


def asked_of(method: Any, question: str, *args: Any) -> Any:
    """What a method answers when the sweep is planned. UserError, with its line, if it raises."""
    with blamed(class_files(method.__class__)[0], f"method '{method.name}'"):
        found = getattr(method, question)(*args)
        return list(found) if inspect.isgenerator(found) else found


def ranks(config: Any, method: Any = None) -> dict[str, int]:
    """What goes into the configuration of a stage that trains, or runs `method`, where several ranks are to share it."""
    return {"ranks": config.ranks} if config.ranks > 1 and (method is None or getattr(method, "spreads", False)) else {}


def samples(method: Any, sizes: Mapping[str, int], usual: int) -> int:
    """The samples that the method says it passes forward; `usual` where it does not say. UserError if that is no number."""
    found = asked_of(method, "samples", sizes) if hasattr(method, "samples") else usual
    if not isinstance(found, numbers.Real) or not math.isfinite(found) or found < 0:
        raise UserError(f"method '{method.name}': samples() returned {found!r}, not how many pass forward")
    return int(float(found))


def says_active(cls: type) -> bool:
    """Whether the class that defines `unlearn`, or one derived from it, defines `active`, too."""
    if not hasattr(cls, "active"):
        return False
    mro = cls.__mro__
    return mro.index(_definer(cls, "active")) <= mro.index(_definer(cls, "unlearn"))


def _definer(cls: type, name: str) -> type:
    return next(c for c in cls.__mro__ if name in vars(c))


def _mentions(function: Any) -> bool:
    """Whether a function's code reads `phases`, or calls the loop: `descend`, or `unlearn` of a base class."""
    names = weightings_.names_read(function)
    return names is None or bool({"phases", "descend", "unlearn"} & names)  # None: nothing is known


def uniform() -> tuple[Entry, Any]:
    """The weighting that is none."""
    entry = registry("weightings").get("none")
    return entry, entry.item()


@lru_cache(maxsize=1024)
def class_files(cls: type) -> tuple[Path, ...]:
    """The files that define a class and its bases, but for Python's own."""
    own = (c for c in cls.__mro__ if c.__module__.partition(".")[0] not in ("builtins", "typing", "abc"))
    return tuple(Path(inspect.getfile(c)) for c in own)
