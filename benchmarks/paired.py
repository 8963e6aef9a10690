"""Prints, for every method × weighting of a run, its difference to the unweighted method, paired by seed.

    python benchmarks/paired.py RUN_DIR

Of ToW, or of a generation sweep of UA and FD. A star marks a 95 % t-interval that leaves zero; nothing is corrected for
the number of comparisons.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from loreun_bench import load_records
from loreun_bench.classification.metrics.tow import tow
from loreun_bench.report.stats import estimate

Metrics = Mapping[str, float]
Score = Callable[[Metrics, Metrics], float]  # of a row, given the reference of its seed
SCORES: dict[str, tuple[str, dict[str, Score]]] = {
    "classification": ("Retrain", {"ToW": tow}),
    "generation": ("Original", {"UA": lambda own, _: own["forget_ua"], "FD": lambda own, _: own["fd"]}),
}


def main(run: Path) -> None:
    """One line a comparison."""
    records = [record for record in load_records(run) if record.status == "ok"]
    reference, scores = SCORES[records[0].track]
    at = {(r.scenario, r.method, r.weighting, str(r.seeds)): r.metrics for r in records}
    rows = dict.fromkeys((r.scenario, r.method, r.weighting) for r in records if r.weighting != "none")
    seeds = dict.fromkeys(str(r.seeds) for r in records)
    for scenario, method, weighting in rows:
        keys = [
            [(scenario, *pair, seed) for pair in ((method, weighting), (method, "none"), (reference, "none"))]
            for seed in seeds
        ]
        triples = [[at[key] for key in three] for three in keys if all(key in at for key in three)]
        for name, score in scores.items():
            found = estimate([score(own, base) - score(plain, base) for own, plain, base in triples])
            star = " *" if abs(found.mean) > found.half else ""
            print(f"{scenario:16} {method:9} {weighting:9} {name:3} {found.mean:+.4f} ±{found.half:.4f} (n={found.n}){star}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
