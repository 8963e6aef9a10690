"""Runs a plug-in's items on little data, to say in seconds what a sweep would stumble over in an hour.

What is checked of a track's own items stands in that track's `conformance.py`, under CHECKS by kind.
"""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loreun_bench import config as configuration
from loreun_bench.errors import Diverged, UserError
from loreun_bench.harness.measuring import checked
from loreun_bench.harness.plan import build
from loreun_bench.harness.rows import active_phases, phases_of
from loreun_bench.harness.unseen import unseen
from loreun_bench.ops import loreun_losses, loreun_weights
from loreun_bench.registry import TRACKS, Entry, blamed, kinds, load_plugin, registry
from loreun_bench.weightings import Batch, Rule

if TYPE_CHECKING:
    from loreun_bench.training.clock import Meter


def check_plugin(path: Path) -> list[str]:
    """One line an item: "ok …", or what is wrong with it. UserError if the file registers nothing."""
    path = load_plugin(path)
    found = [each for each in _items() if path in (each[2].file.resolve(), Path(each[2].origin))]
    lines = [_line(*each) for each in found]
    if not lines:
        raise UserError(f"{path.name} registers nothing: decorate a class or function with @method, @weighting, …")
    return lines + [f"ok, but {words}" for words in unseen([path])]


def _items() -> Iterator[tuple[str, str, Entry]]:
    """Every registered item with its track and kind; weightings, which belong to none, once."""
    for number, track in enumerate(TRACKS):
        for kind in kinds(track):
            if kind != "weightings" or number == 0:
                yield from ((track, kind, entry) for entry in registry(kind, track).entries())


def _line(track: str, kind: str, entry: Entry) -> str:
    start = time.perf_counter()
    try:
        if kind == "weightings":
            found = _weighting(entry)
        else:
            found = importlib.import_module(f"loreun_bench.{track}.conformance").CHECKS[kind](entry)
        return f"ok {kind[:-1]} {entry.name}: {found} ({time.perf_counter() - start:.1f} s)"
    except Exception as error:
        return f"wrong {kind[:-1]} {entry.name}: {error if isinstance(error, (UserError, Diverged)) else repr(error)}"


def _weighting(entry: Entry) -> str:
    """Its phases are valid; those of LoReUn's form give weights that sum to 1, a function one for each row."""
    import torch

    phases = phases_of(entry, entry.item())
    for name, phase in phases.items():
        if isinstance(phase, Rule):
            _tried(entry, phase, name)
            continue
        weights = loreun_weights(torch.rand(64, dtype=torch.float64), eta=phase.eta, direction=phase.direction)
        assert abs(float(weights.sum()) - 1) < 1e-9
    return f"weights {' and '.join(phases) or 'nothing'}"


def _tried(entry: Entry, rule: Rule, phase: str) -> None:
    """A function of the batch gives weights, on random logits. UserError."""
    import torch

    logits, labels, optimised = torch.randn(64, 10), torch.randint(10, (64,)), torch.randint(10, (64,))
    losses = loreun_losses(logits, optimised, labels)
    original = torch.rand(64) if rule.score == "original" else None
    unseen = torch.rand(2, 10) if rule.validation else None
    told = (losses.score, losses.objective, labels, logits, phase, 0, 0, original, None, torch.Generator(), unseen)
    with blamed(entry.file, f"weighting '{entry.name}'"):
        rule.of(Batch(*told))


def checked_method(entry: Entry, run: Callable[[Entry, str], tuple[Meter, str]], sweep: Mapping[str, Any]) -> str:
    """What a method reads and how much. UserError if it counts nothing, or no sweep with it can be planned.

    run: unlearns with the method and the weighting of a name; what was counted, and a note on the weights. sweep: the
    configuration of one, without the method.
    """
    meter, note = run(entry, "none")
    build(configuration.load({"seeds": 1, "device": "cpu", **sweep, "methods": {entry.name: {}}}))
    if meter.forward_samples == 0:
        raise UserError("no samples were counted: add to context.meter.forward_samples and backward_samples")
    run(entry, "w_f+w_r")
    weights = "" if active_phases(entry.item()) or entry.item.from_scratch else "; weightings cannot act on it: one row"
    return f"reads {', '.join(sorted(entry.info['uses']))}; {meter.forward_samples} samples forward{note}{weights}"


def checked_values(entry: Entry, values: Any) -> str:
    """A metric's values in words. UserError if they are not finite numbers for columns that it declares."""
    for key, value in checked(entry, values).items():
        if not math.isfinite(float(value)):
            raise UserError(f"{key} is {value} on toy data")
    return ", ".join(f"{key} = {float(value):.4g}" for key, value in values.items())
