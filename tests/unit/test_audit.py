"""Published tables: what is found in two real ones, and that nothing is found in one that adds up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from loreun_bench.errors import UserError
from loreun_bench.report.audit import checks, tables

TORCHUNLEARN = Path(__file__).parents[1] / "golden" / "torchunlearn_readme.json"

SOUND = """
# random forgetting

| method | UA | RA | TA | ToW | MIA | RTE |
|:-------|---:|---:|---:|----:|----:|----:|
| Retrain | 94.00 | 100.00 | 94.50 | 1.0000 | 12.00 | 40.0 |
| RL | 93.00 ± 0.2 | 99.00 (-1.00) | 94.50% | **0.9801** | 13.00 | 2.0 |
| RL w_f | 94.00 | 99.00 | 94.50 | 0.9900 | 12.50 | 2.1 |
"""


def found(text, tmp_path, name="table.md"):
    path = tmp_path / name
    path.write_text(text)
    return [line for table in tables.read(path) for line in checks.audit(table)]


def test_the_loreun_papers_tables(command):
    code, out, _ = command("audit")
    assert code == 0
    said = " ".join(out.split())
    for line in (
        "ToW: all 9 rows follow from their accuracies",
        "UA is the forget accuracy: Retrain's is 94.37",
        "times as long as RL: RL w_f 2.2, RL w_r 2.2, RL w_f+w_r 2.2",
        "Retrain has 12.44, SalUn 14.73; further from it: SalUn w_f 24.95",
        "RL w_r: UA 0.0644 has 4 digits, others 2: a fraction among percentages?",
        "RL: ToW 0.9745 is printed, 0.9821 follows from its row",
        "RL w_r: ToW 0.9834 is printed, 0.9893 follows from its row",
        "Average: 12 columns compared with the mean of their rows",
        "steps of 0.2 are 500 samples; 39 cells of 0 may each be up to 0.74 %",
    ):
        assert line in said
    assert said.count("follows from its row") == 2
    assert "is the mean of its rows" not in said


def test_a_leaderboard_whose_retrain_is_hidden_and_turned_round(command):
    code, out, _ = command("audit", TORCHUNLEARN)
    assert code == 0
    said = " ".join(out.split())
    assert "Retrain is not printed, but all 14 rows follow from one of FA 10.3, RA 95.8, TA 93.1" in said
    assert "FA 10.3 of Retrain beside TA 93.1" in said
    assert "89.7 would be; this is 100 minus it" in said


def test_a_table_that_adds_up_has_no_fault(tmp_path):
    assert found(SOUND, tmp_path) == [
        "ToW: all 3 rows follow from their accuracies", "UA is the forget accuracy: Retrain's is 94",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("0.9801", "0.9811"), "RL: ToW 0.9811 is printed, 0.9801 follows from its row, if that is of one run"),
        (("| 99.00 |", "| 109.00 |"), "RL w_f: RA 109 is no percentage"),
        (("| 2.1 |", "| 4.2 |"), "RTE: not of equal compute: times as long as RL: RL w_f 2.1"),
        (("| 12.50 |", "| 22.50 |"), "MIA: Retrain has 12, RL 13; further from it: RL w_f 22.5"),
    ],
)
def test_each_fault_is_named(tmp_path, change, line):
    assert line in found(SOUND.replace(*change), tmp_path)


def test_an_average_that_is_none_is_named_and_rounding_is_allowed(tmp_path):
    text = "class,UA,FID\na,1.0,2.0\nb,2.0,2.1\naverage,{},2.1\n"
    assert "average: UA 1.7 is printed, 1.50 is the mean of its rows" in found(text.format("1.7"), tmp_path, "t.csv")
    assert not any("is the mean" in line for line in found(text.format("1.5"), tmp_path, "t.csv"))


FRACTIONS = SOUND.replace("94.00", "0.94").replace("100.00", "1.00").replace("94.50", "0.945").replace("93.00", "0.93")
FRACTIONS = FRACTIONS.replace("99.00", "0.99").replace("12.00", "0.12").replace("13.00", "0.13").replace("12.50", "0.125")


@pytest.mark.parametrize(
    "text",
    [
        FRACTIONS.replace("%", ""), "\ufeff" + SOUND, SOUND.replace("\n", "\r\n"),
        SOUND.replace("| Retrain ", "| Retrain-2 | 95.00 | 99.0 | 90.0 | 0.9357 | 12.00 | 40.0 |\n| Retrain "),
        SOUND.replace("ToW", "ToW (%)").replace("1.0000", "100.00").replace("0.9801", "98.01").replace("0.9900", "99.00"),
        SOUND + "| Average | 93.67 | 99.33 | 94.50 | 0.9900 | 12.50 | 14.7 |\n",
    ],
    ids=["fractions", "byte-order mark", "Windows lines", "Retrain-2 first", "ToW in percent", "an average"],
)  # fmt: skip
def test_other_ways_to_print_the_same_table_have_no_fault(tmp_path, text):
    lines = found(text, tmp_path)
    assert any(line.startswith("ToW: all") for line in lines)
    assert not [line for line in lines if "is printed" in line or "percentage" in line]


@pytest.mark.parametrize("seed", range(5))
def test_the_hidden_retrain_is_found_and_none_where_there_is_none(seed):
    random = np.random.default_rng(seed)
    values, hidden = random.uniform(0, 100, (12, 3)).round(2), random.uniform(5, 95, 3).round(1)
    gaps = np.abs(values - hidden).sum(1)
    retrain, residual = checks.hidden_retrain(values.tolist(), gaps.tolist())
    assert retrain == pytest.approx(hidden.tolist(), abs=1e-6)
    assert residual < 1e-6
    _, residual = checks.hidden_retrain(values.tolist(), (gaps + random.uniform(0, 9, 12)).tolist())
    assert residual > 0.5


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("t.csv", "method,UA,TA\nRL,high,90\n", "row 'RL', column 'UA': 'high' is no number"),
        ("t.json", '{"columns": ["UA"], "rows": {"RL": [true]}}', "row 'RL', column 'UA': 'True' is no number"),
        ("t.json", '[{"method": "RL", "UA": [1]}]', "row 'RL', column 'UA': '[1]' is no number"),
        ("t.json", "{", "no JSON"),
        ("t.md", "no table here\n", "no table found"),
        ("t.csv", "", "no table found"),
        ("t.json", "[" * 100_000, "no JSON"),
        ("t.csv", "method,UA\nRL,1e999\n", "row 'RL', column 'UA': '1e999' is no number"),
        ("t.csv", "method,UA\nRL," + "9" * 200_000 + "\n", "no CSV"),
        ("t.csv", "method,UA\nRL,1\nRL,2\n", "two rows are called 'RL'"),
        ("t.csv", "method,UA,UA\nRL,1,2\n", "two columns are called 'UA'"),
    ],
)
def test_what_is_no_table_is_said_in_one_line(tmp_path, command, name, text, says):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UserError, match=r"is no number|no JSON|no CSV|no table|are called"):
        tables.read(path)
    code, _, err = command("audit", path)
    assert code == 2
    assert says in err
    assert err.count("\n") == 1


def test_missing_cells_are_left_out_and_json_in_three_forms_reads_alike(tmp_path):
    rows = {"Retrain": {"UA": 94.0, "RA": None}, "RL": {"UA": 93.5, "RA": "TODO"}}
    forms = [
        rows, {"columns": ["UA", "RA"], "t": {name: [row["UA"], row["RA"]] for name, row in rows.items()}},
        [{"method": name} | row for name, row in rows.items()],
    ]  # fmt: skip
    for form in forms:
        path = tmp_path / "t.json"
        path.write_text(json.dumps(form))
        (table,) = tables.read(path)
        assert {name: {c: v.value for c, v in row.items()} for name, row in table.rows.items()} == {
            "Retrain": {"UA": 94.0}, "RL": {"UA": 93.5},
        }  # fmt: skip


def test_a_number_that_no_accuracy_comes_near_is_none(tmp_path):
    (tmp_path / "t.csv").write_text("method,UA,RA,TA\nRetrain,9e307,99,93\nRL,91.5,99,93\n")
    with pytest.raises(UserError, match="'9e307' is no number"):
        tables.read(tmp_path / "t.csv")
