"""How often the statistics of a table are wrong, on simulated sweeps whose truth is known.

    python benchmarks/coverage.py [REPETITIONS]

A sweep: rows that differ by known means, seeds that shift all rows alike (which pairing takes out), and noise of each row in
each seed, normal or skewed (a shifted exponential).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

from loreun_bench.report.statistics.paired import LEVEL, holm, paired
from loreun_bench.report.statistics.ranks import shown_better

NOISES = {
    "normal": lambda random, shape: random.normal(size=shape),
    "skewed": lambda random, shape: random.exponential(size=shape) - 1,
}
ROWS = 9  # as in the first sweep: a base, and rows that are compared with it


def sweeps(random: np.random.Generator, noise: str, means: np.ndarray, seeds: int, repetitions: int) -> np.ndarray:
    """Scores [repetitions, rows, seeds]; a row's spread is its own."""
    spread = np.linspace(0.5, 2, len(means))[:, None]
    common = 3 * random.normal(size=(repetitions, 1, seeds))
    return means[:, None] + common + spread * NOISES[noise](random, (repetitions, len(means), seeds))


def coverage(scores: np.ndarray, means: np.ndarray) -> float:
    """How often the 95 % interval of one row's difference to the first holds the true one."""
    found = paired(scores[:, 1] - scores[:, 0])
    return float((np.abs(found.mean - (means[1] - means[0])) <= found.half()).mean())


def any_false(scores: np.ndarray) -> float:
    """How often any of equal rows is said to differ from the first."""
    p = paired(scores[:, 1:] - scores[:, :1]).p
    return float(np.mean([(holm(each) < LEVEL).any() for each in p]))


def false_ranks(scores: np.ndarray, means: np.ndarray) -> float:
    """How often any row is ranked before one that is truly as good or better."""
    one, other = np.triu_indices(len(means), 1)
    false = 0
    for own in scores:
        better = shown_better([paired(own[one] - own[other])])
        truth = np.sign(means[one] - means[other])
        false += bool(((better != 0) & (better != truth)).any())
    return false / len(scores)


def found_at_least(random: np.random.Generator, noise: str, seeds: int, repetitions: int) -> float:
    """How often a difference is found of the size that `least` gives for the true spread."""
    one = paired(np.zeros(seeds), floor=1.0)
    values = NOISES[noise](random, (repetitions, seeds)) + float(one.least())
    return float((paired(values).p < LEVEL).mean())


def false_equivalence(random: np.random.Generator, noise: str, seeds: int, repetitions: int) -> float:
    """How often a row is called as close although it is just twice as far from Retrain as a second retraining, both of which
    are measured: by six and three spreads."""
    second, row = (NOISES[noise](random, (repetitions, seeds)) + distance for distance in (3, 6))
    return float((paired(2 * second - row).p_above < LEVEL).mean())


def lines(repetitions: int) -> Iterator[str]:
    """The table, a line for each kind of noise and number of seeds."""
    heads = "noise", "seeds", "interval holds truth", "any of 8 differs", "any rank false", "found at `least`", "as close"
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    equal, steps = np.zeros(ROWS), np.repeat([0.0, 1.0, 8.0], 3)
    for noise in NOISES:
        for seeds in (3, 5, 10):
            random = np.random.default_rng(seeds)
            same = sweeps(random, noise, equal, seeds, repetitions)
            apart = sweeps(random, noise, steps, seeds, repetitions)
            shares = (
                coverage(same, equal), any_false(same), false_ranks(apart, steps),
                found_at_least(random, noise, seeds, repetitions), false_equivalence(random, noise, seeds, repetitions),
            )  # fmt: skip
            yield f"| {noise} | {seeds} | " + " | ".join(f"{100 * share:.1f} %" for share in shares) + " |"


if __name__ == "__main__":
    for line in lines(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000):
        print(line)
