"""What may stand in one table: rows of one data set, one recipe, and the same seeds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loreun_bench.classification.config import ClassificationConfig
from loreun_bench.classification.planning import cells
from loreun_bench.errors import UserError
from loreun_bench.harness.records import Record, append
from loreun_bench.report import byclass, leaderboard, table

DATA = {"data": "11111111", "validation": 0.1, "recipe": {"epochs": 20}}


def record(method, seed=0, forget=50.0, conditions=DATA):
    return Record(
        "classification", "load", "small-cnn", "class-3", method, "none",
        {"split": seed, "train": seed, "unlearn": seed, "eval": seed},
        metrics={"forget_acc": forget, "retain_acc": 99.0, "test_acc": 90.0}, conditions=conditions,
    )  # fmt: skip


def run(seeds, conditions=DATA, forget=50.0):
    return [record(method, seed, forget, conditions) for method in ("Retrain", "RL") for seed in seeds]


@pytest.mark.parametrize(
    "change",
    [{"data": "22222222"}, {"validation": 0.2}, {"recipe": {"epochs": 30}}],
    ids=str,
)
def test_other_data_or_another_recipe_is_another_table_whose_title_says_so(change):
    groups = table.build([("a", run([0, 1, 2])), ("b", run([0, 1, 2], DATA | change))])
    assert len(groups) == 2
    assert len(byclass.build(groups)) == 2
    titles = [group.title for group in groups]
    assert len(set(titles)) == 2
    key = next(iter(change))
    assert titles[0].split("; ")[1].startswith(f"a: {key}")
    assert titles[1].split("; ")[1].startswith(f"b: {key}")


def test_a_network_that_is_not_its_default_is_named_with_its_settings():
    narrow = DATA | {"model settings": {"widths": [1, 2], "deep": True}}
    groups = table.build([("a", run([0, 1])), ("b", run([0, 1], narrow))])
    assert [group.title.split(", class-3")[0] for group in groups] == [
        "load, small-cnn", "load, small-cnn (widths [1, 2], deep True)",
    ]  # fmt: skip
    assert "(widths" in byclass.render(groups[1:], "text").split("\n")[0]
    assert table.build([("a", run([0], DATA | {"model settings": "narrow"}))])[0].title.startswith("load, small-cnn, ")


def test_a_table_by_class_has_no_random_parts():
    groups = table.build([("a", run([0, 1]))])
    drawn = replace(groups[0], scenario="random-10%")
    (found,) = byclass.build([*groups, drawn])
    assert found.groups == groups
    with pytest.raises(UserError, match="no scenario of this run forgets a class"):
        byclass.build([drawn])


def test_alone_a_table_says_no_hash():
    (group,) = table.build([("a", run([0, 1, 2]))])
    assert group.title == "load, small-cnn, class-3, 3 seeds, protocol corrected"


def test_old_records_without_conditions_are_a_table_of_their_own():
    old, new = table.build([("old", run([0, 1, 2], {})), ("new", run([0, 1, 2]))])
    assert "old: data not recorded" in old.title
    assert "new: data 11111111" in new.title


def test_runs_of_two_and_of_three_seeds_are_compared_on_those_of_both():
    (group,) = table.build([("a", run([0, 1])), ("b", run([0, 1, 2]))])
    assert "2 seeds (0, 1: those that all runs have)" in group.title
    assert {(row.run, len(row.records), row.expected) for row in group.rows} == {("a", 2, 2), ("b", 2, 2)}
    assert "2/2" in leaderboard.render([group])
    assert "3/3" not in leaderboard.render([group])


def test_runs_without_a_common_seed_are_not_compared():
    near, far = run([0, 1], forget=50.0), run([7, 8, 9], forget=50.0)
    (group,) = table.build([("a", near), ("b", far)])
    assert "2 seeds of a, 3 seeds of b, none in common, so that runs are not compared" in group.title
    assert {row.run for row in group.rows if "forget_acc" in row.best} == {"a", "b"}  # best of its own run, each


def test_a_row_that_lacks_a_seed_of_its_run_is_not_whole():
    records = [*run([0, 1, 2]), record("FT", 0)]
    (group,) = table.build([("a", records)])
    row = group.row("FT", "a")
    assert not row.complete
    assert not row.best
    assert "1/3" in leaderboard.render([group])


def test_the_planner_records_the_data_and_how_originals_are_made(tmp_path):
    def conditions(**changes):
        config = ClassificationConfig(
            name="x", track="classification", scenarios=[{"kind": "class", "forget_class": 3}], methods={"Retrain": {}},
            device="cpu", seeds=[{"split": 0, "train": 0, "unlearn": 0, "eval": 0}], **changes,
        )  # fmt: skip
        found, _ = cells(config)
        return found[0].record.conditions

    base = conditions()
    assert len(base["data"]) == 8
    assert base["pictures"] == "8×8×1"
    assert conditions(train={"epochs": 7})["recipe"] == {"epochs": 7}
    assert conditions(validation=0.2) != base
    assert conditions(model_settings={"width": 8}) != base
    append(tmp_path / "records.jsonl", [replace(record("RL"), conditions=base)])


def test_forget_sets_of_one_label_are_tables_apart(tmp_path):
    """Two lists of as many pictures, two tables of one name; the same in another folder is the same."""

    def told(*scenarios):
        config = ClassificationConfig(
            name="x", track="classification", scenarios=scenarios, methods={"Retrain": {}}, device="cpu", noise_floor=False,
            seeds=[{"split": 0, "train": 0, "unlearn": 0, "eval": 0}],
        )  # fmt: skip
        record = cells(config)[0][-1].record
        return record.scenario, record.conditions.get("forget set", "")

    def listed(*numbers):
        return {"kind": "indices", "indices": list(numbers)}

    def table_at(folder, who):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "who.csv"
        path.write_text("index,who\n" + "".join(f"{number},anna\n" for number in who))
        return {"kind": "column", "table": str(path), "column": "who", "value": "anna"}

    assert told(listed(1, 2))[0] == told(listed(3, 4))[0]
    assert told(listed(1, 2))[1] != told(listed(3, 4))[1]
    first = told(table_at("a", [1, 2]))
    assert first != told(table_at("b", [1, 3]))
    assert first == told(table_at("c", [1, 2]))
    assert told({"kind": "random", "count": 9}) == ("random-9", "")
    one, other = (told({"kind": "sequence", "requests": [listed(n), {"kind": "random", "count": 9}]}) for n in (1, 2))
    assert one[0] == other[0] == "request 2 of 2: random-9"
    assert one[1] != other[1]


def test_names_with_markup_and_control_characters_are_made_safe():
    nasty = [replace(r, dataset="a|b\x1b[31m\n<b>", method=m) for r, m in zip(run([0]), ("Retrain", "50%_x|y"), strict=True)]
    groups = table.build([("run", nasty)])
    md, text, latex = (leaderboard.render(groups, style) for style in ("md", "text", "latex"))
    assert r"50%_x\|y" in md
    assert r"\<b\>" in md
    assert all("\x1b" not in rendered for rendered in (md, text, latex))
    assert r"50\%\_x|y" in latex or r"50\%\_x" in latex
    assert md.splitlines()[0].startswith("### ")
    assert latex.splitlines()[0].startswith("% a|b")
    assert latex.splitlines()[1] == ""
    by_class = byclass.render(groups, "latex")
    assert r"50\%\_x" in by_class


def test_text_fits_the_terminal_and_breaks_between_words():
    groups = table.build([("run", [*run([0, 1, 2]), *[record("a-method-with-a-name", s, 60.0 + s) for s in range(3)]])])
    wide = leaderboard.render(groups)
    assert max(map(len, wide.splitlines())) > 120
    text = leaderboard.render(groups, width=80, notes=False)
    assert max(map(len, text.splitlines())) <= 80
    assert "--wide adds intervals" in " ".join(text.split())
    assert "ToW" in text[: text.index("--wide")]  # what ranks stays
    assert "--notes" in text
    assert "ToW: the product" not in text
    whole = leaderboard.render(groups, width=80)
    words = set(leaderboard.render(groups).split("\n\n")[-1].split())
    assert words <= set(whole.split())  # none is broken
    assert max(map(len, whole.splitlines())) <= 80


def test_tables_by_class_of_other_recipes_say_so():
    other = [replace(r, scenario="class-4", conditions=DATA | {"recipe": {"epochs": 30}}) for r in run([0, 1, 2])]
    text = byclass.render(table.build([("a", [*run([0, 1, 2]), *other])]))
    titles = [line for line in text.splitlines() if "load," in line]
    assert titles[0].endswith("; recipe epochs 20")
    assert titles[1].endswith("; recipe epochs 30")
