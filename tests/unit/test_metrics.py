"""Metrics against values worked out by hand, and the reference code's mistakes that they avoid."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from loreun_bench.classification.metrics.accuracy import accuracy
from loreun_bench.classification.metrics.avg_gap import avg_gap
from loreun_bench.classification.metrics.batchnorm_shift import batchnorm_shift
from loreun_bench.classification.metrics.loss import loss
from loreun_bench.classification.metrics.mia import mia, modified_entropy, ranking
from loreun_bench.classification.metrics.tow import tow
from loreun_bench.classification.metrics.tow_mia import tow_mia
from loreun_bench.classification.scoring.evaluation import Outputs, Predictions, evaluate
from loreun_bench.classification.unlearning.protocols import PROTOCOLS


def predictions(accuracy, n=100, classes=4, margin=3.0, seed=0):
    """n predictions of which the first accuracy·n are right, with that margin."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=g)
    guess = torch.where(torch.arange(n) < accuracy * n, labels, (labels + 1) % classes)
    logits = margin * torch.nn.functional.one_hot(guess, classes) + 0.5 * torch.rand(n, classes, generator=g)
    return Predictions(logits.float(), labels)


def outputs(protocol="corrected", **sets):
    default = {name: predictions(0.5, seed=i) for i, name in enumerate(("forget", "retain", "validation", "test"))}
    default["test_forget"] = Predictions(torch.empty(0, 4), torch.empty(0, dtype=torch.int64))
    sets = default | sets
    return Outputs(sets, sets["forget"].labels, PROTOCOLS[protocol], 0)


def test_accuracies_are_percent_of_their_own_set():
    found = accuracy(
        outputs(forget=predictions(0.1), retain=predictions(0.9), test=predictions(0.7), validation=predictions(0.6))
    )
    assert found["forget_acc"] == pytest.approx(10)
    assert found["retain_acc"] == pytest.approx(90)
    assert found["test_acc"] == found["test_acc_all"] == pytest.approx(70)
    assert found["val_acc"] == pytest.approx(60)


def test_class_wise_test_accuracy_is_given_without_and_with_the_forgotten_class():
    found = accuracy(outputs(test=predictions(0.9, n=90), test_forget=predictions(0.0, n=10)))
    assert found["test_acc"] == pytest.approx(90)
    assert found["test_acc_all"] == pytest.approx(81)


def test_accuracies_come_with_their_counts_and_an_empty_set_has_none():
    empty = Predictions(torch.empty(0, 1), torch.empty(0, dtype=torch.int64))
    found = accuracy(outputs(forget=predictions(0.1), test=predictions(0.9, n=90), test_forget=predictions(0.0, n=10),
                             validation=empty))  # fmt: skip
    assert found.counts["forget_acc"] == [10, 100]
    assert found.counts["test_acc"] == [81, 90]
    assert found.counts["test_acc_all"] == [81, 100]
    assert "val_acc" not in found
    assert all(found[key] == pytest.approx(100 * hits / n) for key, (hits, n) in found.counts.items())


def test_tow_recomputes_the_papers_random_forgetting_column():
    path = Path(__file__).parents[1] / "golden" / "loreun_table1_random.json"
    rows = json.loads(path.read_text())
    keys = ("forget_acc", "retain_acc", "test_acc")
    retrain = dict(zip(keys, rows["Retrain"][:3], strict=True))
    for ua, ra, ta, printed in rows.values():
        assert tow(dict(zip(keys, (ua, ra, ta), strict=True)), retrain) == pytest.approx(printed, abs=1.1e-4)


def test_tow_is_one_for_retrain_and_falls_in_both_directions():
    retrain = {"forget_acc": 50.0, "retain_acc": 90.0, "test_acc": 80.0, "mia_confidence": 20.0}
    assert tow(retrain, retrain) == tow_mia(retrain, retrain) == 1
    assert avg_gap(retrain, retrain) == 0
    for change in (-10, 10):
        cell = retrain | {"forget_acc": 50.0 + change}
        assert tow(cell, retrain) == pytest.approx(0.9)
        assert tow_mia(cell, retrain) == 1
        assert avg_gap(cell, retrain) == pytest.approx(2.5)
        assert tow_mia(retrain | {"mia_confidence": 20.0 + change}, retrain) == pytest.approx(0.9)


def test_losses_are_cross_entropy_in_nats():
    flat = Predictions(torch.zeros(5, 4), torch.zeros(5, dtype=torch.int64))
    assert loss(outputs(forget=flat))["forget_loss"] == pytest.approx(math.log(4))


def test_modified_entropy_is_songs_formula_and_depends_on_the_label():
    p = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64)
    for label in range(3):
        q = p[0].tolist()
        expected = -(1 - q[label]) * math.log(q[label]) - sum(q[k] * math.log(1 - q[k]) for k in range(3) if k != label)
        assert modified_entropy(Predictions(p.log(), torch.tensor([label]))).item() == pytest.approx(expected)


def test_the_reference_codes_modified_entropy_ignores_the_own_label():
    logits = torch.randn(2, 3).repeat(2, 1)
    labels = torch.tensor([0, 1, 2, 2])
    wrong = modified_entropy(Predictions(logits, labels), true=False)
    right = modified_entropy(Predictions(logits, labels))
    assert torch.allclose(wrong[:2], wrong[2:])
    assert not torch.allclose(right[:2], right[2:])


def test_auc_far_below_half_shows_over_unlearning():
    auc, tpr = ranking(np.linspace(-20, -10, 50), np.linspace(-2, 0, 50))
    assert auc == 0
    assert tpr == 0
    auc, tpr = ranking(np.linspace(0, 1, 200), np.linspace(-2, -1, 200))
    assert auc == tpr == 1


def test_auc_of_a_forgotten_class_is_against_that_classs_test_images():
    low, high = predictions(1.0, margin=1.0), predictions(1.0, margin=9.0)
    found = mia(outputs(forget=low, test=high, test_forget=predictions(1.0, margin=1.0, seed=5), retain=high))
    assert 30 < found["mia_auc"] < 70


def test_batchnorm_shift_is_relative_to_the_original_and_absent_without_one():
    before, after = {"1.running_mean": torch.tensor([3.0, 4.0])}, {"1.running_mean": torch.tensor([3.0, 9.0])}
    base = outputs()
    found = batchnorm_shift(Outputs(base.sets, base.true_labels, base.protocol, 0, after, before))
    assert found["batchnorm_shift"] == pytest.approx(1.0)
    assert batchnorm_shift(base) == {}


def test_evaluation_runs_every_set_once_in_evaluation_mode(make_toy):
    toy = make_toy("class")
    model = toy.model().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found = evaluate(model, toy.dataset, toy.split, toy.protocol, 0, {})
    assert {name: len(found.sets[name]) for name in found.sets} == {
        name: len(getattr(toy.split, name)) for name in ("forget", "retain", "validation", "test", "test_forget", "earlier")
    }
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert found.sets["test_forget"].labels.unique().tolist() == [1]


def test_mislabelled_forget_accuracy_is_by_the_wrong_labels_and_the_true_ones_are_shown_beside(make_toy):
    toy = make_toy("mislabelled")
    found = accuracy(evaluate(toy.model(), toy.dataset, toy.split, toy.protocol, 0, {}))
    assert found["forget_acc"] + found["forget_true_acc"] <= 100
    truth = toy.dataset.train_labels[toy.split.forget]
    assert (toy.split.labels[toy.split.forget] != truth).all()
