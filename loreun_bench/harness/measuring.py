"""Metrics by name, of what a track gives them."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loreun_bench.errors import UserError
from loreun_bench.registry import Entry, registry


@dataclass(frozen=True)
class Measured:
    """What a metric returns that has more to tell than its values; a plain dict of values does where it has not.

    counts: [hits, of how many] of values that are shares, from which a table takes exact intervals. uninformative: keys of
    values that say nothing, such as those of an attack at chance. A table shows them as such, ranks nothing by them and
    keeps them out of what is derived; the number that shows it belongs among the values.
    """

    values: Mapping[str, float]
    counts: Mapping[str, Sequence[int]] = field(default_factory=dict)
    uninformative: Collection[str] = ()

    def record(self) -> dict[str, Any]:
        """The fields of a record that this fills."""
        return {
            "metrics": dict(self.values),
            "counts": {key: list(pair) for key, pair in self.counts.items()},
            "uninformative": sorted(self.uninformative),
        }


def measured(names: Sequence[str], track: str, given: Any) -> Measured:
    """All that a track's metrics find, values as a record holds them. UserError if one returns what no column names."""
    values: dict[str, float] = {}
    counts: dict[str, Sequence[int]] = {}
    nothing: set[str] = set()
    for name in names:
        entry = registry("metrics", track).get(name)
        found = _whole(entry, entry.item(given))
        values |= {key: round(float(value), 6) for key, value in found.values.items()}
        counts |= found.counts
        nothing |= set(found.uninformative)
    return Measured(values, counts, nothing)


def measure(names: Sequence[str], track: str, given: Any) -> dict[str, float]:
    """The values of a track's metrics; warns of those that say nothing. UserError as `measured`."""
    found = measured(names, track, given)
    for key in sorted(found.uninformative):
        warnings.warn(f"{key} = {found.values[key]:g} says nothing here, see the metric's description", stacklevel=2)
    return dict(found.values)


def checked(entry: Entry, values: Any) -> dict[str, float]:
    """The values that a metric returned. UserError if its columns do not name them."""
    return dict(_whole(entry, values).values)


def _whole(entry: Entry, found: Any) -> Measured:
    """What a metric returned. UserError if a key is not one of its columns, or a count is no pair of numbers."""
    whole = found if isinstance(found, Measured) else Measured(found) if isinstance(found, dict) else None
    known = list(entry.info["columns"])
    if whole is None or not set(whole.values) <= set(known):
        raise UserError(f"metric '{entry.name}' returned {found!r}; expected a dict with keys {known}")
    if not {*whole.counts, *whole.uninformative} <= set(whole.values):
        raise UserError(f"metric '{entry.name}': counts and uninformative must be about values that it returned, {known}")
    for key, pair in whole.counts.items():
        if [type(n) for n in pair] != [int, int] or not 0 <= pair[0] <= pair[1] or not pair[1]:
            raise UserError(f"metric '{entry.name}': counts['{key}'] is {pair!r}, expected [hits, of how many]")
    return whole
