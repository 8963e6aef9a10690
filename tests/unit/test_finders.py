"""Pins that a module which several wait for is imported once, and seen by all of them, whoever is asked first."""

from __future__ import annotations

import importlib
import sys

import pytest

from loreun_bench import untouched
from loreun_bench.harness import openers
from loreun_bench.plugins import undisturbed


@pytest.mark.parametrize("order", ["planner first", "stage first"])
def test_two_wait_for_one_module(tmp_path, monkeypatch, order) -> None:
    """A stage in this process, and then a plan of something that imports what both look at: they asked each other without
    end, and the library was reported as broken."""
    (tmp_path / "awaited.py").write_text("def read(path): return 1\ndef other(): return 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [f for f in sys.meta_path if not isinstance(f, openers._Finder)])
    monkeypatch.setattr(untouched, "LIBRARIES", untouched.LIBRARIES | {"awaited"})
    monkeypatch.setitem(openers.OPENERS, "awaited", ("read",))
    if order == "stage first":
        openers.follow()
    with undisturbed():
        if order == "planner first":
            openers.follow()
        module = importlib.import_module("awaited")
        assert module.read.tells
        other = module.other
        module.other = None
    monkeypatch.delitem(sys.modules, "awaited")
    assert module.other is other
