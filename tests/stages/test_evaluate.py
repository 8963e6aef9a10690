"""`evaluate` of a model that the user brings: one line for what cannot be measured, and the model is left as it was."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

import loreun_bench
from loreun_bench.classification.unlearning.networks import build_model
from loreun_bench.errors import UserError
from loreun_bench.harness.store import Store, default_root
from loreun_bench.report import leaderboard, table


class Net(nn.Module):
    """Linear on digits; `how` may change what it gives."""

    def __init__(self, how=lambda net, x: net.head(net.drop(x.flatten(1))), classes=10):
        super().__init__()
        torch.manual_seed(0)
        self.how, self.drop, self.head = how, nn.Dropout(0.5), nn.Linear(64, classes)

    def forward(self, x):
        return self.how(self, x)


def evaluate(model, **options):
    return loreun_bench.evaluate(model, "digits", metrics=["accuracy", "loss"], **options)


def boom(net, x):
    raise ValueError("not today")


WRONG = {
    "NaN": (Net(lambda net, x: net.head(x.flatten(1)) / 0 * 0), "images are NaN or infinite"),
    "nine outputs": (Net(classes=9), r"model Net gives \(2, 9\) for 2 images, expected \(2, 10\)"),
    "function": (lambda x: x, "the model is function, not a torch.nn.Module"),
    "class": (Net, r"the model is the class Net itself \(call it\)"),
    "none": (None, "NoneType"),
    "no weights": (nn.Flatten(), "no weights"),
    "meta": (nn.Linear(3, 3, device="meta"), "meta"),
    "lazy": (nn.LazyLinear(3), "lazy"),
    "raises": (Net(boom), r"model Net raised ValueError: not today \(test_evaluate.py:\d+\)"),
    "wrong size": (nn.Sequential(nn.Flatten(), nn.Linear(63, 10)), "raised RuntimeError"),
    "words": (Net(lambda net, x: "cat"), "returns str without `logits`"),
    "script": (torch.jit.trace(Net().eval(), torch.zeros(1, 1, 8, 8)), "TorchScript"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_measured_is_one_line(name):
    model, says = WRONG[name]
    with pytest.raises(UserError, match=says) as error:
        evaluate(model)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("how", [None, boom, lambda net, x: net.head(x.flatten(1)) / 0])
def test_the_model_is_as_it_was_also_after_an_error(how):
    model = Net() if how is None else Net(how)
    model.train()
    model.drop.eval()
    model.head.weight.requires_grad_(False)
    model.head.bias.grad = torch.ones(10)
    weight, rng = model.head.weight.clone(), torch.get_rng_state()
    if how is None:
        evaluate(model)
    else:
        with pytest.raises(UserError):
            evaluate(model)
    assert [m.training for m in model.modules()] == [True, False, True]
    assert [p.requires_grad for p in model.parameters()] == [False, True]
    assert torch.equal(model.head.bias.grad, torch.ones(10))
    assert torch.equal(model.head.weight, weight)
    assert torch.equal(torch.get_rng_state(), rng)
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


def test_outputs_of_any_kind_and_types_give_the_same_numbers():
    plain = evaluate(Net())
    assert evaluate(Net(lambda net, x: {"logits": net.head(x.flatten(1))})) == plain
    assert evaluate(Net(lambda net, x: (x, net.head(x.view(len(x), -1))))) == plain
    assert evaluate(Net(lambda net, x: net.head(x.flatten(1)).squeeze())) == plain
    assert evaluate(Net().double()) == pytest.approx(plain, abs=1e-4)
    assert evaluate(Net().bfloat16()) == pytest.approx(plain, rel=0.1)


def test_a_network_that_views_its_images_is_measured():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Unflatten(1, (2, 2)), nn.Flatten(), nn.Linear(144, 10))
    viewing = Net(lambda net, x: net.head(net.conv(x).view(len(x), -1)))
    viewing.conv, viewing.head = model[0], model[3]
    assert evaluate(viewing) == pytest.approx(evaluate(model), abs=1e-4)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"protocol": "papers"}, "did you mean 'paper'"),
        ({"normalise": "imagenet"}, "evaluate.normalise: give data, none"),
        ({"normalise": {"mean": [0.5, 0.5], "std": 1}}, "normalise.mean: 2 values, expected 1: digits is grey"),
        ({"normalise": {"mean": 0.5, "std": 0}}, "std must be above 0"),
    ],
)
def test_wrong_options_are_one_line(options, says):
    with pytest.raises(UserError, match=says):
        evaluate(Net(), **options)


def test_a_metric_that_is_derived_cannot_be_asked_for():
    with pytest.raises(UserError, match="'tow' is derived when a table is made"):
        loreun_bench.evaluate(Net(), metrics=["tow"])


def test_images_arrive_as_normalise_says():
    seen = []

    def look(net, x):
        seen.append(x.clone())
        return net.head(x.flatten(1))

    for by in ("data", "none", {"mean": 0.5, "std": [0.25]}):
        evaluate(Net(look), normalise=by)
    data, none, given = seen[0], seen[len(seen) // 3], seen[2 * len(seen) // 3]
    assert 0 <= float(none.min()) < float(none.max()) <= 1
    torch.testing.assert_close(given, (none - 0.5) / 0.25)
    assert abs(float(data.mean())) < 0.3


CONFIG = {
    "name": "n", "seeds": 2, "device": "cpu", "train": {"epochs": 2}, "noise_floor": False, "weightings": ["none"],
    "scenarios": [{"kind": "random", "fraction": 0.1}], "methods": {"Retrain": {}, "RL": {"epochs": 1}},
    "metrics": ["accuracy", "mia"],
}  # fmt: skip


def test_a_checkpoint_is_measured_as_it_was_trained_and_the_table_says_so(tmp_path):
    """Case 14: trained on pixels minus .5 over .5, it is 100 % right only on such pixels."""
    half = {"mean": 0.5, "std": 0.5}
    trained = loreun_bench.sweep(CONFIG | {"normalise": half, "train": {"epochs": 8}}, tmp_path / "a", workers=0)
    original = next(r for r in trained if r.method == "Original")
    torch.save({"net": Store(default_root()).find(original.artifact).tensors()}, tmp_path / "w.pt")
    config = CONFIG | {"checkpoint": str(tmp_path / "w.pt")}
    right = loreun_bench.sweep(config | {"normalise": half}, tmp_path / "b", workers=0)
    wrong = loreun_bench.sweep(config, tmp_path / "c", workers=0)
    assert right[0].metrics["test_acc"] == original.metrics["test_acc"] != wrong[0].metrics["test_acc"]
    text = leaderboard.render(table.build([("b", right), ("c", wrong)]))
    assert text.count("checkpoint") > 1
    assert "b: normalised by mean 0.5, std 0.5" in text  # two tables, of two normalisations
    assert "c: normalised by mean 0.30" in text
    assert "Original is a checkpoint, one for all seeds" in " ".join(text.split())
    assert "Original is a checkpoint" not in leaderboard.render(table.build([("a", trained)]))
    plan = loreun_bench.harness.plan.build(loreun_bench.config.load(config | {"normalise": half}))
    notes = " ".join(plan.notes)
    for words in ("w.pt: weights under 'net'", "original of every seed", "this configuration's recipe", "mean 0.5, std 0.5"):
        assert words in notes
    assert "as chance is" not in notes
    weights = Store(default_root()).find(original.artifact).tensors()
    turned = weights | {name: weights[name].roll(3, 0) for name in ("13.weight", "13.bias")}
    torch.save(turned, tmp_path / "w.pt")
    plan = loreun_bench.harness.plan.build(loreun_bench.config.load(config | {"normalise": half}))
    notes = " ".join(plan.notes)
    assert re.search("right on [0-9] of 100 test pictures, as chance is: are its classes in another order", notes)


def test_normalisation_is_part_of_every_key_and_fits_the_channels(tmp_path):
    def keys(**change):
        found = loreun_bench.harness.plan.build(loreun_bench.config.load(CONFIG | change))
        return {stage.recipe for stage in found.stages if stage.run.partition(":")[2] != "split"}

    sets = [keys(), *(keys(normalise=by) for by in ("none", {"mean": 0.5, "std": 0.5}, {"mean": 0.5, "std": 0.4}))]
    assert not any(a & b for i, a in enumerate(sets) for b in sets[:i])
    assert keys(normalise="data") == sets[0]
    with pytest.raises(UserError, match=r"normalise.std: 3 values, expected 1"):
        keys(normalise={"mean": 0.5, "std": [0.5, 0.5, 0.5]})
    with pytest.raises(UserError, match="divide those of pixels"):
        keys(normalise={"mean": 127, "std": 60})


def test_a_checkpoint_that_gives_nan_is_refused_at_planning(tmp_path):
    weights = build_model("small-cnn", {}, 1, 10, (8, 8)).state_dict()
    weights["1.running_var"][:] = -1
    torch.save(weights, tmp_path / "w.pt")
    with pytest.raises(UserError, match="with its weights the model gives logits that are NaN"):
        loreun_bench.sweep(CONFIG | {"checkpoint": str(tmp_path / "w.pt")}, tmp_path / "run", workers=0)
