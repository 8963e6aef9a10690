"""Training from scratch: it learns, repeats, follows its schedule, and the clock counts what it should."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from helpers import refused

import loreun_bench
from loreun_bench import config
from loreun_bench.classification import stages
from loreun_bench.classification.unlearning import fitting
from loreun_bench.classification.unlearning.fitting import accuracy_of, fit
from loreun_bench.classification.unlearning.networks import build_model
from loreun_bench.errors import Diverged, UserError
from loreun_bench.training import clock
from loreun_bench.training.clock import Meter
from loreun_bench.training.guards import FiniteGuard, check_parameters
from loreun_bench.training.loop import autocast, automatic, epoch, run_steps
from loreun_bench.training.optimiser import biases_apart, make_optimiser, make_schedule

SMALL = {
    "name": "small", "seeds": 1, "train": {"epochs": 1}, "scenarios": [{"kind": "random", "fraction": 0.2}], "device": "cpu",
    "methods": {"RL": {"epochs": 1}}, "metrics": ["accuracy"], "limit_steps": 2, "limit_images": 100,
}  # fmt: skip


def context(toy, **recipe):
    made = toy.context()
    made.recipe = made.recipe.model_copy(update={"batch_size": 32, "lr": 0.1} | recipe)
    return made


def test_training_learns_and_counts_its_samples(toy):
    c = context(toy, epochs=8)
    model = fit(toy.model(), toy.image_set("trained"), None, c)
    assert accuracy_of(model, toy.image_set("validation")) > 0.9
    assert c.meter.forward_samples == c.meter.backward_samples == 8 * len(toy.split.trained)


def test_training_repeats_to_the_bit_and_depends_on_its_seed(toy):
    def run(seed):
        c = context(toy, epochs=2, crop=1, flip=True)
        c.seed = seed
        return torch.cat([p.detach().flatten() for p in fit(toy.model(), toy.image_set("trained"), None, c).parameters()])

    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))


def test_the_last_epoch_is_kept_unless_a_best_one_is_asked_for(toy, monkeypatch):
    scores = iter([0.5, 0.9, 0.7])
    snapshots = []

    def accuracy(model, samples):
        snapshots.append(torch.cat([p.detach().flatten() for p in model.parameters()]).clone())
        return next(scores)

    monkeypatch.setattr(fitting, "accuracy_of", accuracy)
    best = fit(toy.model(), toy.image_set("trained"), toy.image_set("validation"), context(toy, epochs=3))
    assert torch.equal(torch.cat([p.detach().flatten() for p in best.parameters()]), snapshots[1])
    last = fit(toy.model(), toy.image_set("trained"), None, context(toy, epochs=3))
    assert torch.equal(torch.cat([p.detach().flatten() for p in last.parameters()]), snapshots[2])


def test_a_step_limit_holds_for_training(toy):
    c = context(toy, epochs=50)
    c.limit_steps = 3
    fit(toy.model(), toy.image_set("trained"), None, c)
    assert c.meter.backward_samples == 96


def rates(name, steps=100, **options):
    optimiser = make_optimiser([torch.nn.Parameter(torch.zeros(1))], "sgd", 0.1, 0.9, 0.0)
    schedule = make_schedule(optimiser, name, steps, 10, **options)
    found = []
    for _ in range(steps):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if schedule is not None:
            schedule.step()
    return found


def test_multistep_drops_at_its_milestones_in_epochs():
    found = rates("multistep", milestones=(3, 6), gamma=0.1)
    assert found[29] == pytest.approx(0.1)
    assert found[30] == pytest.approx(0.01)
    assert found[60] == pytest.approx(0.001)


def test_one_cycle_rises_to_the_rate_and_falls_to_nearly_nothing():
    found = rates("one-cycle")
    assert max(found) == pytest.approx(0.1, rel=0.05)
    assert 20 <= found.index(max(found)) <= 30
    assert found[0] < 0.01
    assert found[-1] < 2e-3


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 8])
def test_one_cycle_works_for_a_handful_of_steps(steps):
    found = rates("one-cycle", steps=steps)
    assert max(found) == pytest.approx(0.1)
    assert min(found) > 0


def test_a_constant_rate_stays():
    assert set(rates("constant")) == {0.1}


def test_an_epoch_is_a_permutation_in_batches_that_leaves_nobody_out():
    parts = epoch(103, 10, torch.Generator().manual_seed(0))
    assert [len(p) for p in parts] == [10] * 10 + [3]
    assert torch.cat(parts).sort().values.tolist() == list(range(103))


def test_the_guard_raises_at_its_next_look_and_at_the_end():
    guard = FiniteGuard(every=3)
    guard.watch(torch.tensor(math.nan))
    guard.watch(torch.tensor(1.0))
    with pytest.raises(Diverged):
        guard.watch(torch.tensor(1.0))
    late = FiniteGuard()
    late.watch(torch.tensor(math.inf))
    with pytest.raises(Diverged):
        late.verdict()
    with pytest.raises(Diverged):
        check_parameters([torch.ones(3), torch.tensor([math.nan])])
    check_parameters([torch.ones(3)])


def test_the_guard_does_not_wait_for_the_device_at_every_step(monkeypatch):
    looks = []
    monkeypatch.setattr(FiniteGuard, "verdict", lambda self: looks.append(1))
    guard = FiniteGuard(every=50)
    for _ in range(100):
        guard.watch(torch.tensor(1.0))
    assert len(looks) == 2


def test_a_constraint_is_called_around_every_step():
    calls = []

    class Constraint:
        def before_step(self):
            calls.append("before")

        def after_step(self):
            calls.append("after")

    model = torch.nn.Linear(2, 1)
    run_steps(
        model, [1, 2], lambda _: model(torch.ones(1, 2)).sum(), torch.optim.SGD(model.parameters(), 0.1), None, Constraint()
    )
    assert calls == ["before", "after"] * 2


class FakeTime:
    """A clock that the test moves."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(clock.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(clock.time, "thread_time", lambda: self.now / 2)


def test_the_clock_leaves_out_what_runs_while_it_is_paused(monkeypatch):
    time = FakeTime(monkeypatch)
    with Meter("cpu") as meter:
        time.now += 3
        with meter.paused():
            time.now += 100
        time.now += 4
    assert meter.cost()["rte_s"] == 7
    assert meter.cost()["cpu_s"] == 3.5


def test_choosing_the_best_epoch_is_outside_the_clock_and_the_counts(toy, monkeypatch):
    time = FakeTime(monkeypatch)
    real = fitting.accuracy_of

    def slow(model, samples):
        time.now += 1000
        return real(model, samples)

    monkeypatch.setattr(fitting, "accuracy_of", slow)
    c = context(toy, epochs=2)
    with c.meter:
        fit(toy.model(), toy.image_set("trained"), toy.image_set("validation"), c)
    assert c.meter.cost()["rte_s"] == 0
    assert c.meter.forward_samples == 2 * len(toy.split.trained)


def test_peak_memory_is_of_the_run():
    with Meter("cpu") as meter:
        block = torch.ones(64 << 20)
        del block
    assert meter.cost()["peak_mem_bytes"] > 256 << 20 or meter.cost()["peak_mem_bytes"] == 0


def test_precision_is_what_products_are_computed_in():
    x = torch.ones(2, 2)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with autocast("cpu", precision):
            assert (x @ x).dtype == dtype


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="the processor's own words are in /proc/cpuinfo (Linux)")
def test_auto_is_bf16_where_the_processor_says_so():
    flags = set(Path("/proc/cpuinfo").read_text().split())
    assert automatic("cpu") == ("bf16" if {"avx512_bf16", "amx_bf16"} & flags else "fp32")


@pytest.mark.parametrize(("capable", "precision"), [("avx512_bf16", "bf16"), ("amx_bf16", "bf16"), ("avx512_f", "fp32")])
def test_auto_is_settled_before_anything_runs_and_recorded(monkeypatch, tmp_path, capable, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {capable: True}, raising=False)
    found = loreun_bench.sweep(SMALL, tmp_path, workers=0)
    assert {record.conditions["precision"] for record in found} == {precision}
    assert f"precision: {precision}\n" in (tmp_path / "config.yaml").read_text()
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    if precision == "bf16":
        with pytest.raises(UserError, match="another configuration"):  # rows of two precisions would be in one table
            loreun_bench.sweep(SMALL, tmp_path, workers=0)


@pytest.mark.parametrize("protocol", ["corrected", "paper"])
def test_only_protocol_paper_selects_an_epoch_and_then_on_the_validation_set(tmp_path, monkeypatch, protocol):
    chosen = {}
    real = fitting.fit

    def spy(model, samples, select_on, context):
        chosen["on"], chosen["trained"] = select_on, samples
        return real(model, samples, select_on, context)

    monkeypatch.setattr(stages, "fit", spy)
    config = {
        "name": "x", "seeds": 1, "train": {"epochs": 1}, "scenarios": [{"kind": "random", "fraction": 0.2}],
        "methods": {"RL": {"epochs": 1}}, "metrics": ["accuracy"], "protocol": protocol,
    }  # fmt: skip
    loreun_bench.sweep(config, tmp_path / "run", workers=0)
    if protocol == "corrected":
        assert chosen["on"] is None
    else:
        trained, held = set(chosen["trained"].index.tolist()), set(chosen["on"].index.tolist())
        assert len(held) == 144
        assert not trained & held


def seen_by(model, samples, made):
    """The images [n, C, H, W] of every step of training, in order."""
    seen = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    fit(model, samples, None, made)
    return seen


def test_flips_by_turns_show_each_image_one_way_and_then_the_other(toy):
    samples = toy.image_set("trained")
    plain = samples.images.batch(samples.index)
    ways = []
    for x in seen_by(toy.model(), samples, context(toy, epochs=4, flip="alternating", batch_size=300)):
        kept, flipped = ((x[:, None] == each[None]).flatten(2).all(2).any(0) for each in (plain, plain.flip(3)))
        assert torch.equal(kept, ~flipped)
        ways.append(flipped)
    assert torch.equal(ways[0], ~ways[1])
    assert all(map(torch.equal, ways[:2], ways[2:]))
    assert 0.3 < ways[0].float().mean() < 0.7


def test_the_first_layer_whitens_the_images_that_the_model_is_trained_on_and_stays(toy):
    for name in ("trained", "retain"):
        model, samples = build_model("airbench", {}, 1, 3, (10, 10)), toy.image_set(name)
        fit(model, samples, None, context(toy, epochs=1))
        x = samples.images.batch(samples.index)
        whitened = torch.nn.functional.conv2d(x, model[0].weight)[:, :4].movedim(1, 3).reshape(-1, 4)
        torch.testing.assert_close(whitened.T @ whitened / len(whitened), torch.eye(4), atol=0.02, rtol=0)
        assert torch.equal(model[0].weight[4:], -model[0].weight[:4])


def test_a_network_that_mirrors_says_in_evaluation_what_both_pictures_say_in_the_mean():
    torch.manual_seed(0)
    one, both = (build_model("airbench", {"mirror": mirror}, 1, 3, (10, 10)) for mirror in (False, True))
    both.load_state_dict(one.state_dict())
    x = torch.randn(5, 1, 10, 10)
    assert torch.equal(both.train()(x), one.train()(x))
    one.eval(), both.eval()
    torch.testing.assert_close(both(x), (one(x) + one(x.flip(3))) / 2)
    assert not torch.allclose(both(x), one(x))


def test_pictures_too_small_for_the_network_are_refused_in_one_line(command):
    refused(command("plan", "digits", "--set", "model=airbench"), "needs pictures of 9×9 pixels or more, these have 8×8")


def test_the_recipe_smooths_labels_as_torch_does(toy):
    made = context(toy, epochs=1, label_smoothing=0.2)
    made.limit_steps, model, samples = 1, toy.model(), toy.image_set("trained")
    expected = torch.nn.CrossEntropyLoss(label_smoothing=0.2)
    order = epoch(len(samples), 32, toy.context().stream("order"))[0]
    with torch.no_grad():
        loss = expected(model(samples.images.batch(samples.index[order])), samples.labels[order])
    heard = []
    with pytest.MonkeyPatch.context() as patch:
        steps = fitting.run_steps
        hear = lambda objective: lambda batch: (heard.append(objective(batch)), heard[-1])[1]  # noqa: E731
        patch.setattr(fitting, "run_steps", lambda m, b, objective, *a, **o: steps(m, b, hear(objective), *a, **o))
        fit(model, samples, None, made)
    assert heard[0].item() == pytest.approx(loss.item(), rel=1e-6)


def test_biases_learn_at_a_rate_of_their_own_and_shrink_as_all_else():
    layer = torch.nn.Linear(2, 2)
    torch.nn.init.ones_(layer.bias), torch.nn.init.ones_(layer.weight)
    optimiser = make_optimiser(biases_apart(layer, 0.1, 0.5, 4.0), "sgd", 0.1, 0.0, 0.5)
    for parameter in layer.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    torch.testing.assert_close(layer.weight.detach(), torch.full((2, 2), 1 - 0.1 * 1 - 0.1 * 0.5))
    torch.testing.assert_close(layer.bias.detach(), torch.full((2,), 1 - 0.4 * 1 - 0.1 * 0.5))


def test_nesterov_goes_with_sgd_and_a_momentum():
    for wrong in ({"optimizer": "adam"}, {"momentum": 0.0}):
        with pytest.raises(UserError, match="nesterov goes with optimizer sgd"):
            config.load(SMALL | {"train": {"epochs": 1, "nesterov": True} | wrong})


def test_auto_is_settled_before_anything_is_computed_in_it():
    with pytest.raises(ValueError, match="precision is 'auto', expected fp32 or bf16"):
        autocast("cpu", "auto")
    assert autocast("cpu", "bf16")._enabled
    assert not autocast("cpu", "fp32")._enabled
