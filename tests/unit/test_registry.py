"""Pins what a name may be, and that what is our own is found without importing anybody's package."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

from loreun_bench import metric
from loreun_bench.config import load
from loreun_bench.errors import UserError
from loreun_bench.harness.plan import build
from loreun_bench.plugins import load_plugin
from loreun_bench.registry import REFERENCES, TRACKS, Registry, kinds, registry


def test_other_packages_are_imported_only_for_what_is_not_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: asked.append(group) or [])
    own = Registry("metrics", "loreun_bench.classification.metrics")
    own._read = True  # its folder is in another registry already
    own.add("here", written_here)
    assert own.get("here").item is written_here
    assert asked == []
    with pytest.raises(UserError, match="unknown metric 'elsewhere'"):
        own.get("elsewhere")
    assert asked == ["loreun_bench.metrics"]


def written_here() -> None:
    """A metric."""


@pytest.mark.parametrize("name", ["", " mine", "mi\nne", "x" * 61, 3])
def test_a_name_that_no_table_can_show_is_refused(name) -> None:
    with pytest.raises(UserError, match=r"metric .*a name is a text of 1 to 60 letters in one line"):
        metric(name, columns={"mine": "mine"})(written_here)


@pytest.mark.parametrize("columns", [{}, None, ["mine"], {"mine": None}, {1: "mine"}, {"mine": " "}])
def test_columns_are_keys_with_headings(columns) -> None:
    with pytest.raises(UserError, match=r"metric 'mine': columns must name what it returns"):
        metric("mine", columns=columns)(written_here)


TAKEN = [("classification", "forget_acc", "accuracy"), ("generation", "kid", "kid")]


@pytest.mark.parametrize(("track", "key", "whose"), TAKEN)
def test_a_metric_cannot_take_the_place_of_anothers_column(track, key, whose) -> None:
    """Its number stood under UA, with the interval of the accuracy's counts, and went into ToW."""
    with pytest.raises(UserError, match=f"metric 'mine': its column '{key}' is one of '{whose}': call it another"):
        metric("mine", columns={"mine": "mine", key: "mine too"}, track=track)(written_here)


METHOD = """
from dataclasses import dataclass
from loreun_bench import method
@method("{name}", uses={{"forget"}}, track="{track}")
@dataclass(frozen=True)
class Mine:
    "Mine."
    replicate: int = 0
    def unlearn(self, model, data, context):
        return model
"""


@pytest.mark.parametrize("track", ["classification", "generation"])
@pytest.mark.parametrize("name", REFERENCES)
def test_a_method_cannot_have_the_name_of_a_reference(tmp_path, name, track) -> None:
    """Its records were averaged with the original's."""
    (tmp_path / "mine.py").write_text(METHOD.format(name=name, track=track))
    with pytest.raises(UserError, match=f"method '{name}' has the name of a row that others are compared with"):
        load_plugin(tmp_path / "mine.py")


def test_two_rows_of_one_name_are_refused_when_the_sweep_is_planned(tmp_path) -> None:
    """A second run of "mine" is called mine-2."""
    for name in "mine", "mine-2":
        (tmp_path / f"{name}.py").write_text(METHOD.format(name=name, track="classification"))
        load_plugin(tmp_path / f"{name}.py")
    config = {"dataset": "digits", "seeds": 1, "weightings": ["none"], "scenarios": [{"kind": "random", "count": 9}]}
    with pytest.raises(UserError, match=r"random-9: two rows are called mine-2 none: rename one of the two methods"):
        build(load({**config, "methods": ["mine", "mine-2"]}))
    build(load({**config, "methods": ["mine"]}))


@pytest.mark.parametrize("module", ["classification.metrics.mia", "classification.metrics.rmia", "generation.metrics.ua"])
def test_a_metric_of_our_own_can_be_imported_by_itself(module):
    found = subprocess.run(
        [sys.executable, "-c", f"import loreun_bench.{module}; from loreun_bench.registry import registry\n"
         "print(len(registry('metrics').entries()), len(registry('metrics', 'generation').entries()))"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr[-500:]
    both = (registry("metrics", track).entries() for track in ("classification", "generation"))
    assert found.stdout.split() == [str(len(entries)) for entries in both]


@pytest.mark.parametrize(("track", "kind"), [(track, kind) for track in TRACKS for kind in kinds(track)])
def test_what_is_listed_of_an_item_is_a_whole_sentence(track: str, kind: str) -> None:
    for entry in registry(kind, track).entries():
        assert entry.summary.endswith("."), entry.name
        assert "\n" not in entry.summary
