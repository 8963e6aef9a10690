"""Metrics that compare with Retrain or the original, and the other attacks: against small independent computations."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

import loreun_bench
from loreun_bench import config as configuration
from loreun_bench.classification.metrics.agreement import agreement, output_distance
from loreun_bench.classification.metrics.cka import cka, linear_cka
from loreun_bench.classification.metrics.layers import layer_distance
from loreun_bench.classification.metrics.mia_others import entropy, mia_others
from loreun_bench.classification.metrics.relearn import MOST, WITHIN, relearn
from loreun_bench.classification.models.layers import Mirrored
from loreun_bench.classification.scoring.evaluation import SETS, Outputs, Predictions, evaluate, predictions
from loreun_bench.classification.unlearning.protocols import PROTOCOLS
from loreun_bench.decorators import metric
from loreun_bench.errors import UserError
from loreun_bench.harness.plan import build


def drawn(seed: int, n: int = 40, classes: int = 5, scale: float = 2.0) -> Predictions:
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, classes, generator=rng) * scale
    return Predictions(logits, torch.randint(classes, (n,), generator=rng), torch.randn(n, 7, generator=rng))


def outputs(own: dict, other: dict, **more) -> Outputs:
    empty = Predictions(torch.empty(0, 5), torch.empty(0, dtype=torch.long), torch.empty(0, 7))
    both = [dict.fromkeys(SETS, empty) | sets for sets in (own, other)]
    return Outputs(both[0], both[0]["forget"].labels, PROTOCOLS["corrected"], 0, retrain=both[1], **more)


def test_agreement_counts_samples_of_one_answer():
    own, other = {"forget": drawn(0), "test": drawn(1, 30)}, {"forget": drawn(2), "test": drawn(3, 30)}
    found = agreement(outputs(own, other))
    for name in ("forget", "test"):
        same = np.mean(own[name].logits.numpy().argmax(1) == other[name].logits.numpy().argmax(1))
        assert found[f"agreement_{name}"] == pytest.approx(100 * same)
    assert found.counts["agreement_test"][1] == 30
    assert agreement(outputs(own, own))["agreement_forget"] == 100


def test_distances_of_outputs_are_bounded_and_those_of_scipy():
    own, other = drawn(0), drawn(2)
    found = output_distance(outputs({"forget": own}, {"forget": other}))
    p, q = (each.logits.double().softmax(1).numpy() for each in (own, other))
    assert found["activation_distance"] == pytest.approx(np.linalg.norm(p - q, axis=1).mean())
    assert found["js_divergence"] == pytest.approx((jensenshannon(p, q, base=2, axis=1) ** 2).mean())
    sure = [Predictions(torch.eye(5)[labels] * 5000.0, labels) for labels in (torch.arange(5), torch.arange(5).roll(1))]
    apart = output_distance(outputs({"forget": sure[0]}, {"forget": sure[1]}))
    assert apart == {"activation_distance": pytest.approx(2**0.5), "js_divergence": pytest.approx(1.0)}
    assert output_distance(outputs({"forget": own}, {"forget": own}))["js_divergence"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("n", [6, 200])
def test_cka_knows_no_rotation_and_no_scale(n):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, 7)), rng.normal(size=(n, 9))
    centred = np.eye(n) - 1 / n
    k, m = (centred @ each @ each.T @ centred for each in (x, y))
    wanted = np.trace(k @ m) / np.sqrt(np.trace(k @ k) * np.trace(m @ m))
    assert linear_cka(torch.tensor(x), torch.tensor(y)) == pytest.approx(wanted)
    turn = np.linalg.qr(rng.normal(size=(7, 7)))[0]
    assert linear_cka(torch.tensor(x), torch.tensor(3 * x @ turn + 5)) == pytest.approx(1)
    found = cka(outputs({"forget": drawn(0), "test": drawn(1)}, {"forget": drawn(0), "test": drawn(2)}))
    assert found["cka_forget"] == pytest.approx(1)
    assert 0 <= found["cka_test"] < 0.9


def test_features_are_what_the_classifier_sees(toy):
    model, names = toy.model().eval(), ("forget", "test")
    found = predictions(model, toy.dataset, toy.split, names, features=True)
    part = toy.image_set("forget")
    body = torch.nn.Sequential(*list(model.children())[:-1])
    torch.testing.assert_close(found["forget"].features, body(part.images.batch(part.index)).detach())
    assert len(found["test"].features) == len(found["test"].logits)
    assert not any(module._forward_pre_hooks for module in model.modules())
    plain = evaluate(model, toy.dataset, toy.split, PROTOCOLS["corrected"], 0, {})
    assert torch.equal(plain.sets["forget"].logits, found["forget"].logits)
    assert plain.sets["forget"].features.numel() == 0


def test_of_a_model_that_looks_twice_the_logits_are_the_features(toy):
    model = Mirrored(toy.model())
    found = predictions(model, toy.dataset, toy.split, ("forget",), features=True)["forget"]
    assert torch.equal(found.features, found.logits)  # rows of both looks would be taken for other pictures


def test_layers_move_by_their_share():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        model[0].weight *= 1.5
        model[0].bias += 100
        model[2].weight *= 0.9
    given = outputs({"forget": drawn(0)}, {}, model=model, original_weights=before)
    assert layer_distance(given) == {"layer_distance": pytest.approx((0.5 + 0.1) / 2)}


def test_relearning_counts_epochs_and_leaves_the_model_alone(toy):
    def epochs(accuracy):
        model = toy.model()
        before = copy.deepcopy(model.state_dict())
        original = {"forget": SimpleNamespace(accuracy=accuracy)}
        found = relearn(outputs({"forget": drawn(0)}, {}, model=model, data=toy.image_set("forget"), original=original))
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        return found["relearn_epochs"]

    part, model = toy.image_set("forget"), toy.model().eval()
    now = 100 * float((model(part.images.batch(part.index)).argmax(1) == part.labels).float().mean())
    assert epochs(now / WITHIN - 0.1) == 0
    assert 0 < epochs(100) < MOST
    assert epochs(200) == MOST


def test_other_attacks_see_entropy_and_mistakes():
    sure, unsure = torch.eye(5)[torch.arange(200) % 5] * 12, torch.eye(5)[torch.arange(200) % 5] * 0.1
    labels = torch.arange(200) % 5
    retain, test = Predictions(sure, labels), Predictions(unsure.roll(1, 0), labels)
    forget = Predictions(torch.cat([sure[:30], unsure[30:40]]), labels[:40])
    found = mia_others(outputs({"retain": retain, "test": test, "forget": forget}, {}))
    assert found["mia_entropy"] == pytest.approx(25)
    assert found["mia_correctness"] == pytest.approx(0)
    assert found["mia_entropy_attack_acc"] == found["mia_correctness_attack_acc"] == 100
    assert found.uninformative == frozenset()
    p = forget.logits.double().softmax(1).numpy()
    np.testing.assert_allclose(entropy(forget).numpy(), -(p * np.log(p)).sum(1), rtol=1e-9)
    alike = mia_others(outputs({"retain": retain, "test": retain, "forget": forget}, {}))
    assert alike.uninformative == {"mia_entropy", "mia_correctness"}


def test_what_compares_with_retrain_needs_one():
    values = {
        "dataset": "digits", "seeds": 1, "scenarios": [{"kind": "class", "forget_class": 3}], "methods": {"RL": {}},
        "metrics": ["accuracy", "agreement", "cka"],
    }  # fmt: skip
    with pytest.raises(UserError, match="metrics: agreement, cka compares with Retrain, and no row is called so"):
        build(configuration.load(values))
    plan = build(configuration.load(values | {"methods": {"Retrain": {}, "RL": {}}}))
    told = [stage for stage in plan.stages if stage.run.endswith(":predict")]
    assert len(told) == 1  # once for all rows
    with pytest.raises(UserError, match="evaluate: metric 'relearn' compares with other models: it is for sweeps"):
        loreun_bench.evaluate(torch.nn.Linear(1, 1), metrics=("relearn",))


def test_a_metric_says_what_it_needs():
    with pytest.raises(UserError, match=r"metric 'odd': needs=\['teacher'\] must be of"):
        metric("odd", columns={"odd": "odd"}, needs={"teacher"})(lambda outputs: {})
