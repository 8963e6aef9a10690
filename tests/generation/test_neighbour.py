"""The kept class that suffers most."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from loreun_bench.generation.metrics.neighbour import neighbour


def scene(of, found, forget=(0,)):
    return SimpleNamespace(
        need_classifier=lambda _: "c", forget=forget, recognised=lambda _: (torch.tensor(of), torch.tensor(found))
    )


def test_the_worst_kept_class_is_told_with_its_counts():
    of, found = [0, 0, 1, 1, 1, 2, 2, -1], [1, 1, 1, 1, 2, 2, 0, 0]
    told = neighbour(scene(of, found))
    assert told == {"worst_kept": pytest.approx(50)}  # class 2; class 1 has 2 of 3, and class 0 is the forgotten one
    assert told.counts == {"worst_kept": [1, 2]}
    assert neighbour(scene([0, 0], [0, 1])) == {}
    assert neighbour(scene(of, found, forget=(0, 2)))["worst_kept"] == pytest.approx(200 / 3)
