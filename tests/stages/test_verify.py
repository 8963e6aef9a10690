"""What a finished run is good for: checked again, its models written out, more seeds added to it."""

from __future__ import annotations

import json

import pytest
import torch
from helpers import copied, swept, unsigned
from safetensors import safe_open

import loreun_bench
from loreun_bench.classification.unlearning.networks import build_model
from loreun_bench.errors import UserError
from loreun_bench.harness.store import Store, default_root

CONFIG = {
    "name": "small", "dataset": "digits", "seeds": 1, "limit_images": 200, "noise_floor": False,
    "scenarios": [{"kind": "class", "forget_class": 3}], "train": {"epochs": 1},
    "methods": {"Retrain": {}, "RL": {"epochs": 1}}, "weightings": ["none", "w_f"],
}  # fmt: skip


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A store of this file's own, and a run in it."""
    return swept(tmp_path_factory.mktemp("verify"), CONFIG)


@pytest.fixture
def run(stored, monkeypatch, tmp_path):
    return copied(stored, monkeypatch, tmp_path)


def test_a_run_as_it_was_is_verified(run, command):
    code, out, err = command("verify", run)
    assert (code, err) == (0, "")
    assert "weights: 4 of 4 are in the store, with the bytes that their hashes say" in out
    assert "metrics: 4 of 4 computed again are equal to the last digit" in out
    assert "made with" not in out
    assert "1 of 1 computed again" in command("verify", run, "--cells", 1)[1]


def test_a_number_that_was_changed_by_hand_is_found(run, command):
    path = run / "records.jsonl"
    lines = unsigned(path)
    changed = next(line for line in lines if line["weighting"] == "w_f")
    changed["metrics"]["test_acc"] += 0.01
    changed["environment"]["torch"] = "1.0"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, out, _ = command("verify", run)
    assert code == 1
    assert "metrics: 3 of 4 computed again" in out
    assert f"class-3, RL w_f, seed 0: test_acc {changed['metrics']['test_acc']} is recorded" in out
    assert f"made with: torch 1.0, here {torch.__version__}" in out


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("artifact", None, "model "), ("counts", {"test_acc": [1, 1000]}, "test_acc counted [1, 1000] is recorded"),
        ("cost", {"rte_s": 0.001}, "rte_s 0.001 is recorded"), ("uninformative", ["mia_auc"], "mia_auc says nothing True"),
        ("evaluation", "0" * 64, "test_acc 1.0 is recorded"),
    ],
)  # fmt: skip
def test_whatever_a_table_reads_of_a_record_is_checked(run, command, field, value, says):
    path = run / "records.jsonl"
    lines = unsigned(path)
    changed = next(line for line in lines if line["weighting"] == "w_f")
    retrain = next(line for line in lines if line["method"] == "Retrain")
    changed[field] = value or retrain[field]
    if field == "evaluation":
        changed["metrics"]["test_acc"] = 1.0
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, out, _ = command("verify", run)
    assert (code, says in out) == (1, True)


def test_weights_that_are_not_what_they_were_are_found(run, command, tmp_path, monkeypatch):
    monkeypatch.setenv("LOREUN_STORE", str(tmp_path / "own"))
    loreun_bench.sweep(CONFIG, out=tmp_path / "other", workers=0)
    record = next(r for r in loreun_bench.load_records(tmp_path / "other") if r.weighting == "w_f")
    file = Store(default_root()).find(record.artifact).folder / "tensors.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    code, out, _ = command("verify", tmp_path / "other")
    assert code == 1
    assert "weights: 3 of 4 are in the store" in out
    code, _, err = command("export", tmp_path / "other", "--row", "RL/w_f", "--to", tmp_path / "a.safetensors")
    assert (code, "has not got this row's model: run the sweep again" in err) == (2, True)


def test_what_other_settings_made_is_not_computed_again(run, command):
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("limit_images: 200", "limit_images: 300"))
    code, out, _ = command("verify", run)
    assert code == 0
    assert "not computed again: 4, made by other code, settings or data than are here now" in out


def test_an_unlearned_classifier_is_a_file_that_loads(run, command, tmp_path):
    to = tmp_path / "new" / "rl.safetensors"
    code, out, _ = command("export", run, "--row", "RL/w_f", "--to", to)
    assert (code, "tensors of small-cnn" in out) == (0, True)
    record = next(r for r in loreun_bench.load_records(run) if r.weighting == "w_f")
    with safe_open(to, "pt") as file:
        about = json.loads(file.metadata()["loreun_bench"])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert (about["model"], about["method"], about["weighting"], about["seeds"]) == ("small-cnn", "RL", "w_f", record.seeds)
    model = build_model("small-cnn", {}, 1, 10, (8, 8))
    model.load_state_dict(weights)
    found = loreun_bench.evaluate(model, "digits", CONFIG["scenarios"][0])
    assert found.keys() >= {"forget_acc", "test_acc"}
    stored = Store(default_root()).find(record.artifact).tensors()
    assert all(torch.equal(weights[name], stored[name]) for name in stored)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--row", "RL/w"], "--row: there is no 'RL/w'; did you mean 'RL/w_f'?"),
        (["--row", "RL", "--seed", 7], "--seed 7: RL has the seeds 0"),
        (["--row", "RL", "--scenario", "class-4"], "there is no 'class-4'"),
        (["--row", "RL", "--to", "x.pt"], "a file that ends in .safetensors"),
    ],
)
def test_export_refuses_in_one_line(run, command, tmp_path, words, says):
    code, _, err = command("export", run, *([] if "--to" in words else ["--to", tmp_path / "a.safetensors"]), *words)
    assert code == 2
    assert says in err
    assert err.count("\n") == 1


def test_a_failed_row_is_not_exported(run, command, tmp_path):
    path = run / "records.jsonl"
    lines = unsigned(path)
    next(line for line in lines if line["weighting"] == "w_f").update(status="diverged", reason="NaN at step 3", metrics={})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, _, err = command("export", run, "--row", "RL/w_f", "--to", tmp_path / "a.safetensors")
    assert (code, err) == (2, "error: RL/w_f, seed 0, did not finish (diverged: NaN at step 3)\n")


def test_seeds_are_added_to_a_finished_run_which_keeps_the_others(run):
    said, made = [], []

    def listen(event):
        said.append(event.text if event.kind == "note" else "")
        made.extend([event.stage.label] if event.kind == "started" else [])

    before = loreun_bench.load_records(run)
    records = loreun_bench.sweep(CONFIG | {"seeds": 2}, out=run, workers=0, listen=listen)
    assert any("1 seed is added to the 1 that" in text for text in said)
    assert [r.metrics for r in records if r.seeds["split"] == 0] == [r.metrics for r in before]
    assert len(records) == 2 * len(before)
    assert made
    assert all("seed 1" in label for label in made)
    with pytest.raises(UserError, match="another configuration"):
        loreun_bench.sweep(CONFIG, out=run, workers=0)
    with pytest.raises(UserError, match="another configuration"):
        loreun_bench.sweep(CONFIG | {"seeds": 3, "train": {"epochs": 2}}, out=run, workers=0)


def test_a_model_unlearned_elsewhere_becomes_a_row_with_the_numbers_that_it_has_in_the_sweep(run, command, tmp_path):
    to = tmp_path / "rl.safetensors"
    command("export", run, "--row", "RL/w_f", "--to", to)
    code, out, _ = command("score", "model", to, "--against", run, "--format", "json")
    assert code == 0
    rows = {row["method"] + row["weighting"]: row for row in json.loads(out)}
    assert rows["yoursnone"]["tow"] == rows["RLw_f"]["tow"]
    shared = ("forget_acc", "retain_acc", "test_acc", "mia_confidence", "forget_loss")
    assert [rows["yoursnone"][key] for key in shared] == [rows["RLw_f"][key] for key in shared]
    model = build_model("small-cnn", {}, 1, 10, (8, 8))
    with safe_open(to, "pt") as file:
        model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    found = loreun_bench.evaluate(model, against=run, scenario="class-3")
    assert found["tow"] == pytest.approx(rows["RLw_f"]["tow"])
    assert found["test_acc"] == rows["RLw_f"]["test_acc"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--seed", 5], "--seed 5: the sweep's splits have the seeds 0"),
        (["--scenario", "class-4"], "there is no 'class-4'"),
        (["other.safetensors"], "2 files for 1 seeds"),
    ],
)
def test_score_model_refuses_in_one_line(run, command, tmp_path, words, says):
    to = tmp_path / "rl.safetensors"
    command("export", run, "--row", "RL", "--to", to)
    code, _, err = command("score", "model", to, *words, "--against", run)
    assert code == 2
    assert says in err
    assert err.count("\n") == 1


def test_a_label_without_its_run_is_refused(run):
    with pytest.raises(UserError, match="is a label of a run: give against=RUN"):
        loreun_bench.evaluate(torch.nn.Identity(), scenario="class-3")
    with pytest.raises(UserError, match="scenario is the label of one"):
        loreun_bench.evaluate(torch.nn.Identity(), against=run, scenario={"kind": "random"})
