"""Configurations: presets load, mistakes are named in one line, nothing unclear is accepted."""

from __future__ import annotations

import contextlib
import random

import pytest

from loreun_bench import config as configuration
from loreun_bench.config import dump, load, presets, read_yaml, settings
from loreun_bench.errors import UserError
from loreun_bench.registry import registry

BASE = {"seeds": 1, "scenarios": [{"kind": "random", "fraction": 0.1}], "methods": ["RL"]}


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_valid_and_survives_a_round_trip(name, tmp_path):
    config = load(name)
    assert config.name == name
    for kind in ("methods", "weightings"):
        for item, values in getattr(config, kind).items():
            settings(registry(kind, config.track).get(item.partition(":")[0]), values, item)
    path = tmp_path / "config.yaml"
    path.write_text(dump(config))
    assert load(path) == config


def test_the_issue_names_these_presets():
    classifiers = {"digits", "fashion-mnist", "cifar10-random", "cifar10-class", "cifar10"}
    assert classifiers | {"digits-diffusion", "imagenette-sd", "i2p-nudity"} <= set(presets())


@pytest.mark.parametrize("name", ["cifar10-random", "cifar10-class"])
def test_the_papers_presets_have_saluns_recipe(name):
    config = load(name)
    recipe = config.train
    assert (recipe.epochs, recipe.lr, recipe.batch_size, recipe.momentum, recipe.weight_decay) == (182, 0.1, 256, 0.9, 5e-4)
    assert (recipe.milestones, recipe.gamma, recipe.crop, recipe.flip) == ((91, 136), 0.1, 4, True)
    assert config.methods["SalUn"] == {"epochs": 10, "lr": 0.01, "density": 0.5}


def test_no_preset_gives_a_weighting_its_own_schedule():
    assert not any({"epochs", "lr"} & set(values) for name in presets() for values in load(name).weightings.values())


def test_overrides_reach_inside_and_leave_the_rest():
    config = load("digits", ["train.epochs=7", "methods.RL.lr=1e-3", "seeds=[4]", "weightings=[none]"])
    assert config.train.epochs == 7
    assert config.train.lr == 0.2
    assert config.methods["RL"]["lr"] == 1e-3
    assert config.methods["RL"]["epochs"] == 10
    assert [s.split for s in config.seeds] == [4]


def test_what_is_left_out_is_called_missing():
    for key in ("seeds", "scenarios", "methods"):
        with pytest.raises(UserError, match=f"config.{key}: Field required"):
            load({name: value for name, value in BASE.items() if name != key})


def test_seed_roles_can_be_set_apart():
    config = load(BASE | {"seeds": [{"split": 0, "train": 1, "unlearn": 2}]})
    assert config.seeds[0].model_dump() == {"split": 0, "train": 1, "unlearn": 2, "eval": 0}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epohcs": 3}, "unknown key 'epohcs'"),
        ({"train": {"epoch": 3}}, "config.train: unknown key 'epoch'; did you mean 'epochs'"),
        ({"train": {"epochs": "ten"}}, "config.train.epochs"),
        ({"train": {"epochs": 0}}, "greater than or equal to 1"),
        ({"train": {"lr": float("nan")}}, "config.train.lr"),
        ({"train": {"schedule": "multistep"}}, "milestones"),
        ({"scenarios": [{"kind": "random", "fraction": 0.0}]}, "fraction"),
        ({"scenarios": [{"kind": "random", "fraction": 1}]}, "fraction"),
        ({"scenarios": [{"kind": "random", "fraction": "x"}]}, "fraction"),
        ({"scenarios": [{"kind": "random"}]}, "fraction"),
        ({"scenarios": [{"kind": "class", "forget_class": []}]}, "at least one name"),
        ({"scenarios": [{"kind": "class", "forget_class": True}]}, "in quotes"),
        ({"scenarios": [{"kind": "sequence", "requests": [{"kind": "random", "fraction": 0.1}]}]}, "two scenarios"),
        ({"scenarios": [{"kind": "class", "fraction": 0.1}]}, "forget_class"),
        ({"scenarios": [{"kind": "random", "fractoin": 0.1}]}, "did you mean 'fraction'"),
        ({"scenarios": []}, "scenarios"),
        ({"scenarios": BASE["scenarios"] * 2}, "would be called 'random-10%'"),
        ({"seeds": 0}, "seeds"),
        ({"seeds": [0, 0]}, "differ"),
        ({"seeds": [-1]}, "seeds"),
        ({"seeds": [2**63]}, "less than 9223372036854775808"),
        ({"methods": ["RL", "FT", "RL"]}, "config.methods: 'RL' is given twice"),
        ({"weightings": ["none", "none"]}, "'none' is given twice"),
        ({"dataset": ""}, "config.dataset: String should have at least 1 character"),
        ({"protocol": "fair"}, "protocol"),
        ({"track": "clasification"}, "did you mean 'classification'"),
        ({"methods": {}}, "methods"),
    ],
)
def test_mistakes_are_named(change, says):
    with pytest.raises(UserError) as error:
        load(BASE | change)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("RL", {"epoch": 1}, "did you mean 'epochs'"),
        ("RL", {"epochs": 0}, "RL.epochs"),
        ("RL", {"epochs": 1.5}, "RL.epochs"),
        ("RL", {"lr": float("inf")}, "not finite"),
        ("RL", {"relabel": "never"}, "relabel"),
        ("SalUn", {"density": 0}, "density"),
        ("SalUn", {"density": 1.2}, "density"),
    ],
)
def test_method_settings_are_checked(name, values, says):
    with pytest.raises(UserError, match=says):
        settings(registry("methods").get(name), values, name)


@pytest.mark.parametrize("eta", [float("nan"), float("inf"), -0.1, "much"])
def test_eta_must_be_finite_and_not_negative(eta):
    with pytest.raises(UserError, match="eta_f"):
        settings(registry("weightings").get("w_f"), {"eta_f": eta}, "w_f")


@pytest.mark.parametrize("kind", ["methods", "weightings", "datasets", "metrics", "models"])
def test_unknown_names_get_a_suggestion(kind):
    known = registry(kind).entries()[0].name
    with pytest.raises(UserError, match="did you mean"):
        registry(kind).get(known + "x")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\na: 2\n", "appears twice"),
        ("train: {lr: 1, lr: 2}\n", "appears twice"),
        ("a: &x 1\nb: *x\n", "aliases"),
        ("- a\n- b\n", "mapping"),
        ("", "mapping"),
        ("a: [1\n", "line"),
        ("a: !!python/object/apply:os.getcwd []\n", "python/object"),
    ],
)
def test_yaml_that_is_not_plain_and_unambiguous_is_refused(tmp_path, text, says):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=says):
        read_yaml(path)


def test_yaml_reads_scientific_numbers_as_numbers(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: 1e-3\nb: 5E4\nc: text\n")
    assert read_yaml(path) == {"a": 1e-3, "b": 5e4, "c": "text"}


@pytest.mark.parametrize("override", ["train.epochs", "=3", "name.sub=1", "train.epochs=[1"])
def test_wrong_overrides_are_named(override):
    with pytest.raises(UserError, match="--set"):
        load("digits", [override])


def test_unknown_preset_is_suggested_and_a_missing_file_named():
    with pytest.raises(UserError, match="did you mean 'digits'"):
        configuration.find("digit")
    with pytest.raises(UserError, match="not found"):
        configuration.find("nowhere.yaml")


@pytest.mark.parametrize("text", ["no", "007", "12:30", "2024-01-01", "1_000", "on", "0x1F"])
def test_names_stay_as_they_are_written(text):
    config = load("digits", [f"scenarios=[{{kind: class, forget_class: {text}}}]"])
    assert config.scenarios[0].item.forget_class == (text,)


@pytest.mark.parametrize(("text", "name"), [("7", "7"), ("1.5", "1.5"), ("[7, no]", "7+no"), ("'true'", "true")])
def test_numbers_are_names_too(text, name):
    assert load("digits", [f"scenarios=[{{kind: class, forget_class: {text}}}]"]).scenarios[0].label == f"class-{name}"


def test_yes_and_no_are_flags_where_a_flag_is_wanted():
    config = load("digits", ["train.flip=yes", "noise_floor=no", "methods.RL.freeze_batchnorm=on"])
    assert config.train.flip
    assert not config.noise_floor
    assert settings(registry("methods").get("RL"), config.methods["RL"], "RL").freeze_batchnorm


@pytest.mark.parametrize(
    ("seeds", "says"),
    [(42, r"write \[42\] for the one, or '0-41'"), ("'9-3'", "no range"), ("'0-99999999'", "no range"), ("'a-b'", "seeds")],
)
def test_a_number_that_looks_like_a_seed_is_asked_about(seeds, says):
    with pytest.raises(UserError, match=says):
        load("digits", [f"seeds={seeds}"])


def test_a_range_of_seeds():
    assert [each.split for each in load("digits", ["seeds=5-9"]).seeds] == [5, 6, 7, 8, 9]
    assert [each.split for each in load("digits", ["seeds=[42]"]).seeds] == [42]


def test_what_takes_the_place_of_a_presets_settings_is_said():
    config = load("digits", ["methods={Retrain: {}, RL: {}}"])
    assert config.methods == {"Retrain": {}, "RL": {}}
    (note,) = config.notes
    assert "RL (epochs 10, lr 0.2, batch_size 64), SalUn (" in note
    assert "methods.RL.KEY=VALUE" in note
    assert "methods.+NAME={}" in note
    assert load("digits", ["weightings=[none, w_f]"]).notes != ()
    assert load("digits", ["methods.RL.lr=0.1", "train.epochs=3"]).notes == ()


def test_a_plus_adds_a_row_and_nothing_else():
    config = load("digits", ["methods.+FT={}", "methods.+RL:paired={schedule: paired}"])
    assert list(config.methods) == ["Retrain", "RL", "SalUn", "FT", "RL:paired"]
    assert config.methods["RL"]["lr"] == 0.2
    with pytest.raises(UserError, match="'RL' is there already"):
        load("digits", ["methods.+RL={}"])


@pytest.mark.parametrize(
    "override",
    [
        "train.epochs.x=!!timestamp 2024-01-01", "train.lr=!!float x", "train.lr=!!python/none", "a=!!binary x", "a=!x y",
        "train.epochs={? [1, 2] : 3}", "train={1: 2}", "train.lr=" + "[" * 5000, "seeds=1" + "0" * 5000, "train.lr=.nan",
        "train=!!set {a}", "train={null: 3}", "name='\\ud800'", "train.lr=\x00",
    ],
)  # fmt: skip
def test_strange_yaml_is_one_line(override):
    with pytest.raises(UserError) as error:
        load("digits", [override])
    assert "\n" not in str(error.value)


def test_settings_of_rows_that_are_left_out_do_no_harm():
    from loreun_bench.harness.plan import build

    found = build(load("digits", ["weightings=[none, w_f]", "methods.+FT={}", "seeds=1"]))
    assert {cell.record.weighting for cell in found.cells} == {"none", "w_f"}


def test_mutated_configurations_are_loaded_or_refused_in_one_line():
    rng = random.Random(0)
    odd = ["", "no", "~", "[]", "{}", "-1", "1e999", ".nan", "!!float x", "{a: {b: 1}}", "[1, [2]]", "'x'", "0", "[null]"]
    for _ in range(400):
        base = load("digits").model_dump(mode="json")
        path = []
        where = base
        while isinstance(where, dict) and where and rng.random() < 0.8:
            path.append(rng.choice(list(where)))
            where = where[path[-1]]
        path = path or ["train"]
        if rng.random() < 0.3:
            path.append(rng.choice(["x", "+y", "0"]))
        with contextlib.suppress(UserError):  # nothing else may come out; its message is one line by construction
            load("digits", [f"{'.'.join(path)}={rng.choice(odd)}"])
