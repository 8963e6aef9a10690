"""The baselines: a step, or what is done once, of each against plain PyTorch that shares none of their code."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from loreun_bench.classification.methods.bad_t import BadTeacher
from loreun_bench.classification.methods.boundary_expand import BoundaryExpand
from loreun_bench.classification.methods.boundary_shrink import BoundaryShrink
from loreun_bench.classification.methods.cf_k import CatastrophicForgetting
from loreun_bench.classification.methods.ct import ConvolutionTranspose
from loreun_bench.classification.methods.delete import DecoupledDistillation
from loreun_bench.classification.methods.eu_k import ExactUnlearning
from loreun_bench.classification.methods.ft import FineTune
from loreun_bench.classification.methods.iu import InfluenceUnlearning
from loreun_bench.classification.methods.l1_sparse import L1Sparse
from loreun_bench.classification.methods.msg import MaskedSmallGradients
from loreun_bench.classification.methods.rl import RandomLabel
from loreun_bench.classification.methods.scrub import Scrub
from loreun_bench.classification.methods.scrub_r import ScrubRewind
from loreun_bench.classification.methods.sfron import SalientForgetting
from loreun_bench.classification.methods.ssd import SelectiveSynapticDampening
from loreun_bench.classification.unlearning.gradient import GradientMethod
from loreun_bench.classification.unlearning.method import Asked
from loreun_bench.errors import UserError
from loreun_bench.registry import registry
from loreun_bench.training.frozen import blocks
from loreun_bench.weightings import Phase

PLAIN = {"momentum": 0.0, "weight_decay": 0.0}
WHOLE = {"batch_size": 1000, **PLAIN}  # one batch a pass, so that the order does not matter


def pictures(part) -> torch.Tensor:
    return part.images.batch(part.index)


def weights_of(model) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def descended(model, loss, lr: float) -> None:
    """One step of plain SGD on a loss that was just computed."""
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, materialize_grads=True)
    with torch.no_grad():
        for p, g in zip(model.parameters(), gradients, strict=True):
            p -= lr * g


def run(toy, method, data=None, **context):
    """(the model after, and as it was before)"""
    model = toy.model()
    before = copy.deepcopy(model)
    made = toy.context()
    for name, value in context.items():
        setattr(made, name, value)
    return method.unlearn(model, data or toy.data(), made), before


def close(found, wanted) -> None:
    torch.testing.assert_close(weights_of(found), weights_of(wanted), rtol=1e-4, atol=1e-6)


def kl(student, teacher, t=1.0):
    return t * t * F.kl_div((student / t).log_softmax(1), (teacher / t).softmax(1), reduction="none").sum(1)


def test_scrub_climbs_from_the_teacher_and_repairs(toy):
    found, model = run(toy, Scrub(epochs=2, ascents=1, forget_batch_size=1000, lr=0.5, alpha=0.3, gamma=0.7, **WHOLE))
    data, teacher = toy.data(), copy.deepcopy(model).eval()
    forget, retain = pictures(data.forget), pictures(data.retain)
    model.train()
    descended(model, -kl(model(forget), teacher(forget).detach(), 4.0).mean(), 0.5)
    for _ in range(2):
        logits = model(retain)
        repair = 0.7 * F.cross_entropy(logits, data.retain.labels) + 0.3 * kl(logits, teacher(retain).detach(), 4.0).mean()
        descended(model, repair, 0.5)
    close(found, model)


def test_scrub_rewinds_to_the_epoch_that_is_nearest_to_unseen_pictures(toy, monkeypatch):
    seen: list[torch.Tensor] = []
    plain = GradientMethod.after_epoch
    errors = iter([0.5, 0.4, 0.4, 0.9])  # of validation at the end, then of the forget set after each of three epochs

    def watched(self, model, context):
        seen.append(weights_of(model).clone())
        return rewind(self, model, context)

    rewind = ScrubRewind.after_epoch
    assert rewind is not plain
    monkeypatch.setattr(ScrubRewind, "after_epoch", watched)
    monkeypatch.setattr("loreun_bench.classification.unlearning.evaluating.error_of", lambda *_: next(errors))
    found, _ = run(toy, ScrubRewind(epochs=3, ascents=1, lr=0.1))
    assert len(seen) == 3
    assert torch.equal(weights_of(found), seen[1])


def test_l1_sparse_is_fine_tuning_with_a_penalty_that_fades(toy):
    for epochs, free, factor in ((1, 0, 1.0), (1, 1, 0.0)):
        settings = {"epochs": epochs, "lr": 0.1, **WHOLE}
        sparse, before = run(toy, L1Sparse(alpha=0.02, free_epochs=free, **settings))
        plain, _ = run(toy, FineTune(**settings))
        moved = weights_of(plain) - weights_of(sparse)
        torch.testing.assert_close(moved, 0.1 * 0.02 * factor * weights_of(before).sign(), rtol=1e-3, atol=1e-7)
    made = L1Sparse(alpha=1.0, epochs=4)
    model = toy.model()
    fade = [made.penalty(model, e, toy.context()).item() for e in range(4)]
    assert [each / fade[0] for each in fade] == pytest.approx([1, 0.75, 0.5, 0.25])


@pytest.mark.parametrize("labels", [True, False])
def test_ssd_dampens_what_matters_more_to_the_forget_set(toy, labels):
    found, model = run(toy, SelectiveSynapticDampening(alpha=1.2, dampening=2.0, batch_size=1000, labels=labels))
    data = toy.data()
    model.eval()

    def importance(*parts):
        logits = model(torch.cat([pictures(part) for part in parts]))
        targets = torch.cat([part.labels for part in parts])
        loss = F.cross_entropy(logits, targets) if labels else logits.pow(2).sum(1).mean()
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        return torch.cat([(g.pow(2) if labels else g.abs()).flatten() for g in gradients])

    forget, every = importance(data.forget), importance(data.forget, data.retain)
    old = weights_of(model)
    chosen = forget > 1.2 * every
    assert 0.05 < chosen.float().mean() < 0.95
    new = torch.where(chosen, old * torch.minimum(2.0 * every / forget, torch.ones(())), old)
    torch.testing.assert_close(weights_of(found), new, rtol=1e-3, atol=1e-6)


def test_ssd_chooses_its_threshold_by_the_share_that_is_forgotten(toy):
    few, _ = run(toy, SelectiveSynapticDampening(alpha=0.0, batch_size=50))
    before = toy.model()
    touched = (weights_of(few) != weights_of(before)).float().mean()
    assert 0.005 < float(touched) < 0.08  # about log(1 + 100 · 0.2) = 3 of 100


def test_bad_teacher_imitates_two_teachers_in_one_batch(toy):
    found, model = run(toy, BadTeacher(lr=0.3, share=1.0, optimizer="sgd", **WHOLE))
    data, good, bad = toy.data(), copy.deepcopy(model).eval(), toy.model(seed=1).eval()
    forget, retain = pictures(data.forget), pictures(data.retain)
    model.train()
    logits = model(torch.cat([forget, retain]))
    known = torch.cat([bad(forget), good(retain)]).detach()
    descended(model, kl(logits, known).mean(), 0.3)
    close(found, model)


def test_delete_takes_the_true_class_from_the_original(toy):
    found, model = run(toy, DecoupledDistillation(epochs=1, lr=0.3, **WHOLE))
    forget, teacher = toy.data().forget, copy.deepcopy(model).eval()
    known = teacher(pictures(forget)).detach()
    known[torch.arange(len(known)), forget.labels] = -1e10
    model.train()
    descended(model, F.kl_div(model(pictures(forget)).log_softmax(1), known.softmax(1), reduction="batchmean"), 0.3)
    close(found, model)


@pytest.mark.parametrize(("method", "anew"), [(CatastrophicForgetting, False), (ExactUnlearning, True)])
def test_only_the_last_blocks_move(toy, method, anew):
    found, before = run(toy, method(k=1, epochs=1))
    assert len(blocks(before)) == 4
    moving = {id(part) for block in blocks(found)[2:] for part in block}
    for (name, part), old in zip(found.named_modules(), before.modules(), strict=True):
        if not list(part.children()) and part.state_dict():
            same = all(torch.equal(value, old.state_dict()[key]) for key, value in part.state_dict().items())
            assert same == (id(part) not in moving), name
    still, _ = run(toy, method(k=1, epochs=1), limit_steps=0)
    last = blocks(still)[-1][0].weight
    assert torch.equal(last, blocks(toy.model(seed=1))[-1][0].weight) == anew
    assert torch.equal(last, blocks(before)[-1][0].weight) != anew


def test_influence_is_the_published_recursion(toy):
    count = 5
    found, model = run(toy, InfluenceUnlearning(alpha=2.0, pictures=count))
    data = toy.data()
    model.eval()

    def gradient(x, y):
        loss = F.cross_entropy(model(x), y, reduction="sum")
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])

    n, m = len(data.forget), len(data.retain)
    k = gradient(pictures(data.forget), data.forget.labels) / (n + m)
    k = k - gradient(pictures(data.retain), data.retain.labels) * n / ((n + m) * m)
    order = torch.randperm(m, generator=toy.context().stream("order", "fisher"))[:count]
    singles = [gradient(pictures(data.retain)[i : i + 1], data.retain.labels[i : i + 1]) for i in order]
    o = singles[0]
    for g in singles[1:]:
        t = o @ g
        k, o = k - (k @ g) / (count + t) * o, o - t / (count + t) * o
    torch.testing.assert_close(weights_of(found), weights_of(model) + 2 * k, rtol=1e-4, atol=1e-6)


def test_sfr_on_climbs_by_salient_weights_within_a_norm(toy):
    settings = {"steps_taken": 4, "every": 2, "alpha": 50.0, "clip": 0.5, "gamma": 1.0, "lr": 0.1, **WHOLE}
    found, model = run(toy, SalientForgetting(**settings), limit_steps=1)  # the first step is an ascent
    data, parameters = toy.data(), list(model.parameters())
    model.eval()

    def importance(part):
        return torch.autograd.grad(F.cross_entropy(model(pictures(part)), part.labels), parameters)

    masks = [f.pow(2) >= r.pow(2) for f, r in zip(importance(data.forget), importance(data.retain), strict=True)]
    model.train()
    loss = -50 * F.cross_entropy(model(pictures(data.forget)), data.forget.labels)
    slope = torch.cat([(g * m).flatten() for g, m in zip(torch.autograd.grad(loss, parameters), masks, strict=True)])
    assert float(slope.norm()) > 0.5
    step = weights_of(found) - weights_of(model)
    torch.testing.assert_close(step, -0.1 * slope * 0.5 / slope.norm(), rtol=1e-3, atol=1e-7)
    method = SalientForgetting(**settings)
    assert method.count({"forget": 10, "retain": 10}) == 6


def test_boundary_shrink_takes_the_labels_across_the_boundary(toy):
    found, model = run(toy, BoundaryShrink(epsilon=0.2, epochs=1, lr=0.2, **WHOLE))
    forget = toy.data().forget
    pixels = (forget.images._pixels[forget.index].float() / 255).permute(0, 3, 1, 2).requires_grad_(True)
    model.eval()
    (slope,) = torch.autograd.grad(F.cross_entropy(model((pixels - 0.3) / 0.2), forget.labels), pixels)
    moved = (pixels.detach() + 0.2 * slope.sign()).clamp(0, 1)
    neighbours = model((moved - 0.3) / 0.2).argmax(1)
    assert (neighbours != forget.labels).any()
    model.train()
    descended(model, F.cross_entropy(model(pictures(forget)), neighbours), 0.2)
    close(found, model)


def test_boundary_expand_leaves_a_model_of_the_old_shape(toy):
    found, before = run(toy, BoundaryExpand(epochs=30, lr=0.3))
    forget = toy.data().forget
    assert [p.shape for p in found.parameters()] == [p.shape for p in before.parameters()]
    assert not any(module._forward_pre_hooks for module in found.modules())
    found.eval()
    assert found(pictures(forget)).shape == (len(forget), 3)
    assert not torch.equal(weights_of(found), weights_of(before))


def test_msg_resets_the_share_of_each_convolution_that_matters_least(toy):
    found, before = run(toy, MaskedSmallGradients(share=0.3), limit_steps=0)
    for new, old in zip(found.modules(), before.modules(), strict=True):
        if isinstance(new, torch.nn.Conv2d):
            changed = int((new.weight != old.weight).sum())
            assert changed == new.weight.numel() - round(0.7 * new.weight.numel())
        elif list(new.parameters(recurse=False)):
            assert torch.equal(new.weight, old.weight)


def test_msg_trains_what_stayed_at_a_tenth_of_its_gradient(toy):
    """Without momentum and decay, and from the same reset: one step."""
    once = {"batch_size": 1000, "lr_schedule": "constant", "momentum": 0.0, "weight_decay": 0.0, "lr": 0.1}
    start = run(toy, MaskedSmallGradients(**once), limit_steps=0)[0]
    slow, before = run(toy, MaskedSmallGradients(**once), limit_steps=1)
    fast = run(toy, MaskedSmallGradients(**once, slow=1.0), limit_steps=1)[0]
    for new, quick, reset, old in zip(slow.modules(), fast.modules(), start.modules(), before.modules(), strict=True):
        if isinstance(new, torch.nn.Conv2d):
            kept = reset.weight == old.weight
            expected = torch.where(kept, 0.1, 1.0) * (quick.weight - reset.weight)
            torch.testing.assert_close(new.weight - reset.weight, expected, rtol=1e-3, atol=1e-6)
            assert bool((new.weight[kept] != reset.weight[kept]).any())
        elif list(new.parameters(recurse=False)):
            torch.testing.assert_close(new.weight, quick.weight)


def test_eu_k_does_not_leave_new_batch_norm_without_pictures(toy):
    asked = Asked(toy.model(), {"validation": 0}, 3)
    with pytest.raises(UserError, match="would never see a picture"):
        ExactUnlearning(freeze_batchnorm=True).check(asked)


def test_ct_turns_every_kernel(toy):
    found, before = run(toy, ConvolutionTranspose(), limit_steps=0)
    for new, old in zip(found.modules(), before.modules(), strict=True):
        if isinstance(new, torch.nn.Conv2d):
            assert torch.equal(new.weight, old.weight.transpose(2, 3))


def test_a_method_of_its_own_losses_is_weighted_as_any_other(toy):
    """The cross entropy, given row by row, is what the operator's own is."""

    class ByRows(RandomLabel):
        def losses(self, phase, x, logits, targets, context):
            return F.cross_entropy(logits.float(), targets, reduction="none")

    for phase in (None, Phase("forget", 0.7), Phase("forget", 0.7, score="original")):
        phases = {} if phase is None else {"forget": phase}
        each = []
        for method in (ByRows(epochs=2, batch_size=16), RandomLabel(epochs=2, batch_size=16)):
            context = toy.context(phases=phases)
            each.append((method.unlearn(toy.model(), toy.data(), context), context.weights["forget"].summary()))
        close(each[0][0], each[1][0])
        assert each[0][1].keys() == each[1][1].keys()
        for name in each[0][1]:
            assert each[0][1][name] == pytest.approx(each[1][1][name], abs=2e-3)


class Dense(torch.nn.Module):
    """Without convolutions, and with no linear layer of three outputs at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.only = torch.nn.Linear(100, 4)

    def forward(self, x):
        return self.only(x.flatten(1))[:, :3]


@pytest.mark.parametrize(
    ("method", "says"),
    [
        (MaskedSmallGradients(), "it changes convolutions, and the network has none"),
        (ConvolutionTranspose(), "it turns square kernels larger than 1×1"),
        (CatastrophicForgetting(k=1), "k = 1 leaves no block as it is: the network has 1"),
        (BoundaryExpand(), "a last linear layer with 3 outputs"),
        (ScrubRewind(), "validation pictures, and there are none"),
    ],
)
def test_what_cannot_run_is_refused(toy, method, says):
    asked = Asked(Dense(), {"forget": 9, "retain": 20, "validation": 0}, 3)
    with pytest.raises(UserError, match=says):
        method.check(asked)
    method.check(replace(asked, model=toy.model(), sizes={"validation": 5}))


SHORT = {"SFR-on": {"steps_taken": 3}, "IU": {"pictures": 3}, "SSD": {}, "SCRUB": {"epochs": 1}, "SCRUB+R": {"epochs": 1}}


@pytest.mark.parametrize("name", [entry.name for entry in registry("methods").entries()])
def test_every_method_runs_on_weights_that_lie_channels_last(toy, name):
    cls = registry("methods").get(name).item
    method = cls(**SHORT.get(name, {} if name == "Retrain" else {"epochs": 1}))
    model = toy.model().to(memory_format=torch.channels_last)
    found = method.unlearn(model, toy.data(method.uses), toy.context())
    assert all(bool(p.isfinite().all()) for p in found.parameters())
    assert found(torch.zeros(2, 1, 10, 10)).shape == (2, 3)
