"""Scenarios in sweeps: requests that follow one another, a forget set by loss, splits that leave the house."""

from __future__ import annotations

import csv

import numpy as np
import pytest

import loreun_bench
from loreun_bench.config import load
from loreun_bench.errors import UserError
from loreun_bench.harness.plan import artifacts, build
from loreun_bench.harness.store import Store, default_root

METHOD = {"epochs": 2, "lr": 0.05, "batch_size": 64}
BASE = {
    "name": "requests", "seeds": 1, "train": {"epochs": 4, "lr": 0.2, "batch_size": 64}, "noise_floor": False,
    "device": "cpu", "precision": "fp32", "methods": {"Retrain": {}, "RL": METHOD},
    "weightings": ["none", "w_f"], "metrics": ["accuracy"],
}  # fmt: skip
ASKED = [{"kind": "class", "forget_class": 3}, {"kind": "by-loss", "count": 60}, {"kind": "class", "forget_class": [7, 8]}]
SEQUENCE = BASE | {"scenarios": [{"kind": "sequence", "requests": ASKED}]}


def stage_of(plan, scenario, method, weighting="none"):
    names = (scenario, method, weighting)
    (found,) = [c for c in plan.cells if (c.record.scenario, c.record.method, c.record.weighting) == names]
    return found


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The sequence, run once: (records, plan, store)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOREUN_STORE", str(tmp_path_factory.mktemp("store")))
        patch.setenv("LOREUN_DATA", str(tmp_path_factory.mktemp("data")))
        records = loreun_bench.sweep(SEQUENCE, tmp_path_factory.mktemp("run") / "run", workers=0)
        plan = build(load(SEQUENCE))
        return records, plan, artifacts(plan, Store(default_root()))


def test_each_request_begins_with_the_model_that_the_last_one_left():
    plan = build(load(SEQUENCE))
    labels = ["request 1 of 3: class-3", "request 2 of 3: lowest-loss-60", "request 3 of 3: class-7+8"]
    assert list(dict.fromkeys(cell.record.scenario for cell in plan.cells)) == labels
    for weighting in ("none", "w_f"):
        chain = [stage_of(plan, label, "RL", weighting).model for label in labels]
        assert chain[0].inputs["original"].run.endswith(":train")
        assert chain[1].inputs["original"].recipe == chain[0].recipe
        assert chain[2].inputs["original"].recipe == chain[1].recipe
    retrained = {stage_of(plan, label, "Retrain").model.recipe for label in labels}
    assert len(retrained) == 3
    originals = {stage.recipe for stage in plan.stages if stage.run.endswith(":train")}
    assert len(originals) == 1


def test_what_came_back_is_measured_from_the_second_request_on(swept):
    records, _, _ = swept
    assert all(record.status == "ok" for record in records), [r.reason for r in records]
    for record in records:
        assert ("earlier_acc" in record.metrics) == (not record.scenario.startswith("request 1")), record.scenario
    by_name = {(r.scenario[8], r.method): r.metrics for r in records if r.weighting == "none"}
    assert by_name["2", "Retrain"]["earlier_acc"] == 0  # a class that was never seen
    assert by_name["2", "Original"]["earlier_acc"] > 90


def test_the_retrained_model_of_a_request_never_saw_what_was_forgotten_so_far(swept):
    _, plan, there = swept
    last = stage_of(plan, "request 3 of 3: class-7+8", "Retrain")
    split = there[last.evaluation.inputs["split"].recipe].tensors()
    gone = set(split["forget"].tolist()) | set(split["earlier"].tolist())
    assert not gone & set(split["retain"].tolist())
    first = there[stage_of(plan, "request 1 of 3: class-3", "RL").evaluation.inputs["split"].recipe].tensors()
    assert set(first["forget"].tolist()) <= set(split["earlier"].tolist())


def test_by_loss_takes_what_this_seeds_original_fits_best(swept):
    _, plan, there = swept
    stage = stage_of(plan, "request 2 of 3: lowest-loss-60", "RL").evaluation.inputs["split"]
    split, losses = there[stage.recipe].tensors(), there[stage.inputs["losses"].recipe].tensors()["losses"]
    left = np.union1d(split["forget"].numpy(), split["retain"].numpy())
    assert losses[split["forget"]].max() <= np.sort(losses[left].numpy())[59] + 1e-12
    assert np.isnan(losses.numpy()).sum() == len(split["validation"])


def test_a_row_of_the_same_method_with_other_settings(tmp_path):
    methods = {"Retrain": {}, "RL": METHOD, "RL:paired": METHOD | {"schedule": "paired"}}
    config = BASE | {"scenarios": [{"kind": "random", "count": 60}], "methods": methods}
    rows = {(r.method, r.weighting): r for r in loreun_bench.sweep(config, tmp_path / "run", workers=0)}
    assert {"RL", "RL:paired"} <= {method for method, _ in rows}
    assert rows["RL", "none"].metrics != rows["RL:paired", "none"].metrics


def test_an_exported_split_is_what_was_swept_and_can_be_asked_for_again(tmp_path, command):
    config = BASE | {"scenarios": [{"kind": "class", "forget_class": 3}], "methods": {"RL": METHOD}}
    loreun_bench.sweep(config, tmp_path / "run", workers=0)
    for name in ("split.csv", "split.npz"):
        code, out, err = command("split", "export", tmp_path / "run", "--to", tmp_path / name)
        assert code == 0, err
        assert "118 forget" in out
    rows = list(csv.DictReader((tmp_path / "split.csv").open()))
    forget = [int(row["index"]) for row in rows if row["set"] == "forget"]
    assert {row["class"] for row in rows if row["set"] in ("forget", "test_forget")} == {"3"}
    assert forget == np.load(tmp_path / "split.npz")["forget"].tolist()
    again = BASE | {"scenarios": [{"kind": "indices", "file": str(tmp_path / "split.csv")}], "methods": {"RL": METHOD}}
    plan = build(load(again))
    stage = plan.cells[0].evaluation.inputs["split"]
    assert stage.function()(stage.config, {}, "cpu").tensors["forget"].tolist() == forget


def test_a_list_that_changes_after_planning_is_noticed_and_a_new_list_is_a_new_split(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("1\n2\n3\n")
    config = BASE | {"scenarios": [{"kind": "indices", "file": str(path)}]}
    stage = build(load(config)).cells[0].evaluation.inputs["split"]
    path.write_text("1\n2\n4\n")
    with pytest.raises(UserError, match="changed since this sweep was planned"):
        stage.function()(stage.config, {}, "cpu")
    assert build(load(config)).cells[0].evaluation.inputs["split"].recipe != stage.recipe


def test_evaluate_takes_the_same_scenarios():
    from loreun_bench.classification.stages import build_model

    model = build_model("small-cnn", {}, 1, 10, (8, 8))
    found = loreun_bench.evaluate(model, "digits", {"kind": "class", "forget_class": ["3", "4"]}, metrics=["accuracy"])
    assert 0 <= found["forget_acc"] <= 100
    by_loss = {"kind": "by-loss", "count": 20}
    with pytest.raises(UserError, match="give original=MODEL"):
        loreun_bench.evaluate(model, "digits", by_loss, metrics=["accuracy"])
    lowest = loreun_bench.evaluate(model, "digits", by_loss, metrics=["loss"], original=model)
    highest = loreun_bench.evaluate(model, "digits", by_loss | {"which": "highest"}, metrics=["loss"], original=model)
    assert lowest["forget_loss"] < lowest["retain_loss"] < highest["forget_loss"]
