"""`tune`: equal budgets, validation and other seeds alone, and what it leaves for the table."""

from __future__ import annotations

import math
import re

import pytest
import yaml

import loreun_bench
from loreun_bench import config as configuration
from loreun_bench.errors import UserError
from loreun_bench.harness import tuning
from loreun_bench.harness.records import Record
from loreun_bench.harness.tuning import Trial
from loreun_bench.plugins import load_plugin
from loreun_bench.report import leaderboard, table

SWEEP = {
    "name": "small", "dataset": "digits", "limit_images": 300, "train": {"epochs": 1}, "seeds": 1,
    "scenarios": [{"kind": "class", "forget_class": 3}],
    "methods": {"Retrain": {}, "RL": {"epochs": 1}, "SSD": {}, "IU": {"pictures": 5}}, "weightings": ["none", "w_f"],
}  # fmt: skip

DAMP = '''
from dataclasses import dataclass
from typing import ClassVar
from loreun_bench import method
from loreun_bench.classification.unlearning.method import Method

@method("damp", uses={"forget"})
@dataclass(frozen=True)
class Damp(Method):
    """Nothing."""

    space: ClassVar = {"alpha": (1.0, 100.0)}
    alpha: float | None = None

    def unlearn(self, model, data, context):
        return model
'''


def test_points_are_spread_evenly_in_the_logarithm_and_the_same_each_time():
    found = tuning.spread({"lr": (1e-4, 1.0)}, 4)
    assert [point["lr"] for point in found] == pytest.approx([10**-3.5, 10**-2.5, 10**-1.5, 10**-0.5], rel=1e-2)
    both = tuning.spread({"lr": (1e-4, 1.0), "alpha": (1.0, 100.0)}, 16)
    assert both == tuning.spread({"lr": (1e-4, 1.0), "alpha": (1.0, 100.0)}, 16)
    for name, (low, high) in {"lr": (1e-4, 1.0), "alpha": (1.0, 100.0)}.items():
        places = [math.log(point[name] / low) / math.log(high / low) for point in both]
        assert all(0 <= place <= 1 for place in places)
        assert [sum(k / 4 <= place < (k + 1) / 4 for place in places) for k in range(4)] == pytest.approx([4] * 4, abs=1)


def test_every_method_gets_as_many_trials_the_given_settings_first():
    config = configuration.load(SWEEP)
    rows = tuning.trials_of(config, 5)
    count = {name: [settings for method, (settings,) in rows.values() if method == name] for name in ("RL", "SSD", "IU")}
    assert [len(each) for each in count.values()] == [5, 5, 5]
    assert [each[0] for each in count.values()] == [{"epochs": 1}, {}, {"pictures": 5}]
    assert all(each["epochs"] == 1 and each["lr"] > 0 for each in count["RL"][1:])
    assert not any(method == "Retrain" for method, _ in rows.values())
    with pytest.raises(UserError, match="no method of this sweep says what can be tuned"):
        tuning.trials_of(configuration.load(SWEEP | {"methods": ["Retrain"]}), 5)


@pytest.mark.parametrize("weighted", [None, ["RL"]])  # methods that the sweep's weightings are tried on
def test_the_search_has_seeds_of_its_own_and_never_sees_the_test_set(weighted):
    config = configuration.load(SWEEP | {"weighted": weighted})
    found = tuning.search(config, tuning.trials_of(config, 3), "7-8")
    assert [seeds.split for seeds in found.seeds] == [7, 8]
    assert (list(found.weightings), found.metrics, found.noise_floor) == (["none"], ("accuracy",), False)
    with pytest.raises(UserError, match="seed 0 is one of the sweep's"):
        tuning.search(config, tuning.trials_of(config, 3), "0-3")


def test_a_scenarios_own_settings_are_of_the_first_trial_and_go_where_another_is_chosen():
    rows = {"methods": {"RL": {"lr": 0.5, "epochs": 2}, "Retrain": {}}, "weightings": {"w_f": {"eta_f": 0.2}}}
    own = {"kind": "class", "forget_class": 3} | rows
    config = configuration.load(SWEEP | {"scenarios": [own]})
    (scenario,) = tuning.search(config, tuning.trials_of(config, 2), "7").scenarios
    assert scenario.methods == {"RL:t0": {"lr": 0.5, "epochs": 2}, "RL:t1": {"epochs": 2}, "Retrain": {}}
    assert scenario.weightings == {}  # the search is unweighted
    first, other = {"epochs": 1}, {"epochs": 1, "lr": 0.02}
    for settings, kept in ((first, {"lr": 0.5, "epochs": 2}), (other, {"epochs": 2})):
        text = tuning.written(config, [{"RL": Trial("RL", settings, 0.5)}], 2, "7")
        (found,) = configuration.load(yaml.safe_load(text)).scenarios
        assert found.methods["RL"] == kept


def test_each_scenario_gets_what_is_best_for_it():
    own = {"kind": "class", "forget_class": 3, "methods": {"SSD": {"alpha": 7.0}, "IU": {"pictures": 9}}}
    given = SWEEP | {"scenarios": [{"kind": "random", "fraction": 0.2}, own]}
    config = configuration.load(given)
    first, other, third = {"epochs": 1}, {"epochs": 1, "lr": 0.02}, {"epochs": 1, "lr": 0.3}

    def found(chosen):
        tuned = configuration.load(yaml.safe_load(tuning.written(config, chosen, 3, "7")))
        assert tuned.trials == {"RL": 3}
        settings = [tuned.methods["RL"] | each.methods.get("RL", {}) for each in tuned.scenarios]
        assert tuned.scenarios[1].methods["SSD"] == {"alpha": 7.0}  # what was not tuned stays
        return settings, [each.methods.get("RL") for each in tuned.scenarios]

    def rl(settings):
        return {"RL": Trial("RL", settings, 0.5)}

    assert found([rl(other), rl(third)]) == ([other, third], [{"lr": 0.02}, {"lr": 0.3}])
    assert found([rl(other), rl(other)]) == ([other, other], [None, None])  # stands once
    assert found([rl(first), rl(third)]) == ([first, third], [None, {"lr": 0.3}])
    assert found([rl(other), {}]) == ([other, first], [{"lr": 0.02}, None])  # all of its trials failed there


def test_records_are_of_the_scenario_that_is_so_named_or_of_one_of_its_requests():
    requests = [{"kind": "class", "forget_class": 3}, {"kind": "random", "fraction": 0.2}]
    own = {"RL": {"lr": 0.5}}  # of a row that the search names otherwise
    several = [{"kind": "sequence", "requests": requests, "methods": own}, {"kind": "class", "forget_class": "8"}]
    config = configuration.load(SWEEP | {"scenarios": several})
    found = tuning.labels(tuning.search(config, tuning.trials_of(config, 2), "7"))
    assert found == [{"request 1 of 2: class-3", "request 2 of 2: random-20%"}, {"class-8"}]


@pytest.mark.parametrize("given", [{}, {"device": "cpu"}, {"device": "cpu", "timeout_s": 60}])
def test_precision_stays_as_it_was_given_on_whatever_device(given):
    config = configuration.load(SWEEP | given)
    found = configuration.load(yaml.safe_load(tuning.written(config, [{}], 2, "7")))
    for each in (found, tuning.search(config, tuning.trials_of(config, 2), "7")):
        assert (each.precision, each.device, each.timeout_s) == ("auto", config.device, config.timeout_s)


@pytest.mark.parametrize("change", [{"methods": ["RL"]}, {"validation": 0}])
def test_what_could_not_be_scored_is_refused_before_it_runs(change):
    config = configuration.load(SWEEP | change)
    with pytest.raises(UserError, match="the sweep needs both"):
        tuning.search(config, tuning.trials_of(config, 2), "7")


def test_where_retraining_failed_there_is_no_score():
    values = {"forget_acc": 10.0, "retain_acc": 90.0, "test_acc": 0.0, "val_acc": 80.0}
    (found,) = tuning.scored([record("Retrain", status="oom"), record("RL:t0", **values)], {"RL:t0": ("RL", [{}])}, 0)
    assert math.isnan(found.score)


def record(method: str, seed: int = 7, status: str = "ok", **metrics: float) -> Record:
    seeds = {"split": seed, "train": seed, "unlearn": seed, "eval": seed}
    return Record("classification", "d", "m", "s", method, "none", seeds, status, metrics=metrics)


def test_the_score_is_tow_on_validation_over_seeds():
    values = {"forget_acc": 10.0, "retain_acc": 90.0, "test_acc": 0.0}
    records = [
        record("Retrain", 7, **values, val_acc=80), record("Retrain", 8, **values, val_acc=70),
        record("RL:t0", 7, **values | {"forget_acc": 30}, val_acc=70), record("RL:t0", 8, **values, val_acc=70),
        record("RL:t1", 7, status="diverged"), record("RL:t1", 8, **values, val_acc=70),
        record("SSD:t0", 7, **values, val_acc=75), record("SSD:t0", 8, **values, val_acc=70),
    ]  # fmt: skip
    rows = {"RL:t0": ("RL", [{}, {}]), "RL:t1": ("RL", [{"lr": 2.0}, {"lr": 1.0}]), "SSD:t0": ("SSD", [{}, {}])}
    found = tuning.scored(records, rows, 1)
    assert [t.settings for t in found] == [{}, {"lr": 1.0}, {}]
    assert [t.score for t in found] == [pytest.approx((0.8 * 0.9 + 1) / 2), pytest.approx(math.nan, nan_ok=True), 0.975]
    assert tuning.best(found) == {"RL": found[0], "SSD": found[2]}
    tied = [Trial("RL", {"lr": 1.0}, 0.5), Trial("RL", {"lr": 2.0}, 0.5), Trial("GA", {}, math.nan)]
    assert tuning.best(tied) == {"RL": tied[0]}


def test_what_is_best_at_the_edge_of_what_was_tried_is_named():
    config = configuration.load(SWEEP | {"methods": ["Retrain", "RL", "GA", "SSD", "IU", "FT"]})
    trials = [Trial("RL", {"lr": lr, "epochs": 1}, score) for lr, score in ((0.1, 0.5), (0.02, 0.9), (1.0, 0.6))]
    trials += [Trial("GA", {"lr": lr}, score) for lr, score in ((0.1, 0.6), (0.01, 0.5), (1.0, 0.4))]
    trials += [Trial("SSD", settings, score) for settings, score in (({}, 1.0), ({"alpha": 2.0}, 0.9), ({"alpha": 9.0}, 0))]
    trials += [Trial("FT", settings, score) for settings, score in (({}, 1.0), ({"lr": 0.001}, 0.9), ({"lr": 0.1}, 0))]
    trials += [Trial("IU", {"alpha": 2.0}, 0.5)]
    assert tuning.at_edge(config, 0, trials, tuning.best(trials)) == ["RL lr", "SSD alpha"]  # of SSD the default, 10


def test_around_the_best_of_each_scenario_more_settings_are_tried_as_far_as_its_neighbours():
    own = {"kind": "class", "forget_class": 3, "methods": {"SSD": {"alpha": 100.0}}}
    config = configuration.load(SWEEP | {"scenarios": [{"kind": "random", "fraction": 0.2}, own]})
    rows = tuning.trials_of(config, 5)
    low, high = rows["RL:t1"][1][0], rows["RL:t2"][1][0]  # a decade apart
    chosen = [
        # SSD: the default, 10, and the scenario's own, 100; IU has failed in the second
        {"RL": Trial("RL", low, 0.9), "SSD": Trial("SSD", {}, 0.9), "IU": Trial("IU", {"pictures": 5, "alpha": 1.0}, 0.9)},
        {"RL": Trial("RL", high, 0.9), "SSD": Trial("SSD", {}, 0.9)},
    ]
    found = tuning.refined(config, rows, chosen, 4)
    assert list(found)[: len(rows)] == list(rows)
    assert [name for name in found if name not in rows] == [f"{m}:t{k}" for m in ("RL", "SSD", "IU") for k in (5, 6, 7, 8)]
    searched = tuning.search(config, found, "7")

    def tried(method, name):
        return [
            [(searched.methods[f"{method}:t{k}"] | each.methods.get(f"{method}:t{k}", {})).get(name) for k in (5, 6, 7, 8)]
            for each in searched.scenarios
        ]

    # RL: a decade to the next one, but half of one from the first to the edge, and to the sweep's own 0.01, tried between
    ends = (1e-4, high["lr"]), (low["lr"], 0.01)
    for (least, greatest), points in zip(ends, tried("RL", "lr"), strict=True):
        expected = [least * (greatest / least) ** ((k + 0.5) / 4) for k in range(4)]
        assert points == pytest.approx(expected, rel=0.01)
    alphas = [rows[f"SSD:t{k}"][1][0]["alpha"] for k in range(1, 5)]
    for best, points in zip((10.0, 100.0), tried("SSD", "alpha"), strict=True):
        between = max(a for a in alphas if a < best), min(a for a in [*alphas, 300] if a > best)
        assert between[0] < min(points) < max(points) < between[1]
    assert tried("IU", "pictures") == [[5] * 4] * 2
    alphas, none = tried("IU", "alpha")
    assert min(alphas) < 1 < max(alphas)
    assert none == [None] * 4  # the sweep's own settings, which are there already


def test_tune_writes_a_sweep_that_says_what_was_tuned(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scenarios = [{"kind": "class", "forget_class": 3}, {"kind": "random", "fraction": 0.2}]
    (tmp_path / "small.yaml").write_text(configuration.dump(configuration.load(SWEEP | {"scenarios": scenarios})))
    code, out, _ = command("tune", "small.yaml", "--trials", 2, "--refine", 2, "--seeds", "7", "--workers", 0,
                           "--out", "search", "--set", "methods.RL.lr=0.02")  # fmt: skip
    assert code == 0
    assert (tmp_path / "search" / "config.yaml").exists()
    searched = configuration.load(tmp_path / "search-refined" / "config.yaml")
    assert [name for name in searched.methods if name.startswith("RL")] == [f"RL:t{k}" for k in range(4)]
    assert [out.count(words) for words in ("class-3\n", "random-20%\n", "\nRL ", " *")] == [1, 1, 8, 6]
    rates = [float(rate) for rate in re.findall(r"^RL .*lr=(\S+)", out, re.M)]
    assert rates == [*sorted(rates[:4]), *sorted(rates[4:])]
    text = (tmp_path / "small-tuned.yaml").read_text()
    assert text.startswith("# small, tuned: of 2 settings of each of RL, SSD, IU and 2 around the best of these the best")
    tuned = configuration.load(tmp_path / "small-tuned.yaml")
    assert tuned.trials == {"RL": 4, "SSD": 4, "IU": 4}
    assert tuned.methods["RL"]["epochs"] == 1
    records = loreun_bench.sweep(tuned, tmp_path / "run", workers=0)
    assert {r.method: r.trials for r in records} == {"Original": 0, "Retrain": 0, "Retrain-2": 0, "RL": 4, "SSD": 4, "IU": 4}
    shown = leaderboard.render(table.build([("run", records)]), "md")
    assert "Tuned, unweighted, on validation with other seeds (settings tried): IU (4), RL (4), SSD (4)." in shown


def test_trials_of_no_method_are_refused():
    with pytest.raises(UserError, match="trials names FT, which is no method of this sweep"):
        configuration.load(SWEEP | {"trials": {"FT": 3}})


def test_tune_tries_methods_of_pictures_and_scores_what_is_forgotten_and_kept(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = {
        "track": "generation", "name": "drawn", "seeds": 1, "scenarios": [{"kind": "class", "forget_class": "seven"}],
        "sampling": {"steps": 1, "guidance": 1.0, "images": 1, "batch_size": 10}, "limit_steps": 1, "metrics": ["ua"],
        "methods": {"UCE": {}, "ESD-x": {"iterations": 1}, "ESD-x:twice": {"iterations": 2}}, "weightings": ["none"],
    }  # fmt: skip
    (tmp_path / "drawn.yaml").write_text(configuration.dump(configuration.load(small)))
    other = configuration.load(small | {"metrics": ["fd"]})
    assert tuning.search(other, tuning.trials_of(other, 2), "7").metrics == ("fd", "ua")
    code, out, _ = command("tune", "drawn.yaml", "--trials", 2, "--refine", 0, "--seeds", "7", "--workers", 0)
    assert code == 0
    assert out.count(" *") == 3
    tuned = configuration.load(tmp_path / "drawn-tuned.yaml")
    assert tuned.trials == {"UCE": 2, "ESD-x": 2, "ESD-x:twice": 2}
    own = record("ESD-x:t0", 7, forget_ua=25.0, kept_acc=80.0)
    own = own.__class__(**vars(own) | {"track": "generation"})
    assert tuning.scored([own], {"ESD-x:t0": ("ESD-x", [{}])}, 0)[0].score == pytest.approx(2 * 75 * 80 / (75 + 80))


def test_of_several_settings_the_best_is_looked_around_as_far_as_trials_are_apart():
    space = {"lr": (1e-4, 1.0), "alpha": (1.0, 100.0)}
    tried = [{"lr": 0.1, "alpha": 10.0}, *tuning.spread(space, 16)]
    found = tuning._part(space, tried[0], tried)
    assert found == {"lr": pytest.approx((0.01, 1.0)), "alpha": pytest.approx((10**0.5, 10**1.5))}  # a quarter of the range


def test_a_default_that_is_no_number_has_no_neighbours(tmp_path):
    (tmp_path / "damp.py").write_text(DAMP)
    load_plugin(tmp_path / "damp.py")
    config = configuration.load(SWEEP | {"methods": {"Retrain": {}, "damp": {}}})
    rows = tuning.trials_of(config, 5)
    trials = [Trial("damp", settings[0], 0.9 - number / 10) for number, (_, settings) in enumerate(rows.values())]
    chosen = tuning.best(trials)
    assert chosen["damp"].settings == {}
    assert tuning.at_edge(config, 0, trials, chosen) == []
    found = [settings[0] for _, settings in tuning.refined(config, rows, [chosen], 4).values()][5:]
    assert found == tuning.spread({"alpha": (1.0, 100.0)}, 4)  # over all of it again
