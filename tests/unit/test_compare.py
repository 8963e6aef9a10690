"""compare: rows of a run, cells of two runs, and a run beside the paper."""

from __future__ import annotations

import csv
import io
import json
import random
from dataclasses import replace

import pytest

from loreun_bench.harness.records import Record, append, load_records


def record(method, weighting, seed, forget_acc, **change):
    seeds = {"split": seed, "train": seed, "unlearn": seed, "eval": seed}
    metrics = {"forget_acc": forget_acc, "retain_acc": 99.0, "test_acc": 90.0}
    one = Record(
        "classification", "digits", "small-cnn", "random-10%", method, weighting, seeds, metrics=metrics,
        cost={"rte_s": 1.0, "cpu_s": 1.0}, artifact=f"{method}{weighting}{seed}", environment={"commit": "aaa"},
        conditions={"data": "11111111"},
    )  # fmt: skip
    return replace(one, **change)


def run(folder, shift=0.0, seeds=range(5), **change):
    """RL, RL w_f 8 points closer to Retrain, FT far away; with noise of their own, and `shift` for RL w_f."""
    noise, found = random.Random(0), [record("Retrain", "none", seed, 50.0, **change) for seed in seeds]
    for method, weighting, value in (("RL", "none", 60.0), ("RL", "w_f", 52.0 + shift), ("FT", "none", 90.0)):
        found += [record(method, weighting, s, value + noise.uniform(-0.5, 0.5), **change) for s in seeds]
    append(folder / "records.jsonl", found)
    return folder


def parsed(out):
    return list(csv.DictReader(io.StringIO(out)))


def test_a_runs_rows_are_compared_with_their_method_and_with_the_first(tmp_path, command):
    code, out, _ = command("compare", run(tmp_path / "a"), "--width", 80)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "RL w_f leads" in out
    unweighted, leader = (part.splitlines() for part in out.split("\n\n")[2:4])
    assert unweighted[0] == "to the unweighted method:"
    assert unweighted[3].split()[:3] == ["RL", "w_f", "+0.0805"]
    assert unweighted[3].split()[-2] == "yes"
    assert leader[0] == "to the first row:"
    assert [line.split()[0] for line in leader[3:]] == ["RL", "FT"]


def test_in_full_precision_it_parses_back(tmp_path, command):
    folder = run(tmp_path / "a")
    _, out, _ = command("compare", folder, "--format", "csv")
    rows = parsed(out)
    assert {(row["method"], row["weighting"], row["base_weighting"]) for row in rows} == {
        ("RL", "w_f", "none"), ("RL", "none", "w_f"), ("FT", "none", "w_f"),
    }  # fmt: skip
    assert float(rows[0]["difference"]) == pytest.approx(0.0805, abs=1e-4)
    _, out, _ = command("compare", folder, "--format", "json")
    assert [row["difference"] for row in json.loads(out)] == [float(row["difference"]) for row in rows]


def test_a_base_and_a_column_of_ones_own(tmp_path, command):
    folder = run(tmp_path / "a")
    _, out, _ = command("compare", folder, "--base", "FT", "--column", "forget_acc", "--format", "csv")
    rows = parsed(out)
    assert {(row["base_method"], row["column"]) for row in rows} == {("FT", "forget_acc")}
    assert all(float(row["difference"]) > 25 for row in rows)  # closer to Retrain, which is what is good of UA
    code, _, err = command("compare", folder, "--base", "RL/w")
    assert (code, "did you mean 'RL/w_f'" in err) == (2, True)


def test_two_runs_are_paired_row_by_row_and_what_they_ran_with_is_named(tmp_path, command):
    one, other = run(tmp_path / "a"), run(tmp_path / "b", shift=3.0, environment={"commit": "bbb"})
    code, out, _ = command("compare", one, other, "--width", 0)
    assert code == 0
    assert "3 of 4 rows have the same metrics in every seed, to the last digit; they ran with commit aaa and bbb." in out
    _, out, _ = command("compare", one, other, "--format", "csv")
    changed = {row["method"] + row["weighting"]: float(row["difference"]) for row in parsed(out)}
    assert changed == {"RLnone": 0.0, "RLw_f": pytest.approx(-0.03), "FTnone": 0.0, "Retrainnone": 0.0}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dataset": "fashion"}, "a is of digits small-cnn random-10% protocol corrected, and b of fashion small-cnn"),
        ({"conditions": {"data": "22222222"}}, "of random-10%, a has data 11111111, and b data 22222222"),
        ({"limits": {"steps": 3}}, "of random-10%, a has steps default, and b steps 3"),
    ],
)
def test_runs_of_other_data_are_refused_with_the_reason(tmp_path, command, change, says):
    code, out, err = command("compare", run(tmp_path / "a"), run(tmp_path / "b", **change))
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def test_runs_without_a_common_seed_are_refused(tmp_path, command):
    code, _, err = command("compare", run(tmp_path / "a"), run(tmp_path / "b", seeds=range(10, 15)))
    assert code == 2
    assert "none in common" in err


def test_with_two_seeds_nothing_is_compared_and_it_says_so(tmp_path, command):
    code, out, _ = command("compare", run(tmp_path / "a", seeds=range(2)), "--width", 0)
    assert code == 0
    assert "to the unweighted method: nothing to compare, and 2 seeds would be too few (3)." in out


def test_beside_the_paper(tmp_path, command):
    code, out, _ = command("compare", run(tmp_path / "a"), "--paper", "--width", 80)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "numbers cannot be compared" in " ".join(out.split())
    rl = next(line.split() for line in out.splitlines() if line.startswith("RL  "))
    assert (rl[2], rl[8]) == ("94.77", "0.9531")
    gain = next(line.split() for line in out.splitlines()[::-1] if line.startswith("RL w_f"))
    assert gain[2:] == ["+0.0805", gain[3], "yes", "+0.0230"]
    told = " ".join(out.split())
    assert "RTE: not of equal compute: times as long as RL: RL w_f 2.2" in told
    assert "Not in the paper's table: FT." in told
    few = command("compare", run(tmp_path / "few", seeds=range(2)), "--paper", "--width", 80)[1]
    assert "takes 3 seeds and the unweighted method; here there are 2 seeds." in " ".join(few.split())
    other = run(tmp_path / "c", scenario="mislabelled-10%")
    code, _, err = command("compare", other, "--paper")
    assert (code, "which no scenario of this run does" in err) == (2, True)
    code, _, err = command("compare", tmp_path / "a", "--paper", "--base", "RL")
    assert (code, "takes one run" in err) == (2, True)


def test_without_what_ranks_there_is_nothing_to_compare(tmp_path, command):
    own = [r for r in load_records(run(tmp_path / "a")) if r.method != "Retrain"]
    append(tmp_path / "b" / "records.jsonl", own)
    for words in ((), ("--base", "FT")):
        code, out, _ = command("compare", tmp_path / "b", *words, "--width", 0)
        assert (code, "to one another: nothing to compare." in out) == (0, True)
    code, out, _ = command("compare", tmp_path / "a", "--column", "rte", "--width", 0)
    assert code == 0
    code, _, err = command("compare", tmp_path / "a", "--format", "latex")
    assert (code, "no LaTeX" in err) == (2, True)
