"""The plan: what is shared, what a key depends on, who gets which seed and how many epochs."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from loreun_bench.classification import planning
from loreun_bench.config import load
from loreun_bench.errors import UserError
from loreun_bench.harness.plan import build, closure, shard

SCENARIOS = [{"kind": "random", "fraction": 0.1}, {"kind": "class", "forget_class": 3}]
BASE = {
    "seeds": 2,
    "train": {"epochs": 4},
    "scenarios": SCENARIOS,
    "methods": {"Retrain": {}, "RL": {"epochs": 2}, "SalUn": {"epochs": 2}, "FT": {"epochs": 2}, "GA": {"epochs": 2}},
    "weightings": ["none", "w_f", "w_r", "w_f+w_r", "loreun-s", "loreun-d"],
    "device": "cpu",
}


def plan(**change):
    return build(load(BASE | change))


def kinds(found):
    return Counter(stage.run.partition(":")[2] for stage in found.stages)


def cell(found, method, weighting="none", scenario="random-10%", seed=0):
    return next(
        c
        for c in found.cells
        if (c.record.method, c.record.weighting, c.record.scenario, c.record.seeds["unlearn"])
        == (method, weighting, scenario, seed)
    )


def test_one_original_for_all_scenarios_and_one_retrain_for_each_split_and_seed():
    found = plan(noise_floor=False)
    assert kinds(found)["train"] == 2
    retrains = [s for s in found.stages if s.config.get("method") == "Retrain"]
    assert len(retrains) == 4
    assert kinds(plan(noise_floor=True))["unlearn"] - kinds(found)["unlearn"] == 4


def test_weightings_are_tried_on_those_methods_that_are_named():
    whole = {(c.record.method, c.record.weighting) for c in plan(noise_floor=False).cells}
    found = plan(noise_floor=False, weighted=["RL", "FT"])
    rows = {(c.record.method, c.record.weighting) for c in found.cells}
    assert whole - rows == {(m, w) for m, w in whole if m in ("SalUn", "GA") and w != "none"}
    assert rows <= whole
    assert not any(note.startswith("GA") for note in found.notes)
    with pytest.raises(UserError, match="weighted names SCRUB, which is no method of this sweep"):
        plan(weighted=["SCRUB"])


def test_the_parts_of_a_sweep_have_each_cell_once_and_what_it_needs():
    whole = plan(metrics=["accuracy", "mia", "loss", "strata"])
    parts = [shard(whole, f"{k}/5") for k in range(1, 6)]
    assert sorted(c.record.cell for part in parts for c in part.cells) == sorted(c.record.cell for c in whole.cells)
    for part in parts:
        for c in part.cells:
            assert closure(c.evaluation) <= {stage.recipe for stage in part.stages}
        assert len(part.stages) < len(whole.stages)


@pytest.mark.parametrize("which", ["0/4", "5/4", "1", "1/", "/2", "-1/4", "a/b", "1/0", "1/2/3", "²/3", "9999/9999"])
def test_a_part_that_there_is_not_is_refused(which):
    with pytest.raises(UserError, match="--shard"):
        shard(plan(), which)


def test_cells_over_seeds_are_left_to_who_collects():
    found = plan(metrics=["accuracy", "loss", "klom"], seeds={"count": 10, "split": 0}, scenarios=SCENARIOS[1:])
    assert any(not c.record.seeds for c in found.cells)
    assert all(c.record.seeds for k in (1, 2) for c in shard(found, f"{k}/2").cells)


def test_a_record_says_how_much_of_the_same_pictures_each_seed_forgets_anew():
    scenarios = [*SCENARIOS, {"kind": "by-loss", "fraction": 0.1, "which": "lowest"}]
    found = {c.record.scenario: c.record.overlap for c in plan(scenarios=scenarios).cells}
    assert found == {"random-10%": 0.1107, "class-3": 0.0, "lowest-loss-10%": 0.1107}
    one_split = [{"split": 0, "train": seed, "unlearn": seed, "eval": seed} for seed in range(2)]
    found = {c.record.scenario: c.record.overlap for c in plan(scenarios=scenarios, seeds=one_split).cells}
    assert found == {"random-10%": 0.0, "class-3": 0.0, "lowest-loss-10%": 0.1107}
    one_original = [each | {"train": 0} for each in one_split]
    assert {c.record.overlap for c in plan(scenarios=scenarios, seeds=one_original).cells} == {0.0}


def test_only_a_row_called_retrain_is_what_gaps_are_measured_to():
    for methods, said in (({"Retrain": {}}, 0), ({"Retrain": {}, "Retrain:b": {}}, 0), ({"Retrain:b": {}}, 1), (["RL"], 1)):
        assert sum("no row is called Retrain" in note for note in plan(methods=methods).notes) == said


def test_a_mislabelled_scenario_trains_its_own_original():
    scenarios = [*SCENARIOS, {"kind": "mislabelled", "fraction": 0.1}]
    assert kinds(plan(scenarios=scenarios))["train"] == 2 * 2


def test_every_row_of_a_seed_starts_from_the_same_original_and_split():
    found = plan()
    rows = [c.model for c in found.cells if c.record.seeds["unlearn"] == 0 and c.record.scenario == "random-10%"]
    unlearned = [s for s in rows if "original" in s.inputs]
    assert len({s.inputs["original"].recipe for s in unlearned}) == 1
    assert len({s.inputs["split"].recipe for s in rows if s.run.endswith("unlearn")}) == 1


def test_stages_come_after_their_inputs_each_once():
    seen = set()
    for stage in plan().stages:
        assert stage.recipe not in seen
        assert all(upstream.recipe in seen for upstream in stage.inputs.values())
        seen.add(stage.recipe)


def test_weightings_that_change_nothing_are_left_out_and_said():
    found = plan()
    rows = Counter(c.record.method for c in found.cells if c.record.seeds["unlearn"] == 0 and c.record.scenario == "class-3")
    assert rows == {"Original": 1, "Retrain": 1, "Retrain-2": 1, "RL": 6, "SalUn": 6, "FT": 2, "GA": 4}
    assert "FT × w_f left out: FT has no forget phase" in found.notes
    assert "GA × w_r left out: GA has no retain phase" in found.notes


def test_a_control_of_other_settings_than_what_it_controls_for_is_said_once():
    scenarios = [SCENARIOS[0] | {"weightings": {"w_f": {"eta_f": 0.2}, "random": {"eta_f": 0.2}}}, SCENARIOS[1]]
    found = plan(scenarios=scenarios, weightings=["none", "w_f", "w_r", "inverted", "random"])
    told = [note for note in found.notes if "is no control" in note]
    assert told == ["random-10%: inverted (eta_f 0.1) is no control of w_f (eta_f 0.2): their settings differ"]
    assert not any("is no control" in note for note in plan(weightings=["none", "inverted"]).notes)


def test_all_weightings_of_a_method_get_the_same_settings_and_seeds():
    found = plan()
    for method in ("RL", "SalUn"):
        configs = [
            {k: v for k, v in c.model.config.items() if not k.startswith("weighting")}
            for c in found.cells
            if (c.record.method, c.record.scenario, c.record.seeds["unlearn"]) == (method, "random-10%", 0)
        ]
        assert len(configs) == 6
        assert all(config == configs[0] for config in configs)


def test_methods_share_the_unlearning_seed_and_seeds_differ():
    found = plan()
    assert cell(found, "RL").model.config["seed"] == cell(found, "SalUn").model.config["seed"]
    assert cell(found, "RL").model.config["seed"] != cell(found, "RL", seed=1).model.config["seed"]


def test_retrain_has_the_recipe_of_the_original_and_its_own_initial_weights():
    found = plan()
    original = cell(found, "RL").model.inputs["original"].config
    retrain, again = cell(found, "Retrain").model.config, cell(found, "Retrain-2").model.config
    assert retrain["train"] == again["train"] == original["train"]
    assert len({c["init_seed"] for c in (original, retrain, again)}) == 3
    assert len({c["seed"] for c in (original, retrain, again)}) == 3


def test_under_protocol_paper_retrain_starts_from_the_originals_initial_weights():
    found = plan(protocol="paper")
    original = cell(found, "RL").model.inputs["original"].config
    assert cell(found, "Retrain").model.config["init_seed"] == original["init_seed"]
    assert any("known bugs" in note for note in found.notes)


def test_split_training_and_unlearning_seeds_act_apart():
    def stages(**seeds):
        found = plan(seeds=[{"split": 0, "train": 0, "unlearn": 0} | seeds], scenarios=SCENARIOS[:1])
        c = next(c for c in found.cells if c.record.method == "RL" and c.record.weighting == "none")
        return c.model.inputs["split"].recipe, c.model.inputs["original"].recipe, c.model.recipe

    base, unlearn, train, split = stages(), stages(unlearn=1), stages(train=1), stages(split=1)
    assert [a == b for a, b in zip(base, unlearn, strict=True)] == [True, True, False]
    assert [a == b for a, b in zip(base, train, strict=True)] == [True, False, False]
    assert [a == b for a, b in zip(base, split, strict=True)] == [False, False, False]


@pytest.mark.parametrize(
    "change",
    [
        {"train": {"epochs": 5}}, {"protocol": "paper"}, {"validation": 0.2}, {"model_settings": {"width": 8}},
        {"limit_steps": 3}, {"limit_images": 500}, {"precision": "bf16"},
    ],
)  # fmt: skip
def test_whatever_changes_the_original_changes_its_key(change):
    base, other = (cell(p, "RL").model.inputs["original"] for p in (plan(), plan(**change)))
    assert base.recipe != other.recipe


def test_settings_change_only_their_own_rows():
    base, other = plan(), plan(weightings={"none": {}, "w_f": {"eta_f": 0.3}, "w_r": {}})
    assert cell(base, "RL", "w_f").model.recipe != cell(other, "RL", "w_f").model.recipe
    assert cell(base, "RL", "w_r").model.recipe == cell(other, "RL", "w_r").model.recipe
    other = plan(metrics=["accuracy"])
    assert cell(base, "RL").model.recipe == cell(other, "RL").model.recipe
    assert cell(base, "RL").evaluation.recipe != cell(other, "RL").evaluation.recipe


def test_a_scenario_overrides_for_itself_only():
    scenarios = [SCENARIOS[0], SCENARIOS[1] | {"train": {"epochs": 9}, "methods": {"RL": {"lr": 0.5}}}]
    found = plan(scenarios=scenarios)
    assert cell(found, "Retrain").model.config["train"]["epochs"] == 4
    assert cell(found, "Retrain", scenario="class-3").model.config["train"]["epochs"] == 9
    assert cell(found, "RL", scenario="class-3").model.config["method_settings"]["lr"] == 0.5
    assert cell(found, "RL").model.config["method_settings"]["lr"] == 0.01


def test_a_method_s_code_is_part_of_its_key_and_of_no_other():
    files = {file.name for file in cell(plan(), "SalUn").model.sources}
    assert {"salun.py", "rl.py", "method.py", "none.py"} <= files
    assert "ga.py" not in files
    assert all(path.exists() for path in planning.TRAINING_CODE + planning.EVALUATION_CODE)


def test_estimates_count_the_samples_that_are_really_trained_on():
    found = plan(scenarios=SCENARIOS[:1])
    train = 1438 - 144
    assert cell(found, "RL").model.work == 2 * train
    assert cell(found, "FT").model.work == 2 * (train - 129)
    assert cell(found, "GA").model.work == 2 * 129
    assert cell(found, "Retrain").model.work == 4 * (train - 129)


def test_the_normalisation_of_the_data_is_part_of_every_key(monkeypatch):
    base = plan()
    real = planning.resolve
    monkeypatch.setattr(planning, "resolve", lambda *args: dataclasses.replace(real(*args), mean=(0.9,)))
    same = {"split": "same", "original": "same", "model": "same"}  # the upstream results do not tell
    for stage in ("model", "evaluation"):
        assert getattr(cell(base, "RL"), stage).key(same) != getattr(cell(plan(), "RL"), stage).key(same)


def test_a_sweep_without_retrain_says_what_it_lacks():
    assert any("no row is called Retrain" in note for note in plan(methods={"RL": {}}).notes)
    assert not any("called Retrain" in note for note in plan().notes)


def test_the_plan_says_no_time_for_what_has_never_run(command, tmp_path):
    settings = "seeds=1", "scenarios=[{kind: class, forget_class: 3}]", "methods={FT: {epochs: 1}}", "train={epochs: 1}"
    words = ["digits", *(word for each in (*settings, "weightings=[none]") for word in ("--set", each))]
    code, out, _ = command("plan", *words)
    assert code == 0
    *_, head, cost = out.splitlines()
    assert "2 cells, 7 stages: 0 cached, 7 to run" in head
    assert cost == "7 stages of unknown speed (none of their kind has run yet)"
    assert command("sweep", *words, "--out", tmp_path / "run", "--workers", "0")[0] == 0
    _, out, _ = command("plan", *words)
    assert out.splitlines()[-1] == "2 cells, 7 stages: 7 cached, 0 to run"
    _, out, _ = command("plan", *words, "--set", "methods={FT: {epochs: 1}, FT:long: {epochs: 2000000}}")
    rows = [line for line in out.splitlines() if line.startswith("to run ")]
    assert len(rows) == 2  # the method, and its measuring
    assert not [row for row in rows if row.endswith(("?", " 0.0"))]
    assert " s of one worker" in out.splitlines()[-1]
    assert "unknown" not in out.splitlines()[-1]


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        ([None, None], "2 stages of unknown speed"),
        ([0.2, None], "under 1 s of one worker and 1 stages of unknown speed"),
        ([0.2, 0.3], "under 1 s of one worker"),
        ([0.6, 61.0], "about 62 s of one worker"),
    ],
)
def test_what_is_not_known_is_not_zero(seconds, says):
    from loreun_bench.cli.sweep import _cost

    assert _cost(seconds).startswith(says)
    assert "about 0" not in _cost(seconds)


def test_the_time_of_a_stage_without_samples_is_that_of_others_of_its_kind(tmp_path):
    from loreun_bench import api
    from loreun_bench.harness.plan import forecast
    from loreun_bench.harness.store import Store, default_root

    small = {"seeds": 1, "methods": {"FT": {"epochs": 1}}, "train": {"epochs": 1}, "weightings": ["none"]}
    api.sweep(BASE | small | {"scenarios": SCENARIOS[:1]}, tmp_path / "run", workers=0)
    found = forecast(plan(**small), Store(default_root()))
    splits = [each for each in found if each.stage.run.endswith(":split")]
    assert {each.cached for each in splits} == {True, False}
    assert all(each.seconds > 0 for each in splits)


def test_what_a_metric_trains_on_counts_in_the_estimate():
    metrics = ["accuracy", "mia", "relearn"]
    small, more = (cell(plan(metrics=each), "RL").evaluation.work for each in (metrics[:2], metrics))
    assert more - small == 20 * 129  # epochs on a tenth of the training pictures, at most
