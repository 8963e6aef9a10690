"""Pins that what is our own is found without importing anybody's package."""

from __future__ import annotations

import importlib.metadata

import pytest

from loreun_bench.errors import UserError
from loreun_bench.registry import Registry


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
