"""What a mark says: over-unlearning is about UA, damage about Original, and nothing forgotten is a finding, too."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from loreun_bench.harness.records import Record
from loreun_bench.report import leaderboard, noise, table


def record(method, forget, test=90.0, retain=99.0, seed=0, weighting="none", track="classification", counts=None):
    keys = ("forget_acc", "retain_acc", "test_acc") if track == "classification" else ("forget_ua", "kept_acc", "fd")
    return Record(
        track, "digits", "small-cnn", "mislabelled-10%", method, weighting,
        {"split": seed, "train": seed, "unlearn": seed, "eval": seed},
        metrics=dict(zip(keys, (forget, retain, test), strict=True)), counts=counts or {},
    )  # fmt: skip


def marks(*records):
    (group,) = table.build([("run", records)])
    return {row.method: row.marks for row in group.rows}


BASE = record("Original", 100.0, 94.0), record("Retrain", 20.0, 99.0)


def test_over_unlearning_is_about_ua_below_retrains_and_originals():
    found = marks(*BASE, record("RL", 14.0, 94.0), record("SalUn", 16.0, 94.0))
    assert found == {"Original": set(), "Retrain": set(), "RL": {"over"}, "SalUn": set()}
    low = record("Original", 3.0), record("Retrain", 20.0)
    assert marks(*low, record("RL", 4.0))["RL"] == {"unforgotten"}  # the original was as far below Retrain already


def test_ga_that_leaves_everything_as_it_was_is_not_over_unlearned():
    assert marks(*BASE, record("GA", 100.0, 94.0))["GA"] == {"unforgotten"}


def test_damage_is_relative_to_the_original_of_the_same_seed():
    assert marks(*BASE, record("RL", 20.0, 88.0))["RL"] == {"damaged"}
    assert marks(*BASE, record("RL", 20.0, 94.0, retain=93.0))["RL"] == {"damaged"}
    assert marks(*BASE, record("RL", 20.0, 90.0))["RL"] == set()  # 9 below Retrain's
    later = record("Original", 100.0, 80.0, seed=1), record("Retrain", 20.0, 99.0, seed=1)
    assert marks(*BASE, *later, record("RL", 20.0, 94.0), record("RL", 20.0, 80.0, seed=1))["RL"] == set()


def test_nothing_is_forgotten_only_where_there_was_something_to_forget():
    there = record("Original", 99.5), record("Retrain", 99.0)
    assert marks(*there, record("RL", 99.5))["RL"] == set()
    assert marks(*BASE, record("RL", 98.0))["RL"] == set()
    near = record("Original", 95.0), record("Retrain", 93.5)
    found = marks(*near, record("RL", 94.1), record("SalUn", 94.4), record("FT", 97.0))
    assert found == {"Original": set(), "Retrain": set(), "RL": set(), "SalUn": {"unforgotten"}, "FT": {"unforgotten"}}


def test_generation_has_its_own_damage_and_nothing_forgotten():
    original = record("Original", 95.0, 1.0, 97.0, track="generation", counts={"forget_ua": [19, 20]})
    found = marks(
        original, record("RL", 80.0, 1.0, 97.0, track="generation"), record("ESD", 10.0, 1.0, 91.0, track="generation"),
        record("FMN", 60.0, 1.0, 97.0, track="generation"),
    )  # fmt: skip
    assert found == {"Original": set(), "RL": {"unforgotten"}, "ESD": {"damaged"}, "FMN": set()}


@pytest.mark.parametrize("style", ["text", "md", "latex"])
def test_only_marks_that_occur_are_explained(style):
    def board(*records):
        return leaderboard.render(table.build([("run", records)]), style)

    assert not {"†", "‡", "§"} & set(board(*BASE, record("RL", 20.0, 94.0)))
    text = board(*BASE, record("RL", 10.0, 94.0), record("GA", 100.0, 80.0))
    assert "† over-unlearned: UA" in text
    assert "‡ damaged: RA or TA more than 5 points below Original's" in text
    assert "§ nothing forgotten" in text
    if style == "latex":
        assert all(line.startswith("%") or not {"†", "‡", "§"} & set(line) for line in text.splitlines())


def test_json_holds_the_marks():
    rows = json.loads(leaderboard.render(table.build([("run", [*BASE, record("GA", 100.0, 80.0)])]), "json"))
    ga = next(row for row in rows if row["method"] == "GA")
    assert (ga["over_unlearned"], ga["damaged"], ga["unforgotten"]) == (False, True, True)


def test_retrain_2_is_a_band_of_noise_and_no_ceiling():
    def three(method, weighting, *values):
        return [record(method, v, seed=s, weighting=weighting) for s, v in enumerate(values)]

    records = [
        *three("Retrain", "none", 20.0, 20.0, 20.0), *three("Retrain-2", "none", 21.0, 22.0, 23.0),
        *three("RL", "none", 20.9, 22.0, 23.1), *three("RL", "w_f", 23.0, 28.0, 23.0),
        *three("FT", "none", 80.0, 81.0, 79.0),
    ]  # fmt: skip
    (group,) = table.build([("run", records)])
    assert noise.band(group, "run").interval == pytest.approx((0.9552, 1.0), abs=1e-4)
    text = leaderboard.render([group])
    assert "FT is further from Retrain; for 2 rows neither is shown." in " ".join(
        text.split()
    )
    assert "no surprise" in text
    assert "best that" not in text
    few = table.build([("run", [r for r in records if r.seeds["unlearn"] < 2])])
    assert "second retraining no row" not in leaderboard.render(few)


def test_marks_do_not_depend_on_other_runs():
    more = [replace(r, metrics=r.metrics | {"test_acc": 99.0}) for r in BASE]
    (group,) = table.build([("a", [*BASE, record("RL", 20.0, 90.0)]), ("b", more)])
    assert group.row("RL", "a").marks == set()
