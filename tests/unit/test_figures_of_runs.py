"""The verb `figures` on runs of both tracks: every chart of every table is a file, with its words and marks."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers import refused

from loreun_bench.harness.records import Record, append
from loreun_bench.report.charts.chart import Axis, Band, DotPlot, Mark, Name, Series
from loreun_bench.report.figures import plot
from loreun_bench.report.figures.style import COLOURS, REFERENCE, save

pytest.importorskip("matplotlib", reason="the extra `plots` is not installed")


def record(track, method, seed, weighting="none", scenario="class-3", **metrics):
    weights = {"forget": {"effective": [0.9, 0.8 + seed / 20]}} if weighting != "none" else {}
    return Record(
        track, "digits", "m", scenario, method, weighting, {"unlearn": seed, "eval": seed}, metrics=metrics,
        cost={"rte_s": 1.0 + seed}, weights=weights, artifact=f"{method}{weighting}{seed}", evaluation="0" * 64,
    )  # fmt: skip


def classified(method, seed, forget, weighting="none", **more):
    losses = {"forget_loss": 0.5, "retain_loss": 0.1, "test_loss": 0.2}
    return record(
        "classification",
        method,
        seed,
        weighting,
        forget_acc=forget + (method != "Retrain") * seed,
        retain_acc=99.0,
        test_acc=90.0,
        **losses,
        **more,
    )


@pytest.fixture
def run(tmp_path):
    """Makes a run folder of a track."""

    def make(track, scenarios=("class-3",)):
        if track == "classification":
            rows = [
                classified(method, seed, forget, weighting, scenario=scenario)
                for scenario in scenarios
                for seed in range(3)
                for method, weighting, forget in (
                    ("Retrain", "none", 50), ("Retrain-2", "none", 51), ("Original", "none", 99),
                    ("RL", "none", 60), ("RL", "w_f", 55),
                )
            ]  # fmt: skip
        else:
            rows = [
                record(track, method, seed, weighting, scenario, forget_ua=ua + seed, kept_acc=90.0)
                for scenario in scenarios
                for seed in range(3)
                for method, weighting, ua in (("Original", "none", 90), ("RL", "none", 9), ("RL", "w_f", 5))
            ]
        append(tmp_path / "run" / "records.jsonl", rows)
        return tmp_path / "run"

    return make


@pytest.fixture
def sheets(monkeypatch):
    """The figures that are saved."""
    seen = {}

    def keep(drawn, path):
        seen[path.name] = drawn
        return save(drawn, path)

    monkeypatch.setattr(plot, "save", keep)
    return seen


def words(sheet):
    (axes,) = sheet.axes
    return [text.get_text() for text in axes.texts]


def markers(sheet):
    """(colour, shape) of each marker."""
    (axes,) = sheet.axes
    return [(line.get_color(), line.get_marker()) for line in axes.lines]


@pytest.mark.parametrize(
    ("track", "keys"),
    [
        ("classification", ["tow", "effects", "rte", "loss", "weights-forget"]),
        ("generation", ["rank", "effects", "rte", "weights-forget"]),
    ],
)
def test_every_chart_of_either_track_is_a_file(run, sheets, command, track, keys, tmp_path):
    code, out, err = command("figures", run(track), "--out", tmp_path / "figures")
    assert code == 0, err
    paths = [tmp_path / "figures" / f"class-3-{key}.png" for key in keys]
    assert out.splitlines() == [str(path) for path in paths]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    missing = "note: the store has no scored pictures"
    assert err.startswith(missing) if track == "generation" else err == ""
    for sheet in sheets.values():
        assert "digits, m, class-3, 3 seeds, protocol corrected" in words(sheet)


def test_a_chart_has_its_rows_its_colours_and_its_words(run, sheets, command):
    assert command("figures", run("classification"))[0] == 0
    forest = sheets["class-3-tow.png"]
    assert [text for text in words(forest) if text in ("Original", "Retrain", "Retrain-2", "RL w_f", "RL")] == [
        "Original", "Retrain-2", "RL w_f", "RL",
    ]  # fmt: skip
    assert {
        "Distance to Retrain",
        "1 − ToW: distance to Retrain, 0 is best",
        "a second retraining",
        "unweighted",
        "w_f",
    } <= set(words(forest))
    legend, rows = markers(forest)[:2], markers(forest)[2:]
    assert legend == [(COLOURS[0], "o"), (COLOURS[1], "s")]
    assert rows == [(REFERENCE, "o"), (REFERENCE, "o"), (COLOURS[1], "s"), (COLOURS[0], "o")]
    assert {"RTE: time of unlearning (seconds)", "RL w_f", "Original"} <= set(words(sheets["class-3-rte.png"]))
    assert {"forget set", "retain set", "test set", "Retrain"} <= set(words(sheets["class-3-loss.png"]))
    assert "epoch" in words(sheets["class-3-weights-forget.png"])


def test_what_is_above_in_the_chart_is_above_in_the_file(tmp_path, sheets):
    """matplotlib's y goes up, a sheet's down."""
    rows = (Name("first"), Name("last"))
    series = (Series("s", (Mark(1.0, 1.0, 1.0), Mark(2.0, 1.5, 2.5))),)
    chart = DotPlot("tow", "Title", "C", "About.", Axis("x"), rows, series, Band(1.0, 1.2, "B"), note="Note.")
    plot.plot(chart, tmp_path / "c.png")
    (axes,) = sheets["c.png"].axes
    places = {text.get_text(): axes.transData.transform(text.get_position())[1] for text in axes.texts}
    order = ["Title", "C", "B", "first", "last", "x", "About. Note."]
    assert sorted(order, key=lambda text: -places[text]) == order
    first, last = (line.get_xydata()[0] for line in axes.lines)
    name = next(text for text in axes.texts if text.get_text() == "first")
    assert abs(first[1] - name.get_position()[1]) < 8
    assert first[0] < last[0]


def test_each_table_has_its_own_files(run, command, tmp_path):
    where = run("classification", ("class-a/b", "class-a-b"))
    code, out, _ = command("figures", where, "--out", tmp_path / "f", "--format", "svg")
    assert code == 0
    assert len(set(out.splitlines())) == 10
    assert {path.name for path in (tmp_path / "f").iterdir()} >= {"class-a-b-tow.svg", "class-a-b-2-tow.svg"}


@pytest.mark.parametrize(("style", "begins"), [("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_other_formats(run, command, style, begins):
    where = run("generation")
    assert command("figures", where, "--format", style)[0] == 0
    assert (where / "figures" / f"class-3-rank.{style}").read_bytes().startswith(begins)


def test_what_cannot_be_drawn_is_one_line(run, command, tmp_path):
    refused(command("figures", run("classification"), "--format", "jpg"), "it must end in .png, .pdf or .svg")
    append(tmp_path / "none" / "records.jsonl", [replace(classified("RL", 0, 50), status="failed", metrics={}, cost={})])
    refused(command("figures", tmp_path / "none"), "nothing to draw: no row of")
    append(tmp_path / "gone" / "records.jsonl", [record("generation", "RL", 0)])
    refused(command("figures", tmp_path / "gone"), "the store has no scored pictures of")
    refused(command("figures", tmp_path / "empty"), "no records in")


def test_names_are_no_mathematics(tmp_path, sheets):
    chart = DotPlot("tow", "$x", "C$", "A.", Axis("$\\frac"), (Name("$RL$ $\\x$"),), (Series("", (Mark(1.0, 0.5, 2.0),)),))
    plot.plot(chart, tmp_path / "c.png")
    assert "$RL$ $\\x$" in words(sheets["c.png"])
