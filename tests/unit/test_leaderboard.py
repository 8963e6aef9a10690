"""The leaderboard: matched seeds, closeness to Retrain as the only virtue, honest cells in every format."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest
from wcwidth import wcswidth

import loreun_bench
from loreun_bench.errors import UserError
from loreun_bench.harness.records import Record, append
from loreun_bench.report import leaderboard, table
from loreun_bench.report.statistics.estimate import estimate


def record(method, seed=0, weighting="none", status="ok", rte=1.0, **metrics):
    values = {"forget_acc": 50.0, "retain_acc": 99.0, "test_acc": 90.0, "mia_confidence": 20.0} | metrics
    return Record(
        "classification", "digits", "small-cnn", "random-10%", method, weighting,
        {"split": seed, "train": seed, "unlearn": seed, "eval": seed}, status,
        metrics=values if status == "ok" else {}, cost={"rte_s": rte, "cpu_s": rte} if status == "ok" else {},
        reason="" if status == "ok" else "it broke", environment={"device": "cpu"},
    )  # fmt: skip


def board(*records, style="text", **options):
    return leaderboard.render(table.build([("run", records)]), style, **options)


def group(*records, **options):
    (only,) = table.build([("run", records)], **options)
    return only


def rows(*records):
    return {(row.method, row.weighting): row for row in group(*records).rows}


def test_the_gap_is_to_the_retrain_of_the_same_seed():
    found = rows(
        *(record("Retrain", seed, forget_acc=value) for seed, value in enumerate((40.0, 60.0, 50.0))),
        *(record("RL", seed, forget_acc=value) for seed, value in enumerate((41.0, 61.0, 51.0))),
    )  # fmt: skip
    cell = found["RL", "none"].cells["forget_acc"]
    assert cell.gap == pytest.approx(1.0)
    assert found["RL", "none"].cells["tow"].value.mean == pytest.approx(0.99)
    assert found["RL", "none"].cells["tow"].value.half == pytest.approx(0)


def test_without_its_retrain_a_seed_has_no_gap():
    cell = rows(record("Retrain", 0), record("RL", 1))["RL", "none"].cells["forget_acc"]
    assert cell.gap is None


def test_closest_to_retrain_is_best_not_largest():
    found = rows(
        record("Retrain", mia_confidence=20.0, retain_acc=95.0), record("RL", mia_confidence=60.0, retain_acc=99.9),
        record("SalUn", mia_confidence=21.0, retain_acc=95.1),
    )  # fmt: skip
    assert {"mia_confidence", "retain_acc"} <= found["SalUn", "none"].best
    assert not {"mia_confidence", "retain_acc"} & found["RL", "none"].best


def test_retrain_and_original_are_not_ranked():
    found = rows(record("Retrain"), record("Original", forget_acc=50.0), record("RL", forget_acc=10.0))
    assert not found["Retrain", "none"].best
    assert not found["Original", "none"].best


def test_the_time_ratio_is_to_the_same_method_unweighted_over_shared_seeds():
    found = rows(
        record("RL", 0, rte=2.0), record("RL", 1, rte=4.0), record("RL", 0, "w_f", rte=3.0), record("RL", 1, "w_f", rte=6.0),
        record("SalUn", 0, rte=100.0),
    )  # fmt: skip
    assert found["RL", "w_f"].ratio == pytest.approx(1.5)
    assert found["RL", "none"].ratio == 1


def test_a_failed_seed_is_a_row_with_a_reason_and_not_ranked_first():
    records = [
        record("Retrain"),
        record("Retrain", 1),
        record("RL"),
        record("RL", 1, status="diverged"),
        record("FT", forget_acc=20.0),
        record("FT", 1, forget_acc=20.0),
    ]
    text = board(*records)
    assert "failed: RL none, seed 1: diverged, it broke" in text
    assert "1/2" in text
    order = [row.method for row in group(*records).rows]
    assert order == ["Retrain", "FT", "RL"]
    assert not rows(*records)["RL", "none"].best


def test_the_interval_is_students():
    e = estimate([1.0, 2.0, 3.0])
    assert (e.mean, e.n) == (2.0, 3)
    assert e.half == pytest.approx(4.302652729911275 / math.sqrt(3))
    assert math.isnan(estimate([1.0]).half)
    assert math.isnan(estimate([]).mean)


def test_a_cell_shows_value_interval_and_signed_gap():
    text = board(record("Retrain"), record("RL", forget_acc=47.5))
    assert "47.50 (-2.50)" in text
    text = board(*[record("Retrain", s) for s in range(3)], *[record("RL", s, forget_acc=50.0 + s) for s in range(3)])
    assert "51.00 ±2.48 (+1.00)" in text


def test_ua_as_salun_prints_it_flips_value_and_gap_and_says_so():
    text = board(record("Retrain"), record("RL", forget_acc=47.5), ua="salun")
    assert "52.50 (+2.50)" in text
    assert "UA (100-FA)" in text
    with pytest.raises(UserError, match="did you mean 'salun'"):
        board(record("RL"), ua="salunn")


@pytest.mark.parametrize("style", ["text", "md", "latex"])
def test_definitions_stand_under_every_table(style):
    text = board(record("Retrain"), record("Retrain-2"), record("RL"), style=style)
    for said in (
        "ToW: the product over UA, RA, TA",
        "RTE: seconds of the whole run",
        "comes closest to Retrain",
        "Retrain-2",
    ):
        assert said in text


def test_markdown_escapes_bars_and_latex_its_specials():
    assert "a\\|b" in board(record("Retrain"), record("a|b"), style="md")
    latex = board(record("Retrain"), record("RL", weighting="w_f"), style="latex")
    assert r"w\_f" in latex
    assert r"\textbf{" in latex
    assert "\\begin{tabular}" in latex
    assert all(line.startswith("%") or "±" not in line for line in latex.splitlines())


def test_names_that_look_like_numbers_stay_as_they_are():
    assert "007" in board(record("Retrain"), record("007"))


def test_csv_and_json_hold_every_metric_and_parse_back():
    records = [record("Retrain"), record("RL", forget_acc=47.123456, mia_auc=33.0)]
    (_, row) = csv.DictReader(io.StringIO(board(*records, style="csv")))
    assert float(row["forget_acc"]) == 47.123456
    assert float(row["forget_acc_gap"]) == pytest.approx(-2.876544)
    (_, again) = json.loads(board(*records, style="json"))
    assert again["mia_auc"] == 33.0
    assert again["tow_ci95"] is None


def test_several_runs_stand_side_by_side_each_with_its_own_retrain():
    runs = [
        ("a", [record("Retrain"), record("RL", forget_acc=40.0)]),
        ("b", [record("Retrain", forget_acc=40.0), record("RL", forget_acc=40.0)]),
    ]
    (only,) = table.build(runs)
    gaps = {row.run: row.cells["forget_acc"].gap for row in only.rows if row.method == "RL"}
    assert gaps == {"a": -10.0, "b": 0.0}
    assert leaderboard.render([only]).splitlines()[4].startswith("run ")


def test_smoke_runs_are_marked():
    limited = Record(**{**vars(record("RL")), "limits": {"steps": 3}})
    assert "LIMITED to 3 steps" in board(limited)


def test_sorting_by_another_column():
    records = [record("Retrain"), record("RL", test_acc=80.0), record("SalUn", forget_acc=70.0)]
    assert [r.method for r in group(*records, sort="forget_acc").rows] == ["Retrain", "RL", "SalUn"]
    assert [r.method for r in group(*records, sort="test_acc").rows] == ["Retrain", "SalUn", "RL"]
    with pytest.raises(UserError, match="did you mean 'tow'"):
        group(*records, sort="toww")


def test_unknown_format_is_suggested():
    with pytest.raises(UserError, match="did you mean 'latex'"):
        board(record("RL"), style="latexx")


def test_runs_that_were_killed_and_gone_on_with_are_told():
    cost = {"rte_s": 2.0, "cpu_s": 2.0, "resumed": 3}
    assert "1 of 1 runs" in board(Record(**{**vars(record("RL")), "cost": cost}))
    assert "Killed" not in board(record("RL"))


def test_a_busy_machine_is_admitted():
    busy = Record(**{**vars(record("RL")), "cost": {"rte_s": 2.0, "cpu_s": 1.0}})
    assert "machine was busy" in board(busy)
    assert "machine was busy" not in board(record("RL"))


def test_opposite_errors_do_not_cancel_into_the_best_row():
    found = rows(
        record("Retrain", 0), record("Retrain", 1),
        record("RL", 0, forget_acc=30.0), record("RL", 1, forget_acc=70.0),
        record("SalUn", 0, forget_acc=51.0), record("SalUn", 1, forget_acc=51.0),
    )  # fmt: skip
    assert found["RL", "none"].cells["forget_acc"].gap == pytest.approx(0)
    assert "forget_acc" in found["SalUn", "none"].best
    assert "forget_acc" not in found["RL", "none"].best


def test_seeds_that_share_one_model_give_no_interval():
    shared = [Record(**{**vars(record("Retrain", seed)), "artifact": "same"}) for seed in range(3)]
    assert math.isnan(rows(*shared)["Retrain", "none"].cells["forget_acc"].value.half)
    apart = [Record(**{**vars(record("Retrain", seed)), "artifact": str(seed)}) for seed in range(3)]
    assert rows(*apart)["Retrain", "none"].cells["forget_acc"].value.half == 0


def test_columns_that_no_record_has_are_left_out_and_missing_values_are_a_dash():
    def only(method, *keys):
        whole = record(method, retain_acc=98.0)
        return Record(**{**vars(whole), "metrics": {key: whole.metrics[key] for key in keys}})

    accuracies = "forget_acc", "retain_acc", "test_acc"
    text = board(only("Retrain", *accuracies), only("RL", *accuracies), only("FT", "forget_acc"))
    head = text.splitlines()[4]
    assert "AUC" not in head
    assert " MIA " not in head
    assert "RA" in head
    assert next(line for line in text.splitlines() if line.startswith("FT")).split()[4] == "-"
    assert "AUC" in board(record("Retrain", mia_auc=50.0)).splitlines()[4]


def test_latex_has_caption_and_label_and_a_methods_rows_stand_together():
    records = [record("Retrain"), record("RL", forget_acc=70.0), record("FT", forget_acc=60.0)]
    records += [record("RL", weighting="w_f", forget_acc=51.0), record("FT", weighting="w_r", forget_acc=90.0)]
    latex = board(*records, style="latex")
    assert r"\caption{digits, small-cnn, random-10\%, 1 seed, protocol corrected: mean over seeds" in latex
    assert r"\label{tab:digits-random-10}" in latex
    body = latex[latex.index(r"\midrule") : latex.index(r"\bottomrule")].splitlines()[1:]
    first = [line.split("&")[:2] for line in body if "&" in line]
    assert [tuple(cell.strip() for cell in pair) for pair in first] == [
        ("Retrain", ""), ("RL", "none"), ("", r"w\_f"), ("FT", "none"), ("", r"w\_r"),
    ]  # fmt: skip
    assert body.count(r"\addlinespace") == 2


def test_sorting_by_time_puts_the_fastest_first():
    found = group(record("Retrain"), record("RL", rte=3.0), record("FT", rte=2.0), record("GA", rte=9.0), sort="rte")
    assert [row.method for row in found.rows] == ["Retrain", "FT", "RL", "GA"]


def test_every_seed_by_itself_has_what_was_measured_and_what_is_derived(tmp_path, command):
    records = [record(m, s, forget_acc=50.0 + 2 * s * (m == "RL")) for m in ("Retrain", "RL") for s in range(3)]
    append(tmp_path / "records.jsonl", [*records, record("GA", 0, status="oom")])
    code, out, _ = command("leaderboard", tmp_path, "--per-seed", "--format", "csv")
    assert code == 0
    lines = list(csv.DictReader(io.StringIO(out)))
    rl = [line for line in lines if line["method"] == "RL"]
    assert [(line["seed_split"], float(line["tow"])) for line in rl] == [("0", 1.0), ("1", 0.98), ("2", 0.96)]
    assert [float(line["forget_acc"]) for line in rl] == [50.0, 52.0, 54.0]
    assert next(line for line in lines if line["method"] == "GA")["status"] == "oom"
    code, out, _ = command("leaderboard", tmp_path, "--per-seed", "--width", 80)
    assert max(map(len, out.splitlines())) <= 80
    assert [line.split()[2:5:2] for line in out.splitlines() if line.startswith("RL ")] == [
        ["0", "99.00"], ["1", "99.00"], ["2", "99.00"],
    ]  # fmt: skip
    code, _, err = command("leaderboard", tmp_path, "--per-seed", "--by-class")
    assert (code, err) == (2, "error: --by-class is of means: leave out one of --by-class and --per-seed\n")


def test_a_frame_has_a_line_a_cell(tmp_path):
    pytest.importorskip("pandas", reason="pandas is not installed")
    records = [record("Retrain"), record("RL", forget_acc=40.0), record("GA", status="oom")]
    append(tmp_path / "run" / "records.jsonl", records)
    frame = loreun_bench.load_frame(tmp_path / "run")
    assert frame["method"].tolist() == ["Retrain", "RL", "GA"]
    assert frame["tow"].tolist()[:2] == [1.0, 0.9]
    assert math.isnan(frame["tow"][2])
    append(tmp_path / "other" / "run" / "records.jsonl", [record("Retrain"), record("RL", test_acc=10.0)])
    both = loreun_bench.load_frame(tmp_path / "run", tmp_path / "other" / "run")
    assert sorted(both[both["method"] == "RL"]["test_acc"]) == [10.0, 90.0]  # folders of one name are two runs
    with pytest.raises(UserError, match="no records in"):
        loreun_bench.load_frame(tmp_path)


def test_the_command_fits_a_width_and_gives_the_rest_on_request(tmp_path, command):
    append(tmp_path / "records.jsonl", [record(m, s) for m in ("Retrain", "RL") for s in range(3)])
    code, out, _ = command("leaderboard", tmp_path, "--width", 80, "--no-notes")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "* closest to Retrain. --notes: definitions" in out
    assert "differences to Retrain, whose own row shows values. --wide adds intervals" in " ".join(out.split())
    _, out, _ = command("leaderboard", tmp_path, "--wide", "--no-notes")
    assert max(map(len, out.splitlines())) > 80
    _, out, _ = command("leaderboard", tmp_path)  # no terminal: everything
    assert "ToW: the product" in out
    assert max(map(len, out.splitlines())) > 80


def test_long_names_and_wide_letters_fit_a_terminal_too():
    names = ["RL", "随机标签" * 3, "a-method-whose-name-is-longer-than-a-terminal-is-wide-" * 2 + "end"]
    records = [record(method, seed) for method in ("Retrain", *names) for seed in range(3)]
    text = board(*records, width=80, notes=False)
    lines = text[text.index("method") :].split("\n\n")[0].split("\n")
    assert max(map(wcswidth, lines)) <= 80
    assert len({wcswidth(line) for line in lines[:2]}) == 1  # columns stand below one another
    assert "a-method-who…is-wide-end" in text
    assert names[2] in board(*records, notes=False)


def test_a_latex_cell_that_begins_with_a_bracket_is_no_option_of_the_line_before():
    text = board(record("Retrain"), record("[2pt]own"), style="latex")
    assert "{[}2pt]own" in text
    assert "\n [2pt]" not in text
