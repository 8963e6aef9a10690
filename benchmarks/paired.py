"""Prints, for every method × weighting of a run, its difference to the unweighted method, paired by seed.

    python benchmarks/paired.py RUN_DIR

Of ToW, or of a generation sweep of UA and FD. A star marks a 95 % t-interval that leaves zero; nothing is corrected for
the number of comparisons. Below three seeds in common there is no interval, and nothing is compared.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from loreun_bench import load_records
from loreun_bench.classification.metrics.tow import tow
from loreun_bench.errors import UserError
from loreun_bench.harness.records import Record
from loreun_bench.report.statistics.estimate import LEAST, estimate
from loreun_bench.report.text import plain

Metrics = Mapping[str, float]
Score = Callable[[Metrics, Metrics], float]  # of a row, given the reference of its seed
SCORES: dict[str, tuple[str, dict[str, Score]]] = {
    "classification": ("Retrain", {"ToW": tow}),
    "generation": ("Original", {"UA": lambda own, _: own["forget_ua"], "FD": lambda own, _: own["fd"]}),
}


def lines(records: Sequence[Record]) -> Iterator[str]:
    """One line a comparison."""
    records = [record for record in records if record.status == "ok" and record.track in SCORES]
    at = {(r.track, r.scenario, r.method, r.weighting, str(r.seeds)): r.metrics for r in records}
    rows = dict.fromkeys((r.track, r.scenario, r.method, r.weighting) for r in records if r.weighting != "none")
    seeds = dict.fromkeys(str(r.seeds) for r in records)
    for track, scenario, method, weighting in rows:
        reference, scores = SCORES[track]
        keys = [
            [(track, scenario, *pair, seed) for pair in ((method, weighting), (method, "none"), (reference, "none"))]
            for seed in seeds
        ]
        triples = [[at[key] for key in three] for three in keys if all(key in at for key in three)]
        for name, score in scores.items():
            head = plain(f"{scenario:16} {method:9} {weighting:9} {name:3}")
            yield f"{head} {_difference(score, triples)}"


def _difference(score: Score, triples: Sequence[Sequence[Metrics]]) -> str:
    """What one score says of a row, the unweighted row and the reference, seed by seed."""
    values = []
    for own, unweighted, base in triples:
        try:
            values.append(score(own, base) - score(unweighted, base))
        except KeyError:  # not measured
            continue
    found = estimate(values)
    if found.n < LEAST:
        return f"{found.n} seeds in common: no interval below {LEAST}, left out"
    star = " *" if abs(found.mean) > found.half else ""
    return f"{found.mean:+.4f} ±{found.half:.4f} (n={found.n}){star}"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        for line in lines(load_records(Path(sys.argv[1]))):
            print(line)
    except UserError as error:
        sys.exit(f"error: {error}")
