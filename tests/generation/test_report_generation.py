"""The tables of the generation track: its own columns, order and notes, and LoReUn's Table 2 by class."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from loreun_bench import decorators, registry
from loreun_bench.errors import UserError
from loreun_bench.generation.metrics.h import h
from loreun_bench.harness.records import Record, append
from loreun_bench.report import byclass, leaderboard, table

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "loreun_table2.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def metrics():
    """Metrics of this test's own, so that it does not depend on which are installed; ours are back afterwards."""
    own = registry.registry("metrics", "generation")
    saved, read = own._entries, own._read
    own._entries, own._read = {}, True

    def register(name, columns, unit, best, words, span=None):
        def function(scene):
            return {}

        function.__doc__, function.__qualname__ = words, name
        decorators.metric(name, columns=columns, unit=unit, best=best, track="generation", span=span)(function)

    ways = {"forget_ua": "low", "kept_acc": "high"}
    words = "UA: the forgotten, still recognised. kept: the others, recognised."
    register("ua", {"forget_ua": "UA", "kept_acc": "kept"}, "%", ways, words)
    decorators.metric("h", columns={"h": "H"}, best="high", track="generation")(h)
    register("fd", {"fd": "FD"}, "", "low", "FD: Fréchet distance.", (0, math.inf))
    register("fid", {"fid": "FID"}, "", "low", "FID: Fréchet distance on FID-Inception.")
    register("kid", {"kid": "KID"}, "", "low", "KID: kernel distance.")
    words = "nude: pictures that NudeNet flags."
    register("nude", {"nude_images": "nude", "nude_detections": "parts"}, "", "low", words, (0, math.inf))
    yield register
    own._entries, own._read = saved, read


def record(method, seed=0, weighting="none", status="ok", scenario="class-church", rte=1.0, environment=None, **metrics):
    return Record(
        "generation", "digits", "digits", scenario, method, weighting,
        {"train": 0, "unlearn": seed, "eval": seed}, status, metrics=metrics if status == "ok" else {},
        cost={"rte_s": rte, "cpu_s": rte} if status == "ok" else {}, reason="" if status == "ok" else "it broke",
        environment={"device": "cpu"} | (environment or {}), artifact=f"{method}{weighting}{seed}{scenario}",
    )  # fmt: skip


def group(*records, **options):
    (only,) = table.build([("run", records)], **options)
    return only


def board(*records, style="text", **options):
    return leaderboard.render(table.build([("run", records)]), style, **options)


def by_class(records, style="text", **options):
    return byclass.render(table.build([("run", records)]), style, **options)


def parse(text):
    return list(csv.DictReader(io.StringIO(text)))


BASIC = (
    record("Original", forget_ua=98.0, kept_acc=97.0, fd=0.5),
    record("RL", forget_ua=2.0, kept_acc=90.0, fd=3.0),
    record("SalUn", forget_ua=0.0, kept_acc=95.0, fd=4.0),
    record("ESD", forget_ua=0.0, kept_acc=80.0, fd=2.0),
)


def test_only_the_columns_that_were_measured_are_shown_and_the_track_decides_which():
    assert [c.key for c in group(*BASIC).choose()] == ["forget_ua", "kept_acc", "h", "fd"]
    text = board(*BASIC)
    assert "kept_acc_low" not in text
    assert "FID ↓" not in text
    assert [c.key for c in group(record("RL", nude_images=3.0, nude_detections=7.0)).choose()] == [
        "nude_images", "nude_detections",
    ]  # fmt: skip


def test_the_order_is_by_what_is_forgotten_and_kept_then_by_distance_and_original_stands_first():
    assert [row.method for row in group(*BASIC).rows] == ["Original", "SalUn", "RL", "ESD"]
    assert group(*BASIC).rows[1].values["h"] == {(("eval", 0), ("train", 0), ("unlearn", 0)): pytest.approx(190 / 1.95)}
    alone = [record(row.method, forget_ua=row.metrics["forget_ua"], fd=row.metrics["fd"]) for row in BASIC]
    assert [row.method for row in group(*alone).rows] == ["Original", "ESD", "SalUn", "RL"]
    assert [row.method for row in group(*BASIC, sort="kept_acc").rows] == ["Original", "SalUn", "RL", "ESD"]
    concept = [record("RL", nude_images=9.0, fd=1.0), record("ESD", nude_images=2.0, fd=5.0)]
    assert [row.method for row in group(*concept).rows] == ["ESD", "RL"]


def test_best_is_low_or_high_as_the_metric_says_ties_share_it_and_original_is_never_best():
    rows = {row.method: row.best for row in group(*BASIC).rows}
    assert rows == {"Original": set(), "ESD": {"forget_ua", "fd"}, "SalUn": {"forget_ua", "kept_acc", "h"}, "RL": set()}


def test_a_row_with_a_failed_seed_is_not_best_and_comes_last():
    more = [replace(one, seeds={"train": 0, "unlearn": 1, "eval": 1}) for one in BASIC if one.method != "ESD"]
    found = group(*BASIC, *more, record("ESD", 1, status="diverged"))
    assert [row.method for row in found.rows] == ["Original", "SalUn", "RL", "ESD"]
    assert not found.rows[-1].best
    assert "failed: ESD none, seed 1: diverged, it broke" in board(*BASIC, record("ESD", 1, status="diverged"))


def test_there_are_no_gaps_and_headings_say_which_way_is_better():
    text = board(*BASIC, record("Retrain", forget_ua=0.0, kept_acc=97.0, fd=0.4))
    table_part = text[text.index("method ") : text.index("A cell is")]
    assert "(" not in table_part
    assert "UA ↓" in table_part
    assert "kept ↑" in table_part


def test_ua_as_salun_prints_it_flips_the_value_and_the_arrow():
    text = board(*BASIC, ua="salun")
    assert "UA (100-FA) ↑" in text
    assert next(line.split()[2] for line in text.split("\n") if line.startswith("RL ")) == "98.00"
    assert "100 minus the share" in text
    assert board(record("RL", nude_images=1.0), ua="salun").count("UA (100-FA)") == 0


@pytest.mark.parametrize("style", ["text", "md", "latex"])
def test_the_notes_are_those_of_this_track(style):
    text = board(*BASIC, style=style)
    for said in (
        "No Retrain exists here", "share prompts, seeds and initial latents", "least UA, distance or count",
        "reference-loss curve and mask included", "sampling and scoring are left out", "It is not FID",
        "UA: the forgotten, still recognised.", "the network that the evaluation's files name",
    ):  # fmt: skip
        assert said in text, said
    assert "closest to Retrain" not in text
    assert "Retrain-2" not in text
    assert all(line.startswith("%") or "↓" not in line for line in text.splitlines()) or style != "latex"


def test_the_networks_are_named_where_records_name_them():
    about = {"extractor": "small-cnn-features", "classifier": "ResNet-50 V2"}
    text = board(record("RL", forget_ua=1.0, fd=2.0, environment=about))
    assert "on the features of small-cnn-features." in text
    assert "The classifier: ResNet-50 V2." in text


def test_a_metric_whose_file_is_not_installed_is_no_error():
    found = group(record("RL", forget_ua=1.0, clip_score=31.5), record("ESD", forget_ua=2.0, clip_score=30.0))
    assert all("clip_score" not in row.best for row in found.rows)
    text = board(*[r for row in found.rows for r in row.records], shown=["forget_ua", "clip_score"])
    assert "31.5" in text
    assert "clip_score: of a metric that is not installed" in text
    (row, _) = json.loads(board(*found.rows[0].records, *found.rows[1].records, style="json"))
    assert row["clip_score"] == 31.5
    with pytest.raises(UserError, match="did you mean 'clip_score'"):
        found.choose(["clip_scor"])


def test_counts_are_whole_and_distances_keep_digits_when_they_are_small():
    text = board(record("RL", nude_images=12.0, fd=0.01234))
    assert " *12 " in text
    assert "0.0123" in text
    assert "1.23" in board(record("RL", fd=1.2345))
    assert "12.5" in board(record("RL", 0, nude_images=12.0), record("RL", 1, nude_images=13.0))


def test_both_tracks_in_one_run_keep_their_own_notes():
    other = Record(
        "classification", "digits", "small-cnn", "random-10%", "RL", "none", {"unlearn": 0}, metrics={"forget_acc": 5.0}
    )
    text = leaderboard.render(table.build([("run", [*BASIC, other])]))
    assert "closest to Retrain" in text
    assert "No Retrain exists here" in text


def paper_records():
    for name, row in GOLDEN["classes"].items():
        for variant, (ua, fid) in row.items():
            method, weighting = GOLDEN["variants"][variant]
            yield record(method, 0, weighting, scenario=f"class-{name.lower()}", forget_ua=ua, fid=fid)


def test_table_2_of_the_paper_comes_out_as_printed():
    text = by_class(list(paper_records()), "csv")
    names = {tuple(v): k for k, v in GOLDEN["variants"].items()}
    rows = parse(text)
    assert len(rows) == 66
    for row in rows:
        variant = names[row["method"], row["weighting"]]
        ua, fid = float(row["forget_ua"]), float(row["fid"])
        if row["scenario"] != "average":
            name = next(n for n in GOLDEN["classes"] if n.lower() == row["scenario"].removeprefix("class-"))
            assert [ua, fid] == GOLDEN["classes"][name][variant]
        else:
            printed = GOLDEN["average"][variant]
            assert round(ua, 2) == printed[0]
            assert math.floor(100 * fid + 1e-9) / 100 == printed[1]  # the paper cuts: 1.496 is printed as 1.49
            assert (row["forget_ua_classes"], row["fid_classes"]) == ("10", "10")


def test_table_2_shows_what_the_paper_claims():
    lines = by_class(list(paper_records())).splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("forgotten"))
    assert re.split(r"\s{2,}", lines[head])[1::2] == ["ESD", "FMN", "LoReUn w_f", "LoReUn w_r", "LoReUn w_f+w_r", "SalUn"]
    assert lines[head + 1].split() == ["UA", "↓", "FID", "↓"] * 6
    tench = next(line for line in lines if line.startswith("tench"))
    assert " ".join(tench.split()[1:]) == "0.60 *1.22 57.60 1.63 *0.00 1.77 *0.00 1.36 *0.00 1.48 *0.00 2.53"
    average = next(line for line in lines if line.startswith("average"))
    assert " ".join(average.split()[1:]) == "0.60 1.50 57.46 1.30 *0.00 *1.06 0.04 1.21 *0.00 1.25 0.18 1.22"


def test_by_class_in_latex_and_markdown_is_whole():
    latex = by_class(list(paper_records()), "latex")
    assert r"\multicolumn{2}{c}{LoReUn w\_f+w\_r}" in latex
    assert r"\cmidrule(lr){12-13}" in latex
    body = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert len(body) == 13
    assert {line.count("&") for line in body[1:]} == {12}
    assert latex.splitlines()[latex.splitlines().index(r"\midrule") - 1].lstrip().startswith("forgotten")
    lines = latex.splitlines()
    last = next(i for i, line in enumerate(lines) if line.lstrip().startswith("average"))
    assert lines[last - 1] == r"\midrule"
    assert lines[last + 1] == r"\bottomrule"
    assert all(line.startswith("%") or not set("↓↑±") & set(line) for line in lines)
    md = [line for line in by_class(list(paper_records()), "md").splitlines() if line.startswith("|")]
    assert len(md) == 13
    assert {line.count("|") for line in md} == {14}
    assert "LoReUn w_f<br>UA ↓" in md[0]


def test_by_class_with_a_single_scenario_works_and_its_average_is_the_row():
    rows = parse(by_class(BASIC, "csv"))
    assert [(r["scenario"], r["method"], r["fd"]) for r in rows] == [
        ("class-church", "Original", "0.5"), ("class-church", "ESD", "2.0"), ("class-church", "RL", "3.0"),
        ("class-church", "SalUn", "4.0"), ("average", "Original", "0.5"), ("average", "ESD", "2.0"),
        ("average", "RL", "3.0"), ("average", "SalUn", "4.0"),
    ]  # fmt: skip
    text = by_class(BASIC)
    assert "1 forgotten one by one" in text
    assert "RTE" not in text


def test_an_average_over_fewer_classes_says_so_and_is_never_best():
    records = [
        *BASIC,
        record("RL", scenario="class-horn", forget_ua=1.0, fd=1.0),
        record("ESD", scenario="class-horn", forget_ua=3.0, fd=9.0),
    ]
    text = by_class(records)
    average = next(line for line in text.splitlines() if line.startswith("average"))
    assert "0.00 (1/2)" in average
    assert "*0.00 (1/2)" not in average
    assert "*1.50" in average
    assert "5.50" in average
    assert "*2.00" in average


def test_a_class_of_which_a_seed_failed_keeps_the_average_from_being_best():
    records = [
        record("RL", scenario="class-horn", forget_ua=0.0), record("RL", 1, status="oom", scenario="class-horn"),
        record("ESD", scenario="class-horn", forget_ua=5.0), record("ESD", 1, scenario="class-horn", forget_ua=5.0),
    ]  # fmt: skip
    found = byclass.build(table.build([("run", records)]))[0]
    assert not found.average[("run", "RL", "none"), "forget_ua"].best
    assert found.average[("run", "ESD", "none"), "forget_ua"].best
    assert "failed: RL none, seed 1: oom" in by_class(records)


def test_a_class_without_a_value_is_not_counted_as_nought():
    records = [*BASIC, record("RL", scenario="class-horn", status="oom"), record("ESD", scenario="class-horn", fd=9.0)]
    average = byclass.build(table.build([("run", records)]))[0].average
    found = average[("run", "RL", "none"), "fd"]
    assert (found.value.mean, found.n) == (3.0, 1)
    assert average[("run", "ESD", "none"), "fd"].value.mean == 5.5


def test_original_is_shown_first_and_never_best():
    (found,) = byclass.build(table.build([("run", BASIC)]), ["kept_acc", "fd"])
    assert found.variants[0] == ("run", "Original", "none")
    assert not found.average[("run", "Original", "none"), "fd"].best
    assert found.average[("run", "ESD", "none"), "fd"].best
    assert found.average[("run", "SalUn", "none"), "kept_acc"].best


def test_the_interval_of_an_average_is_over_seeds_not_over_classes():
    records = [
        record("RL", seed, scenario=f"class-{name}", forget_ua=base + seed)
        for seed in (0, 1, 2)
        for name, base in (("church", 0.0), ("horn", 50.0))
    ]
    found = byclass.build(table.build([("run", records)]))[0].average[("run", "RL", "none"), "forget_ua"].value
    assert (found.mean, found.n) == (26.0, 3)
    assert found.half == pytest.approx(4.302652729911275 / math.sqrt(3))
    uneven = byclass.build(table.build([("run", records[:-1])]))[0].average[("run", "RL", "none"), "forget_ua"].value
    assert math.isnan(uneven.half)


def test_fd_stands_in_where_there_is_no_fid():
    assert "FD ↓" in by_class(BASIC)
    assert "FID ↓" not in by_class(BASIC)
    assert "kept ↑" in by_class(BASIC, shown=["kept_acc"])
    with pytest.raises(UserError, match="did you mean 'kept_acc'"):
        by_class(BASIC, shown=["kept_ac"])


def test_the_command_line_has_the_order_of_the_track_and_the_flag(tmp_path, command):
    append(tmp_path / "run" / "records.jsonl", BASIC)
    code, out, err = command("leaderboard", tmp_path / "run")
    assert (code, err) == (0, "")
    assert out.index("SalUn") < out.index("RL ") < out.index("ESD")
    code, out, _ = command("leaderboard", tmp_path / "run", "--by-class", "--format", "md")
    assert code == 0
    assert "| average" in out
    code, _, err = command("leaderboard", tmp_path / "run", "--sort", "tow")
    assert code == 2
    assert "unknown column 'tow'" in err
    code, _, err = command("leaderboard", tmp_path / "run", "--by-class", "--columns", "fdd", "--format", "csv")
    assert (code, "did you mean 'fd'" in err) == (2, True)
    code, _, err = command("leaderboard", tmp_path / "run", "--columns", "fdd", "--format", "csv")
    assert (code, "did you mean 'fd'" in err) == (2, True)


def test_what_was_measured_otherwise_is_another_table():
    few, many = {"pictures a class": 4, "guidance": 3.0}, {"pictures a class": 8, "guidance": 3.0}
    runs = [(str(n), [record("RL", forget_ua=1.0), record("Original", forget_ua=9.0)]) for n in (0, 1)]
    for (_, records), conditions in zip(runs, (few, many), strict=True):
        for one in records:
            one.conditions.update(conditions)
    assert [g.conditions for g in table.build(runs)] == [few, many]
    text = leaderboard.render(table.build(runs))
    assert "4 pictures a class, 3.0 guidance" in text
    assert "8 pictures a class" in text
    assert len(byclass.build(table.build(runs))) == 2
    cut = [("2", [replace(one, limits={"steps": 2}) for one in runs[0][1]])]
    assert len(byclass.build(table.build([runs[0], *cut]))) == 2


def test_the_original_is_measured_on_pictures_of_its_own_for_every_seed():
    rows = [replace(record("Original", seed, fd=float(seed)), artifact="given", evaluation=str(seed)) for seed in range(3)]
    assert group(*rows).rows[0].cells["fd"].value.half == pytest.approx(2.484, abs=1e-3)
    same = [replace(row, evaluation="one") for row in rows]
    assert math.isnan(group(*same).rows[0].cells["fd"].value.half)
    unlearned = [replace(row, method="RL") for row in rows]  # one model, measured three times
    assert math.isnan(group(*unlearned).rows[0].cells["fd"].value.half)


def test_a_share_has_its_exact_interval_where_seeds_say_nothing():
    rows = [replace(record("RL", seed, forget_ua=0.0), counts={"forget_ua": [0, 20]}) for seed in range(3)]
    shown = leaderboard.render([group(*rows)])
    assert "0.00 [0.0, 6.0]" in shown
    assert "with [low, high] where" in shown
    assert "100.00 [94.0, 100.0]" in leaderboard.render([group(*rows)], ua="salun")
    assert "0.00 [0.0, 16.8]" in byclass.render([group(rows[0])])
    again = [replace(row, evaluation="the same pictures") for row in rows]
    assert "0.00 [0.0, 16.8]" in leaderboard.render([group(*again)])
    apart = [*rows[:2], replace(record("RL", 2, forget_ua=5.0), counts={"forget_ua": [1, 20]})]
    assert "1.67 [0.0, 8.9]" in leaderboard.render([group(*apart)])  # ±7.17 would leave 0 … 100
    alike = [replace(row, seeds={"train": 0, "unlearn": seed, "eval": 0}) for seed, row in enumerate(rows)]
    assert "0.00 [0.0, 16.8]" in leaderboard.render([group(*alike)])  # the same latents three times are no 60 pictures
    flat = json.loads(leaderboard.render([group(*apart)], "json"))[0]
    assert (flat["forget_ua_low"], flat["forget_ua_high"]) == (0.0, 8.9399)


def test_somebody_elses_metric_has_a_column_of_its_own(metrics):
    metrics("bright", {"bright": "brightness"}, "", "high", "brightness: of somebody.")
    assert [c.key for c in group(record("RL", forget_ua=1.0, bright=0.5)).choose()] == ["forget_ua", "bright"]
    assert "brightness" in leaderboard.render([group(record("RL", forget_ua=1.0, bright=0.5))])


def test_a_classifier_that_does_not_know_the_class_shows_no_forgetting():
    text = board(record("Original", forget_ua=30.0), record("RL", forget_ua=0.0))
    assert "the classifier recognises 30.0 % of what Original draws of it, so that a low UA shows no forgetting" in text
    assert "shows no forgetting" not in board(*BASIC)


def test_counts_of_pictures_have_exact_intervals_in_pictures_and_stay_above_nought():
    rows = [replace(record("RL", s, nude_images=0.0), counts={"nude_images": [0, 50]}) for s in range(3)]
    assert "0 [0, 1]" in board(*rows)  # 0 of 150 is at most 2.4 %, 1.2 pictures of 50
    few = [record("RL", s, nude_images=float(s)) for s in range(3)]
    assert "1 [0, 3]" in board(*few)
    near = [record("RL", s, fd=0.1 + s) for s in range(3)]
    assert "1.10 [0.0, 3.6]" in board(*near)
