"""Statistics over seeds: against scipy's own tests, and on simulated sweeps whose truth is known."""

from __future__ import annotations

import math
import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from loreun_bench.harness.shares import clopper_pearson
from loreun_bench.report.statistics.paired import holm, paired
from loreun_bench.report.statistics.ranks import intervals, shown_better

REPETITIONS = 4000
coverage = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "coverage.py"))


def test_p_and_interval_are_those_of_scipys_paired_t_test():
    random = np.random.default_rng(0)
    own, base = random.normal(size=(2, 5, 4))
    found = paired(own - base)
    for k in range(5):
        expected = stats.ttest_rel(own[k], base[k])
        low, high = expected.confidence_interval(0.95)
        assert found.p[k] == pytest.approx(expected.pvalue)
        assert (found.mean - found.half())[k] == pytest.approx(low)
        assert (found.mean + found.half())[k] == pytest.approx(high)


def test_above_is_scipys_one_sided_t_test():
    values = np.random.default_rng(1).normal(0.2, 1, size=6)
    assert float(paired(values).p_above) == pytest.approx(stats.ttest_1samp(values, 0, alternative="greater").pvalue)


def test_differences_that_are_all_alike_show_nothing_of_how_they_vary():
    found = paired([[0.1 + 0.2, 0.3, 0.3], [0.0, 0.0, 0.0]])
    assert np.isnan(found.p).tolist() == [True, False]
    assert np.isnan(found.p_above).tolist() == [True, False]
    assert (found.p[1], found.p_above[1]) == (1.0, 0.0)


def test_a_spread_below_that_of_counting_is_taken_for_it():
    assert float(paired([5.0, 5.0, 5.0], floor=3.0).error) == pytest.approx(1.0)
    assert float(paired([0.0, 30.0, -30.0], floor=3.0).error) == pytest.approx(math.sqrt(300))


@pytest.mark.parametrize(("hits", "n"), [(0, 500), (3, 10), (9, 10), (500, 500), (1, 1), (118, 1294)])
def test_the_exact_interval_is_scipys_and_no_sample_says_nothing(hits, n):
    low, high = stats.binomtest(hits, n).proportion_ci(0.95, method="exact")
    assert clopper_pearson(hits, n) == pytest.approx([100 * low, 100 * high], abs=1e-3)
    assert clopper_pearson(0, 0) == [0, 100]


def test_holm_multiplies_by_what_is_left_never_falls_and_passes_over_what_was_not_tested():
    found = holm([0.01, 0.04, np.nan, 0.03, 0.5])
    assert found[[0, 1, 3, 4]] == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert math.isnan(found[2])
    assert holm([]).size == 0


def test_ranks_leave_as_many_places_as_are_not_ruled_out():
    _, other = np.triu_indices(4, 1)
    better = np.where(other == 3, 1.0, 0.0)  # three that cannot be told apart, and a worse one
    assert intervals(better, 4) == [(1, 3), (1, 3), (1, 3), (4, 4)]
    assert intervals(-better, 4) == [(2, 4), (2, 4), (2, 4), (1, 1)]


def test_the_first_column_that_tells_a_pair_apart_decides():
    sure, unsure = [[5.0, 5.1, 4.9]], [[-1.0, 1.0, 0.1]]
    against = [[-5.0, -5.1, -4.9]]
    assert shown_better([paired(unsure), paired(sure)]) == [1]
    assert shown_better([paired(against), paired(sure)]) == [-1]
    assert shown_better([paired(unsure), paired(unsure)]) == [0]


@pytest.mark.parametrize("seeds", [3, 5])
def test_on_simulated_sweeps_intervals_cover_and_errors_stay_at_their_level(seeds):
    random, rows = np.random.default_rng(seeds), coverage["ROWS"]
    equal, steps = np.zeros(rows), np.repeat([0.0, 1.0, 8.0], 3)
    same = coverage["sweeps"](random, "normal", equal, seeds, REPETITIONS)
    apart = coverage["sweeps"](random, "normal", steps, seeds, REPETITIONS)
    noise = 3 * math.sqrt(0.05 * 0.95 / REPETITIONS)
    assert coverage["coverage"](same, equal) == pytest.approx(0.95, abs=noise)
    assert coverage["any_false"](same) <= 0.05 + noise
    assert coverage["false_ranks"](apart, steps) <= 0.05 + noise
    assert coverage["false_equivalence"](random, "normal", seeds, REPETITIONS) <= 0.05 + noise


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_a_difference_of_what_seeds_could_show_is_found_in_four_of_five_sweeps(seeds):
    random = np.random.default_rng(seeds)
    found = coverage["found_at_least"](random, "normal", seeds, REPETITIONS)
    assert found == pytest.approx(0.8, abs=3 * math.sqrt(0.16 / REPETITIONS))


def test_where_seeds_draw_from_the_same_samples_the_correction_makes_intervals_cover():
    random, n, overlap = np.random.default_rng(2), 5, 0.5
    shared = overlap / (1 + overlap)  # the correlation of two seeds' differences
    common, own = random.normal(size=(REPETITIONS, 1)), random.normal(size=(REPETITIONS, n))
    values = math.sqrt(shared) * common + math.sqrt(1 - shared) * own

    def covers(found):
        return float((np.abs(found.mean) <= found.half()).mean())

    assert covers(paired(values)) < 0.85
    assert covers(paired(values, overlap)) == pytest.approx(0.95, abs=0.012)
