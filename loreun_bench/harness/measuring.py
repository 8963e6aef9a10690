"""Metrics by name, of what a track gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loreun_bench.errors import UserError
from loreun_bench.registry import Entry, registry


def measure(names: Sequence[str], track: str, given: Any) -> dict[str, float]:
    """The values of a track's metrics, as a record holds them. UserError if one returns what its columns do not name."""
    found: dict[str, float] = {}
    for name in names:
        entry = registry("metrics", track).get(name)
        found |= {key: round(float(value), 6) for key, value in checked(entry, entry.item(given)).items()}
    return found


def checked(entry: Entry, values: Any) -> dict[str, float]:
    """What a metric returned. UserError if its columns do not name it."""
    if not isinstance(values, dict) or not set(values) <= set(entry.info["columns"]):
        raise UserError(
            f"metric '{entry.name}' returned {values!r}; expected a dict with keys {list(entry.info['columns'])}"
        )
    return values
