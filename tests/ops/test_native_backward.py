"""Backward passes: against differences, twice, scaled, refused, and over the logits."""

from __future__ import annotations

import pytest
import torch
from accuracy import (
    TYPES,
    batch,
    calls,
    ce_call,
    compiled,
    forced,
    mse_call,
)
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from loreun_bench.ops import loreun_cross_entropy, loreun_mse_loss

native_ways = pytest.mark.parametrize("path", ["eager", "python"])
backends = pytest.mark.parametrize("path", ["eager", "python", "reference"])


@backends
@calls
def test_gradients_are_those_of_differences(call, path):
    x = batch(7, 5, torch.float64)[0].requires_grad_()
    with forced(path):
        assert torch.autograd.gradcheck(lambda x: call(x, detach_weights=False), x)


@backends
def test_detached_weights_are_numbers(path):
    x, y, clean = batch(7, 5, torch.float64)
    x.requires_grad_()
    weights = torch.softmax(-0.3 * F.cross_entropy(x, clean, reduction="none"), 0).detach()
    far = [batch(7, 5, torch.float64, seed)[0] for seed in (1, 2)]
    square, other = ((x - t).square().mean(1) for t in far)
    heavy = torch.softmax(0.3 * other / 0.5, 0).detach()
    with forced(path):
        ce = loreun_cross_entropy(x, y, clean, eta=0.3, direction="forget")
        mse = loreun_mse_loss(x, far[0], far[1], eta=0.3, direction="retain", ref_loss=0.5)
    for mine, theirs in ((ce, (weights * F.cross_entropy(x, y, reduction="none")).sum()), (mse, (heavy * square).sum())):
        (a,), (b,) = (torch.autograd.grad(loss, x, retain_graph=True) for loss in (mine, theirs))
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-15)


@compiled
@native_ways
@calls
@pytest.mark.parametrize("dtype", TYPES)
def test_a_second_pass_through_the_graph_is_the_first(call, dtype, path):
    x = batch(9, 10, TYPES[dtype])[0].requires_grad_()
    for upstream in (1.0, 0.5, -2.0):  # powers of two: a ready gradient is rounded before it is scaled
        with forced(path):
            loss = call(x, detach_weights=False)
            seen = [torch.autograd.grad(loss, x, torch.full_like(loss, upstream), retain_graph=True)[0] for _ in range(3)]
        for grad in seen[1:]:
            torch.testing.assert_close(grad, seen[0], rtol=torch.finfo(x.dtype).eps, atol=1e-7 * (x.dtype == torch.float16))
        assert len({grad.data_ptr() for grad in seen}) == 3


@backends
@calls
def test_loss_scale_and_the_incoming_gradient_multiply(call, path):
    x = batch(9, 10, torch.float64)[0].requires_grad_()
    with forced(path):
        plain, scaled = call(x), call(x, loss_scale=2.5)
        grads = [torch.autograd.grad(loss, x, torch.full_like(loss, g))[0] for loss, g in ((plain, 2.0), (scaled, 0.8))]
    assert scaled.item() == pytest.approx(2.5 * plain.item(), rel=1e-14)
    torch.testing.assert_close(*grads, rtol=1e-14, atol=0)


@compiled
@native_ways
@calls
def test_what_cannot_be_differentiated_says_so(call, path):
    x = batch(9, 10)[0].requires_grad_()
    with forced(path):
        with pytest.raises(RuntimeError, match="no second derivative"):
            torch.autograd.grad(call(x), x, create_graph=True)
        loss = call(x)
        loss.backward()
        with pytest.raises(RuntimeError, match="backward through the graph a second time"):
            loss.backward()


@compiled
@native_ways
@calls
def test_logits_changed_between_the_passes_are_noticed(call, path):
    w = batch(100, 3000)[0].requires_grad_()  # long rows and over a megabyte: the gradient is made in the backward pass
    x = w * 2
    with forced(path):
        loss = call(x)
        x.add_(1)
        small = call is mse_call  # its gradient is made in the forward pass up to any size
        if small:
            loss.backward()
            (same,) = torch.autograd.grad(call(w * 2), w)
            assert torch.equal(w.grad, same)
        else:
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                loss.backward()


@compiled
@native_ways
@calls
def test_hooks_on_saved_tensors_see_them(call, path):
    x = batch(100, 3000)[0].requires_grad_()
    with forced(path):
        (plain,) = torch.autograd.grad(call(x), x)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t):
            loss = call(x)
            seen = [torch.autograd.grad(loss, x, retain_graph=True)[0] for _ in range(2)]
    for grad in seen:
        torch.testing.assert_close(grad, plain, rtol=1e-6, atol=1e-10)


@backends
@calls
def test_small_float16_gradients_live_under_a_loss_scaler(call, path):
    """Many are too small for float16 until they are scaled: none may be made unscaled."""
    x, scale = batch(2000, 200, torch.float16)[0], 65536.0
    exact, y = x.double().requires_grad_(), x.requires_grad_()
    with forced(path):
        (wanted,) = torch.autograd.grad(call(exact), exact)
        (found,) = torch.autograd.grad(call(y) * scale, y)
    assert float((wanted.abs() < 2.0**-18).double().mean()) > 0.2, "the case is too easy"
    torch.testing.assert_close(found.double() / scale, wanted, rtol=2e-3, atol=2.0**-24 / scale)


# ---- the gradient over the logits


def inplace(consume=lambda logits: 0, second=False, produce=lambda w: w * 2, dtype=torch.float32, **options) -> None:
    """Raises, or the gradient is that of the same calls out of place."""
    grads = []
    for over in (False, True):
        w = batch(9, 10, dtype)[0].requires_grad_()
        logits = produce(w)
        other = consume(logits)  # made before, so that its backward pass comes after
        loss = ce_call(logits, inplace_backward=over, **options) + other
        if second:
            loss = loss + ce_call(logits, inplace_backward=over, **options)
        grads.append(torch.autograd.grad(loss * 0.7, w)[0])
    torch.testing.assert_close(*grads, rtol=4 * torch.finfo(dtype).eps, atol=1e-7)


@compiled
@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("view", ["plain", "transposed", "every second"])
def test_in_place_is_out_of_place(view, dtype, detach):
    views = {"plain": lambda w: w * 2, "transposed": lambda w: (w.t() * 2).t(), "every second": lambda w: (w * 2)[:, ::2]}
    inplace(produce=views[view], dtype=TYPES[dtype], detach_weights=detach)


@compiled
def test_in_place_allocates_no_gradient_and_leaves_other_consumers_alone():
    inplace(consume=lambda logits: logits.sum())
    inplace(consume=lambda logits: torch.log_softmax(logits, 1).square().sum())  # saves what it returns, not the logits
    w = batch(9, 10)[0].requires_grad_()
    logits = w * 2
    before, seen = logits.detach().clone(), []
    logits.register_hook(lambda grad: seen.append(grad.data_ptr()))
    ce_call(logits, inplace_backward=True).backward()
    assert seen == [logits.data_ptr()]
    assert not torch.equal(logits, before)


@compiled
@pytest.mark.parametrize(
    "settings",
    [
        {"consume": lambda logits: logits.square().sum()},
        {"consume": lambda logits: F.mse_loss(logits, torch.zeros(9, 10))},
        {"produce": lambda w: w.exp()},
        {"second": True},
    ],
    ids=["consumer that saved them", "another", "producer that saved them", "second loss"],
)
def test_in_place_refuses_whoever_still_needs_the_logits(settings):
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        inplace(**settings)


@compiled
def test_in_place_works_once():
    w = batch(9, 10)[0].requires_grad_()
    loss = ce_call(w * 2, inplace_backward=True)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@backends
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda w: w, "leaf"),
        (lambda w: (w[:1] * 2).expand(9, 10), "expanded"),
        (lambda w: (w * 2).as_strided((9, 10), (1, 1)), "share memory"),
    ],
)
def test_in_place_refuses_logits_that_cannot_be_written(make, says, path):
    w = batch(9, 10)[0].requires_grad_()
    with forced(path), pytest.raises(ValueError, match=says):
        ce_call(make(w), inplace_backward=True)


@backends
@pytest.mark.parametrize("name", ["score_loss", "ref_loss", "target", "score_target"])
def test_gradients_reach_whatever_else_asks_for_them(name, path):
    """The kernels have only that of their first argument: such calls go another way."""
    x, y, _ = batch(7, 5, torch.float64)
    settings = {"eta": 0.3, "direction": "forget", "detach_weights": False}
    rows = torch.linspace(0.5, 2, 7, dtype=torch.float64)

    def call(value):
        if name in ("target", "score_target"):
            pictures = {"target": x.flip(0)} | {name: value}
            return loreun_mse_loss(x.flip(1), **pictures, ref_loss=0.5, **settings)
        return loreun_cross_entropy(x, y, distance="ratio", **{"ref_loss": rows.flip(0)} | {name: value}, **settings)

    with forced(path):
        value = (x if name.endswith("target") else rows).clone().requires_grad_()
        assert torch.autograd.gradcheck(call, value)


class _Watch(TorchFunctionMode):
    """Hears of every call into torch."""

    def __init__(self):
        super().__init__()
        self.heard = set()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.heard.add(str(function))
        return function(*args, **(kwargs or {}))


class _Kind(torch.Tensor):
    """A tensor that wants to stay of its kind."""


@compiled
@native_ways
@calls
def test_modes_and_subclasses_hear_of_the_call(call, path):
    x = batch(9, 10)[0]
    with forced(path):
        expected = call(x)
        with _Watch() as watch:
            assert torch.equal(call(x), expected)
        kind = call(x.as_subclass(_Kind))
    assert any(name.startswith("loreun.") for name in watch.heard), watch.heard
    assert type(kind) is _Kind
    assert torch.equal(kind.as_subclass(torch.Tensor), expected)


@compiled
@native_ways
def test_settings_of_a_wrong_type_are_refused(path):
    x = batch(9, 10)[0]
    for wrong in ({"loss_scale": "a"}, {"label_smoothing": "x"}, {"ignore_index": 1.5}):
        with forced(path), pytest.raises((TypeError, RuntimeError)):
            ce_call(x, **wrong)
    with forced(path):
        assert torch.equal(ce_call(x, loss_scale=2, label_smoothing=0), ce_call(x, loss_scale=2.0, label_smoothing=0.0))
