"""What says nothing: stored with the number that shows it, shown as such, and in nothing that is derived or ranked."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from loreun_bench.decorators import metric
from loreun_bench.errors import UserError
from loreun_bench.harness.measuring import Measured, measure, measured
from loreun_bench.harness.records import Record
from loreun_bench.report import byclass, leaderboard, table

KEYS = ("forget_acc", "retain_acc", "test_acc", "mia_confidence")


def record(method, seed=0, silent=(), mia=20.0, forget=50.0):
    values = dict(zip(KEYS, (forget, 99.0, 90.0, mia), strict=True)) | {"mia_attack_acc": 50.6}
    return Record(
        "classification", "digits", "small-cnn", "class-3", method, "none",
        {"split": seed, "train": seed, "unlearn": seed, "eval": seed}, metrics=values, uninformative=list(silent),
    )  # fmt: skip


MIA = ("mia_confidence",)


def rows(*records):
    (group,) = table.build([("run", records)])
    return {row.method: row for row in group.rows}


def board(*records, style="text", render=leaderboard.render):
    return render(table.build([("run", records)]), style)


def line(text, method):
    return next(each for each in text.splitlines() if each.startswith(method))


def test_a_row_whose_mia_says_nothing_has_no_gap_no_star_no_tow_mia():
    found = rows(record("Retrain"), record("RL", silent=MIA), record("FT", mia=35.0))
    cell = found["RL"].cells["mia_confidence"]
    assert cell.uninformative
    assert cell.gap is None
    assert "mia_confidence" not in found["RL"].best
    assert "mia_confidence" in found["FT"].best
    assert found["RL"].cells["tow_mia"].value.n == 0
    assert found["RL"].cells["tow"].value.n == 1
    assert found["FT"].cells["tow_mia"].value.n == 1


def test_avg_gap_goes_on_without_it_marked_and_not_against_whole_ones():
    found = rows(record("Retrain"), record("RL", silent=MIA, forget=51.5), record("FT", mia=22.0))
    assert found["RL"].cells["avg_gap"].value.mean == pytest.approx(0.5)  # 1.5, 0, 0
    assert found["RL"].cells["avg_gap"].lacks == {"mia_confidence"}
    assert found["FT"].cells["avg_gap"].value.mean == pytest.approx(0.5)  # 0, 0, 0, 2
    assert "avg_gap" in found["FT"].best
    assert "avg_gap" not in found["RL"].best


def test_where_retrains_says_nothing_nothing_is_derived_and_rows_compete_without_it():
    found = rows(record("Retrain", silent=MIA), record("RL", forget=51.0), record("FT", forget=55.0))
    assert found["RL"].cells["mia_confidence"].gap is None
    assert not found["RL"].cells["mia_confidence"].uninformative
    assert found["RL"].cells["tow_mia"].value.n == 0
    assert "avg_gap" in found["RL"].best


def test_one_seed_is_enough_to_silence_a_row():
    found = rows(*[record("Retrain", s) for s in range(3)], *[record("RL", s, MIA if s == 1 else ()) for s in range(3)])
    assert found["RL"].cells["mia_confidence"].uninformative
    assert found["RL"].cells["tow_mia"].value.n == 0


@pytest.mark.parametrize("style", ["text", "md", "latex"])
def test_it_is_printed_as_such_with_a_line_that_says_what_it_means(style):
    text = board(record("Retrain"), record("RL", silent=MIA), style=style)
    assert "20.00 ?" in text
    assert "? uninformative" in text
    assert "° computed without" in text or r"circ" in text
    assert "? uninformative" not in board(record("Retrain"), record("RL"), style=style)


def test_csv_and_json_say_so_and_hold_the_number_that_shows_it():
    (_, row) = json.loads(board(record("Retrain"), record("RL", silent=MIA), style="json"))
    assert row["uninformative"] == "mia_confidence"
    assert row["mia_confidence"] == 20.0
    assert row["mia_attack_acc"] == 50.6
    assert row["mia_confidence_gap"] is None


def test_by_class_too_and_the_average_leaves_it_out():
    other = [replace(r, scenario="class-4") for r in (record("Retrain"), record("RL", mia=30.0))]
    groups = table.build([("run", [record("Retrain"), record("RL", silent=MIA), *other])])
    text = byclass.render(groups, shown=["mia_confidence"])
    assert "20.00 ?" in line(text, "3")
    assert "30.00 (1/2)" in line(text, "average")


def test_old_records_without_the_field_are_whole():
    assert "?" not in board(record("Retrain"), record("RL")).split("A cell is")[0]


def test_a_metric_tells_counts_and_what_says_nothing():
    @metric("coin", columns={"heads": "heads", "flips": "flips"}, unit="%")
    def coin(outputs):
        """heads: percent."""
        return Measured({"heads": 50.0, "flips": 1.0}, {"heads": [1, 2]}, {"heads"})

    found = measured(["coin"], "classification", None)
    assert found.record() == {
        "metrics": {"heads": 50.0, "flips": 1.0}, "counts": {"heads": [1, 2]}, "uninformative": ["heads"]
    }  # fmt: skip
    with pytest.warns(UserWarning, match="heads = 50 says nothing"):
        assert measure(["coin"], "classification", None) == {"heads": 50.0, "flips": 1.0}


@pytest.mark.parametrize(
    "returned",
    [
        Measured({"heads": 1.0}, {"tails": [1, 2]}), Measured({"heads": 1.0}, {"heads": [3, 2]}),
        Measured({"heads": 1.0}, {"heads": [0, 0]}), Measured({"heads": 1.0}, uninformative=["tails"]), None,
        Measured({"tails": 1.0}),
    ],
)  # fmt: skip
def test_what_a_metric_tells_must_be_about_its_values(returned):
    metric("coin", columns={"heads": "heads"})(_returning(returned))
    with pytest.raises(UserError, match="metric 'coin'"):
        measured(["coin"], "classification", None)


def _returning(value):
    def coin(outputs):
        """heads: percent."""
        return value

    return coin
