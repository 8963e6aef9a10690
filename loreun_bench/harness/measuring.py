"""Metrics by name, of what a track gives them."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from loreun_bench.errors import UserError
from loreun_bench.plugins import is_users
from loreun_bench.registry import Entry, registry


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

    A user's metrics come after our own, each with a copy where `given` can make one (`copied`): one that changes what it is
    given in place, as `sort_()` does, changes no other metric.
    """
    values: dict[str, float] = {}
    counts: dict[str, Sequence[int]] = {}
    nothing: set[str] = set()
    entries = [registry("metrics", track).get(name) for name in names]
    for entry in sorted(entries, key=lambda each: is_users(str(each.file))):
        own = given.copied() if is_users(str(entry.file)) and hasattr(given, "copied") else given
        found = checked(entry, entry.item(own))
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


def checked(entry: Entry, found: Any) -> Measured:
    """What a metric returned. UserError if a key is not one of its columns, or a count is no pair of numbers."""
    known = list(entry.info["columns"])
    if not isinstance(found, dict) or not set(found) <= set(known):
        raise UserError(f"metric '{entry.name}' returned {found!r}; expected a dict with keys {known}")
    whole = found if isinstance(found, Measured) else Measured(found)
    if not {*whole.counts, *whole.uninformative} <= set(whole):
        raise UserError(f"metric '{entry.name}': counts and uninformative must be about values that it returned, {known}")
    for key, pair in whole.counts.items():
        if [type(n) for n in pair] != [int, int] or not 0 <= pair[0] <= pair[1] or not pair[1]:
            raise UserError(f"metric '{entry.name}': counts['{key}'] is {pair!r}, expected [hits, of how many]")
    return whole
