"""Pins what a content key depends on (config, inputs, code) and what it does not (comments, layout, order of keys)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from loreun_bench.harness.seeding import derive
from loreun_bench.harness.stage import Stage, code_digest, digest

CODE = "def f(x):\n    return x + 1\n"


@pytest.fixture
def rewrite(tmp_path: Path) -> Callable[[str], Path]:
    """Writes the source file."""

    def write(text: str) -> Path:
        (tmp_path / "code.py").write_text(text)
        return tmp_path / "code.py"

    return write


def stage(config: dict[str, object] | None = None, **changes: object) -> Stage:
    return Stage("module:function", config or {"lr": 0.1, "epochs": 2}, **changes)  # type: ignore[arg-type]


def both(one: Stage) -> tuple[str, str]:
    """A stage's recipe and its key on fixed inputs."""
    return one.recipe, one.key({"model": "aa"})


def test_equal_stages_have_equal_recipes_and_keys() -> None:
    assert both(stage()) == both(stage())
    assert len(stage().key({})) == 64


@pytest.mark.parametrize("config", [{"lr": 0.2, "epochs": 2}, {"lr": 0.1}, {"lr": 0.1, "epochs": 2, "x": None}])
def test_recipe_and_key_change_with_the_config(config: dict[str, object]) -> None:
    assert all(a != b for a, b in zip(both(stage()), both(stage(config)), strict=True))


def test_recipe_and_key_change_with_the_function() -> None:
    assert all(a != b for a, b in zip(both(stage()), both(replace(stage(), run="module:other")), strict=True))


def test_recipe_and_key_do_not_change_with_label_work_or_time_limit() -> None:
    assert both(stage()) == both(stage(label="x", work=3, timeout_s=1.0))


def test_the_key_changes_with_an_upstream_digest_and_with_an_input_name() -> None:
    keys = [stage().key(upstream) for upstream in ({}, {"model": "aa"}, {"model": "ab"}, {"other": "aa"})]
    assert len(set(keys)) == 4


def test_the_recipe_changes_with_an_upstream_stage_however_far_up() -> None:
    def chain(lr: float) -> Stage:
        top = stage({"lr": lr})
        return stage(inputs={"model": stage(inputs={"model": top})})

    assert chain(0.1).recipe == chain(0.1).recipe
    assert chain(0.1).recipe != chain(0.2).recipe


def test_recipe_and_key_change_when_the_code_changes(rewrite: Callable[[str], Path]) -> None:
    before = both(stage(sources=(rewrite(CODE),)))
    after = both(stage(sources=(rewrite(CODE.replace("1", "2")),)))
    assert all(a != b for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    "text",
    [
        "# a comment\n" + CODE,
        CODE.replace("\n    ", "  # why\n\n    "),
        "\n\ndef f( x ):\n  return (x+1)\n\n",
        CODE.replace("\n", "\r\n"),
    ],
    ids=["comment", "comment behind", "layout", "line ends"],
)
def test_comments_and_layout_do_not_change_recipe_or_key(rewrite: Callable[[str], Path], text: str) -> None:
    before = both(stage(sources=(rewrite(CODE),)))
    assert both(stage(sources=(rewrite(text),))) == before


def test_a_folder_of_sources_counts_every_file_in_it(tmp_path: Path, rewrite: Callable[[str], Path]) -> None:
    rewrite(CODE)
    (tmp_path / "sub").mkdir()
    before = code_digest(tmp_path)
    (tmp_path / "sub" / "more.py").write_text("A = 1\n")
    with_more = code_digest(tmp_path)
    (tmp_path / "notes.txt").write_text("no code")
    assert before != with_more == code_digest(tmp_path)


def test_sources_count_once_and_in_any_order(tmp_path: Path) -> None:
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text("A = 1\n")
    two.write_text("B = 2\n")
    assert both(stage(sources=(one, two))) == both(stage(sources=(two, one, two)))


def test_the_order_of_keys_does_not_change_a_digest() -> None:
    assert digest({"a": 1, "b": {"c": [1, 2], "d": None}}) == digest({"b": {"d": None, "c": [1, 2]}, "a": 1})
    assert digest({"a": [1, 2]}) != digest({"a": [2, 1]})


def test_a_digest_is_stable_between_versions() -> None:
    assert digest({"b": 1, "a": [0.1, "ü", None]}) == "5e7757a81f7e10907e5668f00ad7b9bc10d507bd21a9045b57a62a6b003870bb"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_config_that_is_not_finite_has_no_key(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        stage({"lr": value}).key({})


def test_derived_seeds_are_the_same_for_ever() -> None:
    assert derive(0, "split") == 3769940940748469125
    assert derive(7, "unlearn", "RL", 3) == 1554147100298629771


def test_derived_seeds_differ_by_seed_and_by_name_and_fit_in_63_bits() -> None:
    seeds = [derive(s, *names) for s in (0, 1, 10) for names in ((), ("a",), ("b",), ("a", "b"), ("b", "a"), ("a", 1))]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
