"""RTE is all of the run and nothing else: mask and reference pass inside, evaluation and warm-up outside."""

from __future__ import annotations

import pytest

import loreun_bench
from loreun_bench.classification import stages
from loreun_bench.classification.scoring import evaluation
from loreun_bench.classification.unlearning import phase as unlearning
from loreun_bench.training import clock, loop, saliency

CONFIG = {
    "name": "timing", "seeds": 1, "train": {"epochs": 1}, "scenarios": [{"kind": "random", "fraction": 0.2}],
    "methods": {"Retrain": {}, "RL": {"epochs": 1}, "SalUn": {"epochs": 1}}, "weightings": ["none", "loreun-s"],
    "noise_floor": False, "metrics": ["accuracy"],
}  # fmt: skip


@pytest.fixture
def rte(monkeypatch, tmp_path):
    """A sweep on a clock that only moves where the test says: (method, weighting) → rte_s."""
    now = [0.0]
    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])

    def costs(module, name, seconds):
        real = getattr(module, name)

        def slow(*args, **options):
            now[0] += seconds
            return real(*args, **options)

        monkeypatch.setattr(module, name, slow)

    costs(saliency, "top_fraction", 1000)
    costs(unlearning, "losses_of", 500)
    costs(loop, "run_steps", 7)
    costs(evaluation, "predict", 10_000)
    costs(stages, "_warm_up", 20_000)
    records = loreun_bench.sweep(CONFIG, tmp_path / "run", workers=0)
    return {(r.method, r.weighting): r.cost["rte_s"] for r in records}


def test_rte_has_mask_and_reference_pass_and_leaves_out_evaluation_and_warm_up(rte):
    assert rte["RL", "none"] == 7
    assert rte["RL", "loreun-s"] == 507
    assert rte["SalUn", "none"] == 1007
    assert rte["SalUn", "loreun-s"] == 1507
    assert rte["Retrain", "none"] == 0  # measured on its own, not taken from a table: its loop costs nothing here
