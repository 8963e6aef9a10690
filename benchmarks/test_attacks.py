"""Metrics over seeds: 64 unlearned and 64 retrained models, a margin of each for every sample."""

from __future__ import annotations

import pytest
import torch

from loreun_bench.classification import Ensembles
from loreun_bench.registry import registry

SEEDS, SAMPLES, FEW = 64, 10_000, 500
pytestmark = pytest.mark.benchmark(min_rounds=1, max_time=1.0, warmup=False)


@pytest.mark.parametrize("name", ["rmia", "klom", "epsilon", "ulira"])
def test_metric(row, name, pytestconfig):
    samples, stream = FEW if pytestconfig.option.quick else SAMPLES, torch.Generator().manual_seed(0)
    parts = ("forget", "retain", "test")
    sides = ({part: 3 * torch.randn(SEEDS, samples, generator=stream) for part in parts} for _ in range(2))
    outputs, metric = Ensembles(*sides), registry("metrics").get(name).item
    row(f"{name} of {samples} samples × {SEEDS} models", "one row of a table", "ours", lambda: metric(outputs))
