"""Intervals: none below three seeds, none that leaves where values can be, exact ones of what was counted."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from loreun_bench.harness.records import Record
from loreun_bench.report import byclass, leaderboard, table
from loreun_bench.report.statistics.estimate import Estimate, estimate

ROOT = Path(__file__).parents[2]


def record(method, seed=0, counts=None, **metrics):
    values = {"forget_acc": 50.0, "retain_acc": 99.0, "test_acc": 90.0} | metrics
    return Record(
        "classification", "digits", "small-cnn", "class-3", method, "none",
        {"split": seed, "train": seed, "unlearn": seed, "eval": seed}, metrics=values, counts=counts or {},
        artifact=f"{method}{seed}",
    )  # fmt: skip


def board(*records, style="text", render=leaderboard.render):
    return render(table.build([("run", records)]), style)


def two(**metrics):
    return [record(method, seed, **({k: v[seed] for k, v in metrics.items()} if method == "RL" else {}))
            for method in ("Original", "Retrain", "RL") for seed in (0, 1)]  # fmt: skip


@pytest.mark.parametrize("render", [leaderboard.render, byclass.render])
@pytest.mark.parametrize("style", ["text", "md", "latex", "csv", "json"])
def test_two_seeds_have_no_interval_anywhere(render, style):
    found = board(*two(forget_acc=(0.0, 100.0)), style=style, render=render)
    assert "635" not in found
    assert "±" not in found.split("A cell is")[0]
    assert "pm" not in found.split("A cell is")[0]


def test_it_is_said_that_there_is_none():
    assert "no interval below three" in board(*two(forget_acc=(0.0, 100.0)))


def test_two_seeds_of_a_share_have_the_exact_interval_of_its_counts():
    counts = {"forget_acc": [20, 40]}
    records = [replace(one, counts=counts) if one.method == "RL" else one for one in two(forget_acc=(50.0, 50.0))]
    assert "50.00 [33.8, 66.2] (+0.00)" in board(*records)


def test_a_test_set_that_seeds_share_counts_once():
    alone = record("RL", 0, counts={"test_acc": [36, 40]})
    (group,) = table.build([("run", [replace(alone, seeds={"unlearn": s, "eval": s}, artifact=str(s)) for s in range(3)])])
    (single,) = table.build([("run", [alone])])
    assert group.rows[0].cells["test_acc"].value.exact == single.rows[0].cells["test_acc"].value.exact


def test_an_interval_over_seeds_stays_where_it_fits_and_is_exact_where_it_does_not():
    inside = [record("RL", s, {"forget_acc": [50 + s, 100]}, forget_acc=50.0 + s) for s in range(3)]
    assert "51.00 ±2.48" in board(*inside)
    below = [record("RL", s, {"forget_acc": [s, 100]}, forget_acc=float(s)) for s in range(3)]
    assert "1.00 [0.0, 5.4]" in board(*below)  # ±2.48 would be below nought
    uncounted = [record("RL", s, forget_acc=float(s)) for s in range(3)]
    assert "1.00 [0.0, 3.5]" in board(*uncounted)


def test_what_seeds_differ_by_widens_the_exact_interval():
    apart = [record("RL", s, {"forget_acc": [hits, 100]}, forget_acc=float(hits)) for s, hits in enumerate((0, 5, 25))]
    low, high = table.build([("run", apart)])[0].rows[0].cells["forget_acc"].value.interval
    assert low == 0
    assert high > 40  # 10 of 100 alone would be [4.9, 17.6]


def test_alike_seeds_are_no_certainty():
    assert "±0.00" not in board(*[record("RL", s) for s in range(3)])
    counted = [record("RL", s, {"forget_acc": [20, 40]}) for s in range(3)]
    assert "50.00 [33.8, 66.2]" in board(*counted)


def test_tow_stays_at_or_below_one():
    records = [record("Retrain", s) for s in range(3)] + [record("RL", s, forget_acc=50.0 + 2 * s) for s in range(3)]
    (group,) = table.build([("run", records)])
    low, high = group.row("RL", "run").cells["tow"].value.interval
    assert 0 < low < 0.98 < high == 1


def test_json_and_csv_hold_the_ends():
    records = [record("RL", s, {"forget_acc": [s, 100]}, forget_acc=float(s)) for s in range(3)]
    (row,) = json.loads(board(*records, style="json"))
    assert (row["forget_acc_low"], round(row["forget_acc_high"], 1)) == (0.0, 5.4)
    assert row["tow_low"] is None
    assert "forget_acc_low" in board(*records, style="csv").splitlines()[0]


@pytest.mark.parametrize("values", [[math.nan, 1.0, 2.0], [math.inf, -math.inf, 0.0], [1e99, -1e99, 1e99], []])
def test_odd_values_have_no_mean_and_no_crash(values):
    found = estimate(values, (0.0, 1.0))
    assert math.isnan(found.mean) or found.interval is not None
    assert found.spread(2) is not None


def test_a_value_outside_its_own_span_is_not_cut_to_it():
    assert Estimate(120.0, 3.0, 3, span=(0.0, 100.0)).interval == (117.0, 123.0)
