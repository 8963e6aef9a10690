"""What became slower or faster since the committed results, told apart from the noise. Nothing fails by it.

The noise is read off the rows that no commit of ours can change: the peers and the copies. Their median is how much
the machine as a whole drifted, and is divided out; how far nine tenths of them stray from it is the noise.
"""

from __future__ import annotations

import statistics
from typing import Any

LEAST = 0.05  # what is called noise at least
FEW = 8  # peers, below which they tell nothing of the noise


def changes(before: dict[str, Any] | None, now: dict[str, Any], name: str) -> list[str]:
    """Lines for a terminal, on two results of pytest-benchmark; before: None if nothing is committed as `name`."""
    if before is None:
        return [f"{name} is not committed yet: nothing to compare with"]
    machines = [result["machine_info"] for result in (before, now)]
    if unlike := [k for k in ("device_name", "torch", "backend", "threads") if machines[0].get(k) != machines[1].get(k)]:
        return [f"{name} was measured elsewhere ({', '.join(str(machines[0].get(k)) for k in unlike)}): not compared"]
    old, new = ({(b["group"], b["name"]): b for b in result["benchmarks"]} for result in (before, now))
    ratios = {key: new[key]["stats"]["min"] / old[key]["stats"]["min"] for key in new if key in old}
    untouched = [ratio for key, ratio in ratios.items() if new[key]["extra_info"]["role"] != "ours"]
    drift, noise = _noise(untouched)
    lines = [
        f"against {name} of commit {machines[0].get('commit')}: {len(untouched)} rows of peers and copies moved by "
        f"×{drift:.2f}, which is divided out, ±{noise:.0%}, which is noise"
    ]
    found = {key: ratio / drift for key, ratio in ratios.items() if new[key]["extra_info"]["role"] == "ours"}
    for key, ratio in sorted(found.items(), key=lambda pair: -pair[1]):
        if not 1 / (1 + noise) <= ratio <= 1 + noise:
            times = " → ".join(f"{1e6 * rows[key]['stats']['min']:.4g}" for rows in (old, new))
            lines.append(f"  {'slower' if ratio > 1 else 'faster'} ×{ratio:.2f}  {key[0]}: {key[1]} ({times} µs)")
    if len(lines) == 1:
        lines.append(f"  none of {len(found)} rows of ours changed by more")
    return lines


def _noise(untouched: list[float]) -> tuple[float, float]:
    """How much everything drifted, and how far nine tenths of the rows are from that."""
    if len(untouched) < FEW:
        return 1.0, 2 * LEAST
    drift = statistics.median(untouched)
    away = sorted(max(ratio / drift, drift / ratio) - 1 for ratio in untouched)
    return drift, max(LEAST, away[int(0.9 * (len(away) - 1))])
