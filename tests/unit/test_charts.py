"""Charts: the right numbers of the right rows, what is left out is said, and SVG that holds whatever a name is."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from loreun_bench.harness.records import Record
from loreun_bench.report import compare, table
from loreun_bench.report.charts.chart import XY, Axis, Band, DotPlot, Mark, Name, Series, Trail
from loreun_bench.report.charts.cost import cost
from loreun_bench.report.charts.draw import drawn
from loreun_bench.report.charts.effects import effects
from loreun_bench.report.charts.every import charts
from loreun_bench.report.charts.forest import forest
from loreun_bench.report.charts.labels import Boxes, spread
from loreun_bench.report.charts.losses import losses
from loreun_bench.report.charts.scale import Scale, scale
from loreun_bench.report.charts.sketch import LOOKS, WIDTH, Area, Marker, Stroke, Words, fitted, look, number, wide
from loreun_bench.report.charts.strata import QUARTILES, strata
from loreun_bench.report.charts.svg import svg
from loreun_bench.report.charts.weights import shares, weights
from loreun_bench.report.rows import Cell
from loreun_bench.report.statistics.estimate import estimate

NS = "{http://www.w3.org/2000/svg}"
CHANGES = (-1.0, 0.0, 1.0)  # of the seeds


def record(
    method, seed=0, weighting="none", forget=50.0, track="classification", status="ok", rte=1.0, weights=None, **more
):
    """A cell whose forget accuracy is `forget`, 10 from Retrain's being a ToW of 0.9."""
    ok = status == "ok"
    plain = {"forget_acc": forget, "retain_acc": 90.0, "test_acc": 80.0} if track == "classification" else {}
    return Record(
        track, "digits", "small-cnn", "class-3", method, weighting, {"split": seed, "unlearn": seed}, status,
        metrics=plain | more if ok else {}, cost={"rte_s": rte} if ok else {}, weights=weights or {},
        artifact=f"{method}{weighting}{seed}",
    )  # fmt: skip


def over_seeds(method, forget, weighting="none", **more):
    return [record(method, seed, weighting, forget + change, **more) for seed, change in enumerate(CHANGES)]


def references():
    """Retrain's forget accuracy is 50; the second Retrain's is 1 to 3 above, Original's 40 above."""
    retrain = [record("Retrain", seed, forget=50.0) for seed in range(3)]
    return [*retrain, *over_seeds("Retrain-2", 52.0), *over_seeds("Original", 90.0, rte=9.0)]


def group(*records):
    (found,) = table.build([("run", [*records])])
    return found


def series_of(chart):
    """Marks by row."""
    return {name.text: [own.marks[i] for own in chart.series if own.marks[i]] for i, name in enumerate(chart.rows)}


def half(values):
    return estimate(values).half


# ---- what charts show


def test_the_forest_shows_what_tow_lacks_of_1_with_its_interval_the_other_way_round():
    found = forest(group(*references(), *over_seeds("RL", 60.0), *over_seeds("RL", 55.0, "w_f")))
    assert (found.key, found.axis.log) == ("tow", True)
    assert [name.text for name in found.rows] == ["Original", "Retrain-2", "RL w_f", "RL"]
    assert [name.reference for name in found.rows] == [True, True, False, False]
    (mark,) = series_of(found)["RL"]
    assert mark.value == pytest.approx(0.10)
    assert (mark.low, mark.high) == (
        pytest.approx(0.10 - half([0.09, 0.10, 0.11])),
        pytest.approx(0.10 + half([0.09, 0.10, 0.11])),
    )
    assert [own.name for own in found.series] == ["unweighted", "w_f"]
    assert found.series[1].marks[2].value == pytest.approx(0.05)
    assert found.series[0].marks[2] is None


def test_the_band_is_the_second_retraining():
    found = group(*references(), *over_seeds("RL", 60.0))
    for chart in (forest(found), cost(found)):
        spread = half([0.01, 0.02, 0.03])
        assert (chart.band.low, chart.band.high) == (pytest.approx(max(0.0, 0.02 - spread)), pytest.approx(0.02 + spread))
        assert chart.band.label == "a second retraining"
    alone = group(*[r for r in references() if r.method != "Retrain-2"], *over_seeds("RL", 60.0))
    assert forest(alone).band is None
    assert "band" not in forest(alone).about


def test_of_several_runs_each_row_says_which_is_its_own_and_so_does_the_band():
    runs = [("a", [*references(), *over_seeds("RL", 60.0)]), ("b", [*references(), *over_seeds("RL", 61.0)])]
    (both,) = table.build(runs)
    found = forest(both)
    assert {"a: RL", "b: RL"} <= {name.text for name in found.rows}
    assert found.band.label == "a second retraining of a"


def test_effects_are_paired_by_seed_and_stand_method_by_method_the_better_ones_first():
    rows = [
        *references(), *over_seeds("RL", 60.0), *over_seeds("SalUn", 55.0), *over_seeds("FT", 51.0),
        *[record("RL", s, "w_f", forget) for s, forget in enumerate((54.0, 55.0, 58.0))],  # RL: 59, 60, 61
        *[record("SalUn", s, "w_f", forget) for s, forget in enumerate((55.0, 55.0, 55.0))],  # SalUn: 54, 55, 56
        *over_seeds("SalUn", 75.0, "inverted"),
    ]  # fmt: skip
    found = effects(group(*rows))
    assert [name.text for name in found.rows] == ["SalUn w_f", "SalUn inverted", "RL w_f"]
    marks = {name: mark for name, (mark,) in series_of(found).items()}
    assert marks["RL w_f"].value == pytest.approx((0.05 + 0.05 + 0.03) / 3)
    assert marks["RL w_f"].high - marks["RL w_f"].value == pytest.approx(half([0.05, 0.05, 0.03]))
    assert marks["SalUn inverted"].value == pytest.approx(-0.2)
    tested = {difference.row.name: difference for difference in compare.within(group(*rows))[0].found}
    assert {name: mark.value for name, mark in marks.items()} == {name: d.mean for name, d in tested.items()}
    assert {own.line for own in found.series} == {0.0}
    told = [name for name, difference in tested.items() if difference.shown]
    assert found.about.endswith(f"Shown with 3 comparisons counted: {', '.join(told) or 'none'}.")
    assert [own.name for own in found.series] == ["unweighted", "inverted", "w_f"]


def test_without_weightings_or_seeds_enough_there_are_no_effects():
    assert effects(group(*references(), *over_seeds("RL", 60.0))) is None
    two = [r for r in [*references(), *over_seeds("RL", 60.0), *over_seeds("RL", 55.0, "w_f")] if r.seeds["split"] < 2]
    assert effects(group(*two)) is None


def test_cost_is_seconds_against_distance():
    rows = [*references(), *[record("RL", s, forget=60.0, rte=2.0 + s) for s in range(3)], *over_seeds("UCE", 70.0, rte=0.0)]
    found = cost(group(*rows))
    trails = {trail.name.text: trail for trail in found.trails}
    assert list(trails) == ["Original", "Retrain-2", "RL"]
    ((x, y),) = trails["RL"].points
    assert (x.value, y.value) == (pytest.approx(3.0), pytest.approx(0.1))
    assert x.high == pytest.approx(3.0 + half([2.0, 3.0, 4.0]))
    assert trails["Original"].name.reference
    assert found.note == "Left out for lack of a number or of any time: UCE."
    assert (found.x.log, found.y.log) == (True, True)
    assert "Down and to the left" in found.about


def test_losses_are_by_set_retrain_first_and_its_values_are_lines():
    rows = [
        *[record("Retrain", s, forget_loss=10.0, retain_loss=0.25, test_loss=0.5) for s in range(3)],
        *[record("Original", s, forget_loss=0.1 + s, retain_loss=0.1, test_loss=0.4) for s in range(3)],
        *[record("RL", s, forget_loss=4.0, retain_loss=0.5, test_loss=math.nan) for s in range(3)],
    ]
    found = losses(group(*rows))
    assert [name.text for name in found.rows] == ["Retrain", "Original", "RL"]
    assert [(own.name, own.line) for own in found.series] == [("forget set", 10.0), ("retain set", 0.25), ("test set", 0.5)]
    assert found.series[0].marks[1].value == pytest.approx(1.1)
    assert found.series[0].marks[1].high == pytest.approx(1.1 + half([0.1, 1.1, 2.1]))
    assert [own.marks[2] and own.marks[2].value for own in found.series] == [4.0, 0.5, None]
    assert losses(group(*references())) is None
    silent = [replace(r, uninformative=["forget_loss"]) if r.method == "RL" else r for r in rows]
    assert losses(group(*silent)).series[0].marks[2] is None


def quartered(*rows, gaps):
    """A table of these records in which the metric was measured: by method, differences to Retrain seed by seed."""
    found = group(*rows)
    for row in found.rows:
        for key in QUARTILES:
            for own in row.records:
                own.metrics[key] = 0.0
            theirs = gaps.get(row.method, {}).get(key)
            row.values[key] = {seeds: 30.0 + (theirs[i] if theirs else 0.0) for i, seeds in enumerate(row.by_seeds)}
            mean = sum(theirs) / len(theirs) if theirs else None
            row.cells[key] = Cell(estimate(list(row.values[key].values())), gap=0.0 if row.method == "Retrain" else mean)
    return found


def test_strata_are_differences_to_retrain_by_quarter_in_order():
    gaps = {
        "RL": {"forget_acc_q1": [-4.0, -5.0, -6.0], "forget_acc_q4": [2.0, 2.0, 2.0]},
        "Retrain-2": {"forget_acc_q2": [1.0] * 3},
    }
    found = strata(quartered(*references(), *over_seeds("RL", 60.0), gaps=gaps))
    assert [name.text for name in found.rows] == ["Retrain-2", "RL"]
    first, second, fourth = found.series
    assert [own.name for own in found.series] == ["least loss", "2nd quarter", "greatest loss"]
    assert (first.marks[0], first.marks[1].value) == (None, pytest.approx(-5.0))
    assert first.marks[1].low == pytest.approx(-5.0 - half([-4.0, -5.0, -6.0]))
    assert (second.marks[0].value, fourth.marks[1]) == (pytest.approx(1.0), Mark(2.0, 2.0, 2.0))
    assert {own.line for own in found.series} == {0.0}
    assert found.line == "Retrain"
    assert "Original" in found.note
    assert strata(group(*references(), *over_seeds("RL", 60.0))) is None


def test_weights_are_means_over_seeds_epoch_by_epoch():
    by_seed = [[0.2, 0.6], [0.3, 0.8], [0.4, 1.0]]
    rows = [
        record("RL", s, "w_f", weights={"forget": {"effective": own, "largest": [9, 9]}}) for s, own in enumerate(by_seed)
    ]
    found = group(*references(), *rows, *over_seeds("RL", 60.0))
    chart = weights(found, "forget")
    (trail,) = chart.trails
    assert (chart.key, trail.name.text, trail.kind, chart.x.label) == ("weights-forget", "RL w_f", "w_f", "epoch")
    assert [(x.value, y.value) for x, y in trail.points] == [(1.0, pytest.approx(30.0)), (2.0, pytest.approx(80.0))]
    assert trail.points[0][1].low == pytest.approx(30.0 - half([20.0, 30.0, 40.0]))
    assert weights(found, "retain") is None


def test_of_many_epochs_the_axis_is_a_share_as_records_hold_a_sample():
    rows = [
        record("GA", 0, "w_f", weights={"forget": {"effective": [0.5] * 20}}),
        record("RL", 0, "w_f", weights={"forget": {"effective": [0.5] * 3}}),
    ]
    found = weights(group(*rows), "forget")
    assert "%" in found.x.label
    assert [[x.value for x, _ in trail.points][-1] for trail in found.trails] == [100.0, 100.0]
    assert [round(x.value) for x, _ in found.trails[1].points] == [33, 67, 100]  # an epoch's end


@pytest.mark.parametrize(
    "held", [{"forget": 3}, {"forget": {"effective": "no"}}, {"forget": {"effective": [None]}}, {"forget": {}}, {}]
)
def test_weights_that_another_version_wrote_are_no_error(held):
    assert shares(group(record("RL", 0, "w_f", weights=held)).rows[0], "forget") == []


def test_generation_is_ranked_by_h_on_a_linear_axis_beside_original():
    pictures = [
        record(method, seed, track="generation", forget_ua=ua + change, kept_acc=90.0, rte=rte)
        for method, ua, rte in (("Original", 95.0, 0.0), ("RL", 10.0, 4.0), ("FMN", 40.0, 1.0))
        for seed, change in enumerate(CHANGES)
    ]
    found = forest(group(*pictures))
    assert (found.key, found.axis.log, found.band) == ("rank", False, None)
    assert [name.text for name in found.rows] == ["Original", "RL", "FMN"]
    assert series_of(found)["RL"][0].value == pytest.approx(90.0, abs=0.1)
    assert {own.line for own in found.series} == {series_of(found)["Original"][0].value}
    assert "higher is better" in found.axis.label
    assert "harmonic mean" in found.about
    price = cost(group(*pictures))
    assert [trail.name.text for trail in price.trails] == ["RL", "FMN"]
    assert "Original" in price.note
    assert "Up and to the left" in price.about


def test_failed_seeds_are_said_and_rows_without_a_number_are_left_out():
    rows = [
        *references(), *over_seeds("RL", 60.0)[:2], record("RL", 2, status="failed"),
        *[record("GA", s, status="diverged") for s in range(3)], *over_seeds("FT", math.nan),
    ]  # fmt: skip
    found = forest(group(*rows))
    assert "RL (2 of 3 seeds)" in [name.text for name in found.rows]
    assert found.note == "Left out for lack of a number: FT, GA."
    assert all(chart.rows if isinstance(chart, DotPlot) else chart.trails for chart in charts(group(*rows)))


def test_of_one_seed_there_are_points_and_the_words_say_that_nothing_is_known_of_them():
    found = forest(group(record("Retrain"), record("RL", forget=60.0)))
    (mark,) = series_of(found)["RL"]
    assert mark.low == mark.value == mark.high
    assert "no interval is known" in found.about
    assert "95 %" not in found.about


def test_of_many_rows_the_first_60_are_drawn_and_it_is_said():
    rows = [record(f"M{i:02}", forget=51.0 + i / 3) for i in range(75)]
    found = group(record("Retrain"), *rows)
    for chart in charts(found):
        names = chart.rows if isinstance(chart, DotPlot) else [trail.name for trail in chart.trails]
        assert [name.text for name in names] == [f"M{i:02}" for i in range(60)]
        assert chart.note == "The first 60 of 75 rows."


def test_without_a_number_to_show_there_is_no_chart():
    assert charts(group(*[record("RL", s, status="failed") for s in range(3)])) == []


# ---- scales


def test_a_logarithmic_axis_has_a_floor_above_0_that_no_interval_pulls_down():
    found = scale(Axis("", log=True), [Mark(0.02, -0.1, 0.3), Mark(0.5, 1e-9, 0.9)], [0.0, 1e-6])
    assert 0.004 < found.low <= 0.02
    assert 0.9 <= found.high < 1.2
    assert [found.at(v) for v in (0.0, -1.0, found.low, found.high, 5.0)] == [0, 0, 0, 1, 1]
    assert found.beyond(0.0)
    assert not found.beyond(0.02)
    assert found.at(0.1) == pytest.approx(math.log(0.1 / found.low) / math.log(found.high / found.low))


@pytest.mark.parametrize("marks", [[Mark(0.0, 0.0, 0.0)], [Mark(3.0, 3.0, 3.0)], [Mark(1e-8, 1e-9, 1e5)]])
@pytest.mark.parametrize("log", [True, False])
def test_any_numbers_have_a_scale_and_ticks_on_it(marks, log):
    found = scale(Axis("", log), marks)
    assert found.low < found.high
    ticks = found.ticks()
    assert 1 <= len(ticks) <= 9
    assert all(not found.beyond(value) for value, _ in ticks)
    assert len({text for _, text in ticks}) == len(ticks)


@pytest.mark.parametrize(
    ("found", "texts"),
    [
        (Scale(0.4, 1.1, True), ["0.4", "0.5", "0.6", "0.8", "1"]),
        (Scale(0.002, 1.0, True), ["0.003", "0.01", "0.03", "0.1", "0.3", "1"]),
        (Scale(-12.0, 31.0, False), ["−10", "0", "10", "20", "30"]),
        (Scale(0.0, 0.3, False), ["0.00", "0.05", "0.10", "0.15", "0.20", "0.25", "0.30"]),
    ],
)  # fmt: skip
def test_ticks_are_round(found, texts):
    assert [text for _, text in found.ticks()] == texts


def test_what_an_axis_shows_in_any_case_is_on_it():
    found = scale(Axis("", shows=(90.0, 100.0)), [Mark(99.9, 99.9, 99.9)])
    assert found.low < 90 < 100 < found.high


# ---- drawings


def plot(marks, names=None, **change):
    rows = tuple(Name(text) for text in (names or [f"row {i}" for i in range(len(marks))]))
    values = {
        "key": "tow",
        "title": "T",
        "compared": "C",
        "about": "A.",
        "axis": Axis("x"),
        "rows": rows,
        "series": (Series("s", tuple(marks)),),
    }
    return DotPlot(**values | change)


def test_marks_are_where_their_values_are_and_an_end_beyond_the_axis_has_no_stop():
    sketch = drawn(plot([Mark(0.1, 0.0, 0.2), Mark(0.4, 0.3, 0.5)], axis=Axis("x", log=True), band=Band(0.0, 0.2, "B")))
    first, second = (part for part in sketch.parts if isinstance(part, Marker))
    assert first.x < second.x
    assert first.y < second.y
    bars = [part for part in sketch.parts if isinstance(part, Stroke) and part.tip]
    assert [len(bar.lines) for bar in bars] == [2, 3]
    ((start, y), (end, _)) = bars[0].lines[0]
    assert start < first.x < end
    assert y == first.y
    band = next(part for part in sketch.parts if isinstance(part, Area) and part.tip)
    assert (band.x, band.x + band.width) == (start, pytest.approx(end))


def test_a_reference_is_grey_and_lines_of_series_keep_their_looks():
    rows = (Name("Retrain", True), Name("RL"))
    several = tuple(Series(f"set {i}", (Mark(i, i, i), Mark(i + 1, i, i + 2)), float(i)) for i in range(2))
    found = drawn(plot([], rows=rows, series=several, line="Retrain")).parts
    markers = [(part.look, part.shape) for part in found if isinstance(part, Marker) and part.tip]
    assert markers == [("reference", 0), ("reference", 1), ("s0", 0), ("s1", 1)]
    assert [part.look for part in found if isinstance(part, Stroke) and part.tip.startswith("Retrain:")] == ["s0", "s1"]
    same = tuple(replace(own, line=0.0) for own in several)
    found = drawn(plot([], rows=rows, series=same, line="Retrain")).parts
    assert [part.look for part in found if isinstance(part, Stroke) and part.tip.startswith("Retrain:")] == ["quiet"]


def boxes(parts):
    lefts = {"start": 0.0, "middle": 0.5, "end": 1.0}
    for part in parts:
        if isinstance(part, Words):
            left = part.x - lefts[part.anchor] * wide(part.text, part.size)
            yield part.text, (left, part.y - 0.75 * part.size, left + wide(part.text, part.size), part.y + 0.2 * part.size)


def crowd(count, points=1, name="method number"):
    trails = tuple(
        Trail(
            Name(f"{name} {i}"),
            f"k{i % 9}",
            tuple((Mark(k + 1.0, 0.5, 2), Mark(1 + i % 5 / 50, 1, 1.2)) for k in range(points)),
        )
        for i in range(count)
    )
    return XY(
        "rte",
        "T",
        "C",
        "A.",
        Axis("seconds", log=True),
        Axis("distance", log=True),
        tuple(f"k{i}" for i in range(9)),
        trails,
    )


@pytest.mark.parametrize(
    "chart",
    [
        crowd(40), crowd(60, 3), crowd(2, 3), crowd(50, 2, "x" * 90), plot([Mark(1, 0, 3)] * 60),
        plot([Mark(i, 0, 3e-7) for i in range(3)], ["long " * 40, "方" * 60, "a"]),
        plot([Mark(i, 0, 3) for i in range(60)], series=tuple(Series(f"name {k}", (Mark(k, k, k),) * 60) for k in range(9))),
    ],
)  # fmt: skip
def test_no_words_overlap_and_none_leave_the_sheet(chart):
    sketch = drawn(chart)
    found = list(boxes(sketch.parts))
    for i, (text, (left, top, right, bottom)) in enumerate(found):
        assert left >= 0, text
        assert right <= WIDTH + 6, text
        assert 0 <= top < bottom <= sketch.height, text
        for other, box in found[:i]:
            assert not (left < box[2] and box[0] < right and top < box[3] and box[1] < bottom), (text, other)


def test_names_without_room_are_counted():
    texts = [part.text for part in drawn(crowd(40)).parts if isinstance(part, Words)]
    named = [text for text in texts if text.startswith("method")]
    (said,) = [text for text in texts if text.endswith("for lack of room")]
    assert 0 < len(named) < 40
    assert said.startswith(f"{40 - len(named)} rows")
    assert sum(part.text.startswith("method") for part in drawn(crowd(40, 3)).parts if isinstance(part, Words)) == 40


@pytest.mark.parametrize("points", [1, 3])
def test_of_a_plane_less_is_below_and_left_and_references_are_grey(points):
    ends = ((1.0, 8.0, True), (5.0, 2.0, False))
    trails = tuple(
        Trail(Name(f"r{x:g}", reference), "a", tuple((Mark(x + k, x + k, x + k), Mark(y, y, y)) for k in range(points)))
        for x, y, reference in ends
    )
    sketch = drawn(XY("rte", "T", "C", "A.", Axis("x"), Axis("y"), ("a",), trails, Band(1.0, 3.0, "B")))
    found = {part.tip.split(":")[0].split(",")[0]: part for part in sketch.parts if isinstance(part, Marker)}
    grey, coloured = found["r1"], found["r5"]
    assert grey.x < coloured.x
    assert grey.y < coloured.y
    assert (grey.look, coloured.look) == ("reference", "s0")
    band = next(part for part in sketch.parts if isinstance(part, Area) and part.tip)
    assert grey.y < band.y < coloured.y < band.y + band.height
    joined = [part.lines for part in sketch.parts if isinstance(part, Stroke) and part.tip]
    assert [len(line) for (line,) in joined] == ([] if points == 1 else [points, points])


def test_labels_keep_their_distance():
    places = spread([5.0, 5.0, 6.0, 40.0], 10.0, 0.0, 45.0)
    assert places == [5.0, 15.0, 25.0, 40.0]
    assert spread([44.0, 45.0], 10.0, 0.0, 45.0) == [35.0, 45.0]
    taken = Boxes(0, 0, 100, 100)
    assert taken.place(50, 50, "abc", 10)[0] > 50
    assert taken.place(50, 50, "abc", 10)[0] < 50
    assert taken.place(50, 50, "x" * 30, 10) is None


def test_looks_are_told_apart_by_shape_where_colours_come_again():
    assert len({look(i) for i in range(49)}) == 49
    assert len({look(i)[1] for i in range(7)}) == 7
    assert (number(0.000012345), number(-3.0), number(123456.7)) == ("1.234e−05", "−3", "123457")
    assert fitted("abcdefgh", wide("abcd")) == "abc…"


# ---- SVG

HOSTILE = "<script>alert(1)</script>]]><b a=\"x\" onload='y'>&amp;\x00\x1b\u202e\ud800"


def elements(text):
    return [element.tag.removeprefix(NS) for element in ElementTree.fromstring(text).iter()]


def test_svg_holds_hostile_names_as_text_and_no_style():
    rows = [replace(r, method=HOSTILE) if r.method == "RL" else r for r in [*references(), *over_seeds("RL", 60.0)]]
    rows += [replace(r, weighting=HOSTILE, scenario="class-3") for r in over_seeds("GA", 60.0, "w_f")]
    for r in rows:
        r.metrics.update(forget_loss=1.0)
        r.weights.update(forget={"effective": [0.5, 0.6]})
    found = charts(replace(group(*rows), dataset=HOSTILE))
    assert [chart.key for chart in found] == ["tow", "rte", "loss", "weights-forget"]
    for chart in found:
        text = svg(chart)
        assert set(elements(text)) <= {"svg", "title", "desc", "g", "text", "rect", "path", "circle"}
        assert not re.search(r"<[^>]*\s(style|on\w+|href)\s*=", text)
        assert "script" not in elements(text)
        assert all(c.isprintable() for c in text)
        root = ElementTree.fromstring(text)
        assert any("<script>alert(1)" in (each.text or "") for each in root.iter(f"{NS}title"))
        named = [each.text for each in root.iter(f"{NS}text")]
        assert any(text.startswith("<script>") for text in named), named


def test_svg_of_a_chart_that_somebody_else_made_is_well_formed_too():
    text = svg(
        plot(
            [Mark(1.0, 0.5, 2.0)],
            [HOSTILE],
            key='"><x',
            title=HOSTILE,
            about=HOSTILE,
            compared=HOSTILE,
            note=HOSTILE,
            axis=Axis(HOSTILE),
        )
    )
    assert set(elements(text)) <= {"svg", "title", "desc", "g", "text", "rect", "path", "circle"}


def test_svg_says_what_it_is_and_every_mark_says_its_numbers():
    chart = plot([Mark(0.1, 0.05, 0.2), Mark(2.0, 2.0, 2.0)], ["RL w_f", "GA"], note="N.")
    root = ElementTree.fromstring(svg(chart))
    label, described = root.get("aria-labelledby").split()
    ids = {each.get("id"): each.text for each in root.iter() if each.get("id")}
    assert (ids[label], ids[described], root.get("role")) == ("T: C", "A. N.", "img")
    tips = [each.text for each in root.iter(f"{NS}title")]
    assert "RL w_f: 0.1 [0.05, 0.2]" in tips
    assert "GA: 2" in tips
    other = ElementTree.fromstring(svg(replace(chart, compared="D")))
    assert other.get("aria-labelledby") != root.get("aria-labelledby")
    classes = {each.get("class"): (each.get("fill"), each.get("stroke")) for each in root.iter() if each.get("class")}
    assert {"ink", "quiet", "s0"} <= set(classes) <= set(LOOKS)
    assert all(classes[name] == (LOOKS[name],) * 2 for name in classes)


def test_svg_of_40_rows_is_small():
    marks = tuple(Mark(i / 7, i / 9, i / 5) for i in range(40))
    names = [f"SCRUB+R w_f+w_r {i}" for i in range(40)]
    wide_one = plot(marks, names, series=tuple(Series(name, marks, 1.0) for name in QUARTILES.values()))
    assert len(svg(plot(marks, names)).encode()) < 25_000
    assert len(svg(wide_one).encode()) < 60_000
    for chart in (crowd(40), crowd(40, 20)):
        assert len(svg(chart).encode()) < 60_000


def test_an_axis_of_epochs_names_no_half_epoch():
    epochs = [Mark(float(k), float(k), float(k)) for k in (1, 2)]
    assert [text for _, text in scale(Axis("epoch", whole=True), epochs).ticks()] == ["1", "2"]
    assert len(scale(Axis("epoch"), epochs).ticks()) > 2


@pytest.mark.parametrize(("rows", "bars"), [(20, 20), (30, 0)])
def test_in_a_crowd_points_have_no_intervals_and_the_words_say_where_these_are(rows, bars):
    records = [record(f"M{k}", seed, forget=50.0 + k + seed, rte=1.0 + k) for k in range(rows) for seed in range(3)]
    chart = cost(group(*records, *(record("Retrain", seed, forget=50.0) for seed in range(3))))
    assert sum(isinstance(part, Stroke) and part.faint for part in drawn(chart).parts) == bars
    assert ("the first chart has their intervals" in chart.about) == (not bars)


def test_a_logarithmic_axis_names_0_where_a_value_is():
    found = scale(Axis("", log=True), [Mark(0.0, 0.0, 0.0), Mark(0.02, 0.01, 0.03), Mark(0.5, 0.4, 0.6)])
    assert found.zero
    assert found.at(0.0) == 0
    assert found.at(0.01) > 0.1  # apart from what is small
    assert found.ticks()[0] == (found.low, "0")
    assert all(found.at(value) > 0.05 for value, _ in found.ticks()[1:])


def test_an_axis_on_which_all_is_0_is_no_logarithmic_one():
    found = scale(Axis("", log=True), [Mark(0.0, 0.0, 0.0)])
    assert (found.log, found.at(0.0)) == (False, 0.5)
    assert "0" in [text.strip("−0.") or "0" for _, text in found.ticks()]
