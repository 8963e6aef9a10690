"""What plug-ins are written with is importable from their track, whichever room it lies in."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

from loreun_bench.cli.templates import TEMPLATES, WEIGHTING

TRACKS = ("classification", "generation")
ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]


def imported(text):
    """(module, name) of all that a text of Python imports from this package."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("loreun_bench"):
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("track", TRACKS)
def test_what_metrics_and_weightings_return_is_a_name_of_both_tracks(track):
    module = importlib.import_module(f"loreun_bench.{track}")
    from loreun_bench.harness.measuring import Measured
    from loreun_bench.weightings import Phase

    assert (module.Measured, module.Phase) == (Measured, Phase)
    assert sorted(module.__all__) == sorted(module._WHERE)
    assert all(getattr(module, name).__name__ == name for name in module.__all__)


@pytest.mark.parametrize("track", TRACKS)
def test_templates_and_documentation_import_from_the_top_and_the_tracks_only(track):
    texts = [text.format(name="own", key="own", cls="Own") for text in (WEIGHTING | TEMPLATES[track]).values()]
    texts += [text for page in PAGES for text in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)]
    own = importlib.import_module(f"loreun_bench.{track}")
    public = {"loreun_bench", "loreun_bench.ops", *(f"loreun_bench.{each}" for each in TRACKS)}
    found = [pair for text in texts for pair in imported(text)]
    assert ("loreun_bench", "method") in found
    for module, name in found:
        assert hasattr(importlib.import_module(module), name), (module, name)
        assert module in public or name in own.__all__, (module, name)


def test_a_name_that_there_is_not_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"loreun_bench.generation' has no attribute 'Measure'"):
        _ = importlib.import_module("loreun_bench.generation").Measure
