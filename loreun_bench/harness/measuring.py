"""Metrics by name, of what a track gives them."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from loreun_bench.errors import Diverged, UserError
from loreun_bench.harness.seeding import derive, seeded
from loreun_bench.registry import Entry, blamed, registry


class Measured(dict[str, float]):
    """What a metric returns that has more to tell than its values: a dictionary of them, with what is said of them.

    counts: [hits, of how many] of values that are shares, from which a table takes exact intervals. uninformative: keys of
    values that say nothing, such as those of an attack at chance. A table shows them as such, ranks nothing by them and
    keeps them out of what is derived; the number that shows it belongs among the values.
    """

    def __init__(
        self,
        values: Mapping[str, float],
        counts: Mapping[str, Sequence[int]] | None = None,
        uninformative: Collection[str] = (),
    ) -> None:
        super().__init__(values)
        self.counts = dict(counts or {})
        self.uninformative = frozenset(uninformative)

    def record(self) -> dict[str, Any]:
        """The fields of a record that this fills."""
        return {
            "metrics": dict(self),
            "counts": {key: list(pair) for key, pair in self.counts.items()},
            "uninformative": sorted(self.uninformative),
        }


def measured(names: Sequence[str], track: str, given: Any) -> Measured:
    """All that a track's metrics find, values as a record holds them. UserError if one returns what no column names.

    Metrics of others come after our own; see `called`.
    """
    values: dict[str, float] = {}
    counts: dict[str, Sequence[int]] = {}
    nothing: set[str] = set()
    entries = [registry("metrics", track).get(name) for name in names]
    for entry in sorted(entries, key=lambda each: each.plugged):
        found = checked(entry, called(entry, given))
        values |= {key: round(float(value), 6) for key, value in found.items()}
        counts |= found.counts
        nothing |= found.uninformative
    return Measured(values, counts, nothing)


def measure(names: Sequence[str], track: str, given: Any) -> dict[str, float]:
    """The values of a track's metrics; warns of those that say nothing. UserError as `measured`."""
    found = measured(names, track, given)
    for key in sorted(found.uninformative):
        warnings.warn(f"{key} = {found[key]:g} says nothing here, see the metric's description", stacklevel=2)
    return dict(found)


def called(entry: Entry, given: Any) -> Any:
    """What a metric returns of `given`. Another's metric gets a copy (`given.copied()`) and randomness of its own, so that
    whatever it does to either, as `sort_()` does, changes no other metric's number. What it tells of itself in `details`,
    if `given` has them, is kept. UserError names the file and line of what it raises."""
    if not entry.plugged:
        return entry.item(given)
    own = given.copied() if hasattr(given, "copied") else copy.deepcopy(given)
    try:
        with blamed(entry.file, f"metric '{entry.name}'"), seeded(derive(getattr(given, "seed", 0), "metric", entry.name)):
            found = entry.item(own)
    except UserError as error:
        if isinstance(error.__cause__, (Diverged, MemoryError)):  # which are statuses of their own
            raise error.__cause__ from None
        raise
    if entry.name in getattr(own, "details", ()):
        given.details[entry.name] = own.details[entry.name]
    return found


def checked(entry: Entry, found: Any) -> Measured:
    """What a metric returned. UserError if a key is not one of its columns, a value is no number, or a count is no pair of
    them."""
    known = list(entry.info["columns"])
    if not isinstance(found, dict) or not set(found) <= set(known):
        raise UserError(f"metric '{entry.name}' returned {found!r}; expected a dict with keys {known}")
    for key, value in found.items():
        try:
            float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"metric '{entry.name}' returned {value!r} as {key}; expected a number") from error
    whole = found if isinstance(found, Measured) else Measured(found)
    if not {*whole.counts, *whole.uninformative} <= set(whole):
        raise UserError(f"metric '{entry.name}': counts and uninformative must be about values that it returned, {known}")
    for key, pair in whole.counts.items():
        if [type(n) for n in pair] != [int, int] or not 0 <= pair[0] <= pair[1] or not pair[1]:
            raise UserError(f"metric '{entry.name}': counts['{key}'] is {pair!r}, expected [hits, of how many]")
    return whole
