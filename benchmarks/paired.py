"""Prints, for every method × weighting of a run, the ToW difference to the unweighted method, paired by seed.

    python benchmarks/paired.py RUN_DIR

A star marks a 95 % t-interval that leaves zero; nothing is corrected for the number of comparisons.
"""

from __future__ import annotations

import sys
from pathlib import Path

from loreun_bench import load_records
from loreun_bench.classification.metrics.tow import tow
from loreun_bench.report.stats import estimate


def main(run: Path) -> None:
    """One line a comparison."""
    records = [record for record in load_records(run) if record.status == "ok"]
    at = {(r.scenario, r.method, r.weighting, str(r.seeds)): r.metrics for r in records}
    rows = dict.fromkeys((r.scenario, r.method, r.weighting) for r in records if r.weighting != "none")
    seeds = dict.fromkeys(str(r.seeds) for r in records)
    for scenario, method, weighting in rows:
        differences = []
        for seed in seeds:
            keys = [(scenario, m, w, seed) for m, w in ((method, weighting), (method, "none"), ("Retrain", "none"))]
            if all(key in at for key in keys):
                weighted, plain, retrain = (at[key] for key in keys)
                differences.append(tow(weighted, retrain) - tow(plain, retrain))
        found = estimate(differences)
        star = " *" if abs(found.mean) > found.half else ""
        print(f"{scenario:16} {method:9} {weighting:9} {found.mean:+.4f} ±{found.half:.4f} (n={found.n}){star}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
