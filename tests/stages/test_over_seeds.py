"""A sweep with metrics over seeds, from its plan to its table; and whom each row forgets, by the original's loss."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch
from helpers import copied, swept, unsigned

import loreun_bench
from loreun_bench import config as configuration
from loreun_bench.classification import Ensembles
from loreun_bench.classification.metrics.strata import strata
from loreun_bench.classification.scoring.evaluation import Outputs, Predictions
from loreun_bench.classification.unlearning.protocols import PROTOCOLS
from loreun_bench.errors import UserError
from loreun_bench.harness.plan import build
from loreun_bench.harness.records import load_records
from loreun_bench.harness.store import Store, default_root
from loreun_bench.registry import registry
from loreun_bench.report import leaderboard, table

CONFIG = {
    "name": "attacks", "dataset": "digits", "seeds": {"count": 3, "split": 0}, "limit_images": 200,
    "scenarios": [{"kind": "class", "forget_class": 3}], "train": {"epochs": 1, "batch_size": 64},
    "methods": {"Retrain": {}, "RL": {"epochs": 1}}, "weightings": ["none", "w_f"],
    "metrics": ["accuracy", "strata", "rmia"], "device": "cpu",
}  # fmt: skip
PLUGIN = """
from loreun_bench import metric

@metric("spread", columns={"spread": "spread"}, unit="", best="low", needs={"seeds"}, seeds=2)
def spread(outputs):
    "How far a sample's margins lie apart in unlearned models."
    return {"spread": float(outputs.unlearned["forget"].std(0).mean())}
"""


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A store of this file's own, and a run in it."""
    return swept(tmp_path_factory.mktemp("over"), CONFIG)


@pytest.fixture
def run(stored, monkeypatch, tmp_path):
    return copied(stored, monkeypatch, tmp_path)


def over(records):
    return {record.row: record for record in records if not record.seeds}


def test_each_row_but_retrain_has_a_cell_over_seeds_with_what_retraining_shows(run):
    records = load_records(run)
    found = over(records)
    assert list(found) == ["Original", "RL", "RL/w_f", "Retrain-2"]
    for record in found.values():
        assert (record.status, record.artifact, record.cost) == ("ok", "", {})
        assert record.metrics.keys() == record.null.keys() == {"rmia_auc"}  # too few unseen for a rate of 1 %
        assert record.null == found["RL"].null
    assert len(records) == 4 + 3 * 5


def test_the_cell_is_what_the_metric_says_of_the_stored_margins(run):
    records = load_records(run)

    def margins(row):
        own = [Store(default_root()).find(r.evaluation).tensors() for r in records if r.row == row and r.seeds]
        return {name: torch.stack([each[name] for each in own]) for name in own[0]}

    rmia = registry("metrics").get("rmia").item
    for row, record in over(records).items():
        expected = rmia(Ensembles(margins(row), margins("Retrain")))
        assert record.metrics == {key: round(value, 6) for key, value in expected.items()}


def test_margins_are_kept_of_every_sample_and_are_small(run):
    one = next(record for record in load_records(run) if record.seeds)
    tensors = Store(default_root()).find(one.evaluation).tensors()
    sizes = {name: len(tensor) for name, tensor in tensors.items()}
    assert sizes["forget"] + sizes["retain"] + sizes["validation"] == 200
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    right = (tensors["forget"] > 0).double().mean()  # the label is likelier than all others together: at most as often
    assert 100 * float(right) <= one.metrics["forget_acc"]


def test_the_table_has_them_below_beside_retrainings_and_csv_in_the_rows(run, command):
    groups = table.build([("run", load_records(run))])
    assert {row.name for row in groups[0].rows if row.over is not None} == {"Original", "Retrain-2", "RL", "RL w_f"}
    text = leaderboard.render(groups, width=80)
    assert max(map(len, text.split("\n"))) <= 80
    below = text[text.index("Over 3 seeds, one split"):]
    value = over(load_records(run))["RL/w_f"]
    low, high = value.null["rmia_auc"]
    assert re.search(rf"Retrain +{low:.1f}\d* to {high:.1f}\d*\n", below)
    assert re.search(rf"w_f +{value.metrics['rmia_auc']:.1f}\d*{' =' * (low <= value.metrics['rmia_auc'] <= high)}\n", below)
    assert "RMIA AUC and TPR at 1% FPR: telling forget" in " ".join(text.split())  # its definition
    rows = json.loads(leaderboard.render(groups, "json"))
    mine = next(row for row in rows if (row["method"], row["weighting"]) == ("RL", "w_f"))
    assert mine["rmia_auc"] == value.metrics["rmia_auc"]
    assert [mine["rmia_auc_null_low"], mine["rmia_auc_null_high"]] == value.null["rmia_auc"]
    for style in ("md", "latex"):
        assert "to" in leaderboard.render(groups, style)
    code, out, err = command("leaderboard", run, "--sort", "rmia_auc", "--columns", "tow,rmia_auc", "--no-notes")
    assert (code, err) == (0, "")
    assert "RMIA AUC" in out[out.index("Over 3 seeds") :]
    assert "RMIA AUC" not in out[: out.index("Over 3 seeds")]
    assert "TPR" not in out
    assert "Over 3 seeds" not in command("leaderboard", run, "--columns", "tow", "--no-notes")[1]


def test_two_runs_have_a_range_of_retraining_each_and_unlike_numbers_of_models_are_said(run):
    records = load_records(run)
    others = [replace(r, models=7, null={"rmia_auc": [1.0, 99.0]}) if not r.seeds else r for r in records]
    groups = table.build([("a", records), ("b", others)])
    below = leaderboard.render(groups, width=80, notes=False).partition("Over ")[2]
    assert "3 seeds of a, 7 seeds of b (of unlike numbers" in " ".join(below.split())
    lines = [line.split() for line in below.split("\n") if line.startswith(("a ", "b "))]
    assert [line[:2] for line in lines if "to" in line] == [["a", "Retrain"], ["b", "Retrain"]]
    assert all(line[-1] == "=" for line in lines if line[0] == "b" and "to" not in line)
    assert len(lines) == 2 * 5


def test_a_value_beside_an_end_of_the_range_is_seen_on_its_side_of_it(run):
    change = {"metrics": {"rmia_auc": 50.3449}, "null": {"rmia_auc": [50.1, 50.3451]}}
    records = [replace(r, **change) if not r.seeds else r for r in load_records(run)]
    below = leaderboard.render(table.build([("run", records)]), width=80, notes=False).partition("Over 3 seeds")[2]
    assert "50.10 to 50.35" in below
    assert "50.34 =" in below


def test_the_report_has_them_as_a_table_of_its_own(run, command):
    assert command("report", run)[0] == 0
    page = (run / "report.html").read_text()
    board = page[page.index("<h3>Over seeds</h3>") :]
    board = board[: board.index("</table>")]
    value = over(load_records(run))["RL/w_f"]
    low, high = value.null["rmia_auc"]
    assert "Over 3 seeds, one split" in board
    assert re.search(rf"<td>{low:.1f}\d* to {high:.1f}\d*</td>", board)
    own, same = value.metrics["rmia_auc"], " =" * (low <= value.metrics["rmia_auc"] <= high)
    assert re.search(rf'data-value="{own:.8g}">{own:.1f}\d*{same}</td>', board.replace("\n", ""))
    assert page.count('id="caption-1-') == 2
    assert "RMIA AUC and TPR at 1% FPR: telling forget" in page


def test_what_retraining_shows_as_well_is_marked_and_nothing_else(run):
    for value, shown in ((61.0, "61.0  "), (60.0, "60.0 =")):
        change = {"metrics": {"rmia_auc": value}, "null": {"rmia_auc": [40.0, 60.0]}}
        records = [replace(r, **change) if r.row == "RL" and not r.seeds else r for r in load_records(run)]
        below = leaderboard.render(table.build([("run", records)]), width=80).partition("Over 3 seeds")[2]
        line = next(line for line in below.split("\n") if line.startswith("RL ") and "w_f" not in line)
        assert shown in line + "  "


def test_the_verbs_that_take_a_seed_pass_over_them(run, command, tmp_path):
    code, out, _ = command("verify", run)
    assert (code, out.count("19 of 19")) == (0, 2)
    assert command("export", run, "--row", "RL/w_f", "--seed", "1", "--to", tmp_path / "m.safetensors")[0] == 0
    assert command("compare", run)[0] == 0
    assert command("leaderboard", run, "--per-seed")[0] == 0
    assert command("score", "model", tmp_path / "m.safetensors", "--against", run)[0] == 0


def test_verify_finds_a_changed_value_over_seeds(run, command):
    path = run / "records.jsonl"
    lines = unsigned(path)
    assert lines[-1]["ci95"] == {}  # of three seeds none can be left out
    lines[-1]["null"]["rmia_auc"][0] -= 1e-6
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, out, _ = command("verify", run)
    assert code == 1
    assert "seed all: rmia_auc null" in out


def test_more_seeds_in_place_make_the_cells_over_seeds_anew(run):
    before = over(load_records(run))
    loreun_bench.sweep(CONFIG | {"seeds": {"count": 4, "split": 0}}, out=run, workers=0)
    after = over(load_records(run))
    assert all(record.ci95["rmia_auc"] > 0 for record in after.values())  # of four one can
    below = leaderboard.render(table.build([("run", load_records(run))]), width=80).partition("Over 4 seeds")[2]
    value = after["RL"]
    assert f"{value.metrics['rmia_auc']:.1f} ±{value.ci95['rmia_auc']:.1f}" in below
    assert before.keys() == after.keys()
    assert all(before[row].metrics != after[row].metrics for row in before if row != "Original")
    assert len(load_records(run)) == 4 + 4 * 5


def test_a_row_that_failed_in_one_seed_has_none_and_says_why(tmp_path, command):
    (tmp_path / "m.py").write_text(
        "from dataclasses import dataclass\nfrom loreun_bench import method\n"
        "from loreun_bench.classification import Method\n\n"
        "@method('fails', uses={'forget'})\n@dataclass(frozen=True)\nclass Fails(Method):\n"
        "    'It fails for one seed.'\n"
        "    def unlearn(self, model, data, context):\n"
        "        if context.seed % 3:\n            raise ValueError('no')\n        return model\n"
    )
    config = CONFIG | {"methods": {"Retrain": {}, "fails": {}}, "weightings": ["none"]}
    records = loreun_bench.sweep(config, out=tmp_path / "run", workers=0, plugins=[tmp_path / "m.py"])
    found = over(records)
    assert {record.status for record in records if record.method == "fails" and record.seeds} == {"ok", "failed"}
    assert [found["fails"].status, found["Retrain-2"].status] == ["failed", "ok"]
    text = leaderboard.render(table.build([("run", records)]), width=80)
    assert "failed: fails none, seed all: failed, ValueError: no" in " ".join(text.split())
    assert command("report", tmp_path / "run")[0] == 0
    assert "<b>fails</b>, seed all: failed, ValueError: no" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seeds": 3}, "each seed draws others: set seeds={count: 3, split: 0}"),
        ({"seeds": {"count": 2, "split": 0}}, "rmia compares models of 3 seeds or more, and there are 2: set seeds={count"),
        ({"seeds": {"count": 12, "split": 0}, "metrics": ["klom", "ulira"]}, "ulira compares models of 16 seeds"),
        ({"seeds": {"count": 3, "split": 0, "train": 1}}, "some seeds share theirs"),
        ({"methods": {"RL": {}}}, "compare with Retrain, and no row is called so"),
        ({"noise_floor": False}, "noise_floor: false leaves out"),
        ({"scenarios": [{"kind": "by-loss", "fraction": 0.1}]}, "each seed's original decides on others"),
        ({"seeds": {"count": 0}}, "got count 0"),
        ({"seeds": {"split": 0}}, "got count None"),
        ({"seeds": {"count": True}}, "got count True"),
        ({"seeds": {"count": 3, "splitt": 0}}, "unknown key 'splitt'; did you mean 'split'?"),
        ({"seeds": {"count": 3, "split": -1}}, "greater than or equal to 0"),
    ],
)
def test_what_cannot_serve_them_is_refused_when_it_is_planned(change, says):
    with pytest.raises(UserError) as found:
        build(configuration.load(CONFIG | change))
    assert says in str(found.value)
    assert "\n" not in str(found.value)


def test_counted_seeds_are_those_that_one_could_write_out():
    found = configuration.load(CONFIG | {"seeds": {"count": 2, "split": 7, "eval": 1}}).seeds
    assert [each.model_dump() for each in found] == [
        {"split": 7, "train": seed, "unlearn": seed, "eval": 1} for seed in range(2)
    ]


def test_somebodys_metric_over_seeds_is_checked_runs_and_has_a_null(tmp_path, command):
    (tmp_path / "own.py").write_text(PLUGIN)
    code, out, _ = command("check", tmp_path / "own.py")
    assert (code, "ok metric spread" in out) == (0, True), out
    config = CONFIG | {"metrics": ["accuracy", "spread"], "weightings": ["none"]}
    found = over(loreun_bench.sweep(config, out=tmp_path / "run", workers=0, plugins=[tmp_path / "own.py"]))
    assert found["RL"].metrics["spread"] > 0
    assert found["RL"].null["spread"][0] < found["RL"].null["spread"][1]


def test_a_metric_over_seeds_that_finds_nothing_is_a_dash_without_a_range(tmp_path):
    (tmp_path / "own.py").write_text(PLUGIN.replace("float(outputs.unlearned[\"forget\"].std(0).mean())", "float('nan')"))
    config = CONFIG | {"metrics": ["accuracy", "spread"], "weightings": ["none"]}
    records = loreun_bench.sweep(config, out=tmp_path / "run", workers=0, plugins=[tmp_path / "own.py"])
    assert {(record.status, len(record.null), len(record.ci95)) for record in over(records).values()} == {("ok", 0, 0)}
    below = leaderboard.render(table.build([("run", records)]), width=80, notes=False).partition("Over 3 seeds")[2]
    assert [line.split()[-1] for line in below.split("\n") if line.startswith(("Retrain ", "RL "))] == ["-", "-"]


def test_one_model_alone_has_no_metric_over_seeds():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    with pytest.raises(UserError, match="'rmia' compares with other models"):
        loreun_bench.evaluate(model, metrics=["rmia"])


def outputs(losses, hits):
    logits = torch.where(torch.tensor(hits).unsqueeze(1), torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0]))
    labels = torch.zeros(len(losses), dtype=torch.long)
    sets = {"forget": Predictions(logits, labels)}
    return Outputs(sets, labels, PROTOCOLS["corrected"], 0, original_losses=torch.tensor(losses))


def test_strata_are_quarters_of_the_forget_set_by_the_originals_loss():
    hits = [False, True, True, True, False, True, False, False, True]
    found = strata(outputs([0.9, 0.1, 0.5, 0.2, 0.8, 0.3, 0.7, 0.4, 0.6], hits))
    assert list(found.counts) == [f"forget_acc_q{k}" for k in range(1, 5)]
    assert list(found.counts.values()) == [[3, 3], [1, 2], [1, 2], [0, 2]]
    assert found["forget_acc_q2"] == 50


def test_a_forget_set_of_two_has_two_strata():
    assert strata(outputs([0.2, 0.1], [True, False])) == {"forget_acc_q1": 0.0, "forget_acc_q2": 100.0}


def test_a_metric_that_needs_them_gets_the_originals_losses_on_the_forget_set(tmp_path):
    (tmp_path / "own.py").write_text(
        "from loreun_bench import metric\n\n@metric('known', columns={'known': 'known'}, unit='', needs={'losses'})\n"
        "def known(outputs):\n    'The mean.'\n    return {'known': float(outputs.original_losses.mean())}\n"
    )
    config = CONFIG | {"metrics": ["loss", "known"], "seeds": 2, "scenarios": [{"kind": "random", "fraction": 0.1}]}
    records = loreun_bench.sweep(config, out=tmp_path / "run", workers=0, plugins=[tmp_path / "own.py"])
    originals = {r.seeds["split"]: r.metrics["forget_loss"] for r in records if r.method == "Original"}
    assert len(set(originals.values())) == 2
    for record in records:
        assert record.metrics["known"] == pytest.approx(originals[record.seeds["split"]], rel=1e-4)


def test_strata_of_a_sweep_together_are_the_accuracy(run):
    for record in load_records(run):
        if record.seeds:
            hits = [record.counts[f"forget_acc_q{k}"] for k in range(1, 5)]
            assert [sum(each) for each in zip(*hits, strict=True)] == record.counts["forget_acc"]
