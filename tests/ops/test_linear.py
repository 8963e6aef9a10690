"""Logits that never exist whole: what the operator gives on them whole, in double precision, and no more memory or work."""

from __future__ import annotations

import math
import re

import pytest
import torch
from accuracy import compiled, forced
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from loreun_bench.ops import loreun_cross_entropy, loreun_linear_cross_entropy

ROWS, CLASSES, WIDTH = 13, 21, 7
DOUBLE, BASE = torch.float64, {"eta": 0.4, "direction": "forget"}
backends = pytest.mark.parametrize("path", [pytest.param("native", marks=compiled), "reference"])


def tensors(dtype=DOUBLE, rows=ROWS, classes=CLASSES, width=WIDTH, seed=0):
    """hidden, weight, bias, target, score target."""
    g = torch.Generator().manual_seed(seed)
    shapes = (rows, width), (classes, width), (classes,)
    leaves = (torch.randn(shape, generator=g, dtype=DOUBLE).to(dtype).requires_grad_() for shape in shapes)
    return *leaves, torch.randint(classes, (rows,), generator=g), torch.randint(classes, (rows,), generator=g)


def per_row(low):
    return torch.linspace(low, 2.0, ROWS, dtype=DOUBLE)


def whole(hidden, weight, target, score_target=None, *, bias=None, chunk_size=None, **options):
    """The operator on all logits, in plain PyTorch."""
    with forced("reference"):
        return loreun_cross_entropy(F.linear(hidden, weight, bias), target, score_target, **(BASE | options))


def parts(hidden, weight, *labels, **options):
    return loreun_linear_cross_entropy(hidden, weight, *labels, **(BASE | options))


def found(function, inputs, *labels, bias=True, factor=1.0, **options):
    """The loss, and the gradients of factor · loss."""
    hidden, weight, given = inputs
    loss = function(hidden, weight, *labels, bias=given if bias else None, **options)
    return loss.detach(), *torch.autograd.grad(factor * loss, [x for x in inputs[: 2 + bias] if x.requires_grad])


OPTIONS = {
    "plain": {},
    "retain": {"direction": "retain"},
    "smoothing": {"label_smoothing": 0.2},
    "ratio": {"distance": "ratio", "ref_loss": per_row(0.5)},
    "ratio of a number": {"distance": "ratio", "ref_loss": 1.7, "direction": "retain"},
    "difference": {"ref_loss": per_row(-1)},
    "given scores": {"score_loss": per_row(-1)},
    "scaled": {"loss_scale": 2.5},
    "another label to ignore": {"ignore_index": 3},
}


@backends
@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("two_labels", [False, True])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_loss_and_three_gradients_are_those_of_the_whole_logits(options, two_labels, detach, path):
    if two_labels and "score_loss" in options:
        pytest.skip("one or the other")
    *inputs, target, score = tensors()
    target[::4] = options.get("ignore_index", -100)
    labels = (target, score) if two_labels else (target,)
    for factor in (1.0, -1.5):
        wanted = found(whole, inputs, *labels, factor=factor, detach_weights=detach, **options)
        with forced(path):
            got = found(parts, inputs, *labels, factor=factor, detach_weights=detach, chunk_size=50, **options)
        torch.testing.assert_close(got, wanted, rtol=1e-11, atol=1e-13)
        assert all(float(each.abs().max()) > 1e-3 for each in got)


@backends
@pytest.mark.parametrize("chunk_size", [1, 14, 40, 64, 100, 273, 10**6, None])
def test_any_chunk_size_gives_the_same(chunk_size, path):
    *inputs, target, score = tensors()
    with forced(path):
        got = found(parts, inputs, target, score, chunk_size=chunk_size)
    torch.testing.assert_close(got, found(whole, inputs, target, score), rtol=1e-11, atol=1e-13)


@backends
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 2e-6), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)])
def test_shorter_types_round_and_no_more(dtype, limit, path):
    """16 bits: the logits are rounded, their gradient is, and the sums over classes for hidden."""
    *inputs, target, score = tensors(dtype, rows=40, classes=300, width=32)
    scaled = [(x * 0.3).detach().requires_grad_() for x in inputs]
    with forced(path):
        got = found(parts, scaled, target, score, chunk_size=1000)
    wanted = found(whole, [x.detach().double().requires_grad_() for x in scaled], target, score)
    assert got[0].dtype == torch.float32
    assert [x.dtype for x in got[1:]] == [dtype] * 3
    for a, b in zip(got, wanted, strict=True):
        assert float((a.double() - b).norm()) < limit * float(b.norm())


@backends
def test_the_gradient_of_an_almost_certain_row_keeps_its_digits_in_16_bits(path):
    """p - 1 is formed before it is rounded."""
    hidden = torch.tensor([[8.0], [1.0]], dtype=torch.bfloat16, requires_grad=True)
    weight = torch.tensor([[0.0], [0.0], [1.0], [0.0]], dtype=torch.bfloat16)
    with forced(path):
        loss = parts(hidden, weight, torch.tensor([2, 1]), eta=0.0, chunk_size=4)
        (grad,) = torch.autograd.grad(loss, hidden)
    p = torch.softmax(torch.tensor([0.0, 0.0, 8.0, 0.0], dtype=DOUBLE), 0)[2]
    assert grad[0].item() == pytest.approx(0.5 * (p - 1).item(), rel=2**-7)


@backends
def test_many_chunks_round_no_more_often_than_one(path):
    *inputs, target, _ = tensors(torch.bfloat16, rows=8, classes=2000, width=16)
    (exact,) = found(whole, [x.detach().double().requires_grad_(x is inputs[0]) for x in inputs], target)[1:]
    hidden = inputs[0], *(x.detach() for x in inputs[1:])
    with forced(path):
        errors = [float((found(parts, hidden, target, chunk_size=n)[1] - exact).norm()) for n in (16, 16000)]
    assert errors[0] < 1.2 * errors[1]


@backends
def test_large_logits_lose_nothing_to_their_largest(path):
    *inputs, target, score = tensors(torch.float32)
    large = [inputs[0], inputs[1], (inputs[2].detach() + 2.0**14).requires_grad_()]
    with forced(path):
        got = found(parts, large, target, score, chunk_size=50)
    logits = F.linear(*large).detach().double().requires_grad_()
    (grad,) = torch.autograd.grad(loreun_cross_entropy(logits, target, score, **BASE), logits)
    torch.testing.assert_close(got[2], (grad.T @ large[0].double()).float(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("given", [False, True])
def test_gradients_agree_with_finite_differences(label_smoothing, given):
    """Where the weights are differentiable; of given scores and of the reference, too."""
    *inputs, target, score = tensors(rows=5, classes=4, width=3)
    reference = torch.linspace(0.5, 1, 5, dtype=DOUBLE, requires_grad=True)
    scores = torch.linspace(1, 2, 5, dtype=DOUBLE, requires_grad=True)

    def loss(hidden, weight, bias, reference, scores):
        scoring = {"score_loss": scores} if given else {"score_target": score}
        options = {"distance": "ratio", "ref_loss": reference, "label_smoothing": label_smoothing, **scoring}
        return parts(hidden, weight, target, bias=bias, detach_weights=False, chunk_size=7, **options)

    assert torch.autograd.gradcheck(loss, (*inputs, reference, scores))


@backends
def test_ignored_rows_have_no_part_whatever_is_in_them(path):
    hidden, weight, bias, target, _ = tensors()
    target[::3] = -100
    kept = target != -100
    with torch.no_grad():
        hidden[~kept] = math.nan
    with forced(path):
        loss, stats = parts(hidden, weight, target, bias=bias, return_stats=True, chunk_size=50)
        (grad,) = torch.autograd.grad(loss, hidden)
    assert loss.item() == pytest.approx(whole(hidden[kept], weight, target[kept], bias=bias).item(), rel=1e-12)
    assert (grad[~kept] == 0).all()
    assert (grad[kept] != 0).all()
    assert (stats.weights[~kept] == 0).all()


@backends
def test_rows_may_have_two_dimensions(path):
    hidden, weight, bias, target, score = tensors(rows=12)
    reference = per_row(0.5)[:12]
    options = {"bias": bias, "distance": "ratio", "return_stats": True}
    with forced(path):
        flat, flat_stats = parts(hidden, weight, target, score, ref_loss=reference, **options)
        deep = hidden.detach().view(3, 4, WIDTH).requires_grad_()
        labels = target.view(3, 4), score.view(3, 4)
        loss, stats = parts(deep, weight, *labels, ref_loss=reference.view(3, 4), **options)
        (grad,) = torch.autograd.grad(loss, deep)
    assert loss.item() == flat.item()
    torch.testing.assert_close(grad.flatten(0, 1), torch.autograd.grad(flat, hidden)[0], rtol=1e-12, atol=1e-14)
    assert stats.objective.shape == stats.score.shape == stats.weights.shape == (3, 4)
    for a, b in zip(stats, flat_stats, strict=True):
        torch.testing.assert_close(a.reshape(b.shape), b, rtol=1e-12, atol=0)


@backends
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"score_loss": per_row(1)}], ids=str)
def test_the_stats_are_those_of_the_whole_logits(options, path):
    hidden, weight, bias, target, _ = tensors()
    target[2] = -100
    with forced(path):
        _, got = parts(hidden, weight, target, bias=bias, return_stats=True, chunk_size=50, **options)
    _, wanted = whole(hidden, weight, target, bias=bias, return_stats=True, **options)
    torch.testing.assert_close(tuple(got), tuple(wanted), rtol=1e-12, atol=1e-14)
    assert not any(each.requires_grad for each in got)


@backends
def test_no_rows_and_one_row(path):
    for rows in (0, 1):
        *inputs, target, score = tensors(rows=rows)
        with forced(path):
            got = found(parts, inputs, target, score)
        torch.testing.assert_close(got, found(whole, inputs, target, score), rtol=1e-12, atol=1e-14, equal_nan=True)
        assert math.isnan(got[0]) == (rows == 0)


@backends
def test_masked_classes_stay_masked_and_nan_is_told(path):
    *inputs, target, _ = tensors()
    target.clamp_(max=17)
    with torch.no_grad():
        inputs[2][18:] = -math.inf
    with forced(path):
        loss, _, grad, _ = found(parts, inputs, target, chunk_size=50)
        assert torch.isfinite(loss)
        assert (grad[18:] == 0).all()
        with torch.no_grad():
            inputs[0][3, 2] = math.nan
        loss, grad, *_ = found(parts, inputs, target, chunk_size=50)
    assert math.isnan(loss)
    assert torch.isnan(grad).all()


# ---- no more work and memory than needed


class Seen(TorchDispatchMode):
    """Which operators ran, how many products, and the size of the largest tensor that one of them made."""

    def __init__(self):
        super().__init__()
        self.names, self.products, self.largest = [], 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.names.append(function.name())
        self.products += "mm" in function.name()
        sizes = [x.untyped_storage().nbytes() // x.element_size() for x in tree_leaves(result) if isinstance(x, Tensor)]
        self.largest = max(self.largest, *sizes, 0) if sizes else self.largest
        return result


@backends
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"detach_weights": False}], ids=str)
def test_the_logits_never_exist_whole(options, dtype, path):
    hidden, weight, _, target, score = tensors(dtype, rows=128, classes=500, width=8)
    with forced(path), Seen() as seen:
        parts(hidden, weight, target, score, chunk_size=5000, **options).backward()
    assert seen.largest <= 5000
    with forced(path), Seen() as seen:
        whole(hidden, weight, target, score, **options).backward()
    assert seen.largest >= 64000


def test_chunks_share_their_memory():
    hidden, weight, _, target, _ = tensors(torch.float32, rows=128, classes=500, width=8)
    made = []
    for chunk_size in (2000, 5000):
        with Seen() as seen:
            parts(hidden, weight, target, chunk_size=chunk_size).backward()
        made.append(sum("new_empty" in name for name in seen.names))
    assert made[0] == made[1]


def test_without_a_chunk_size_there_is_a_limit():
    hidden, weight, _, target, _ = tensors(torch.float32, rows=300, classes=20000, width=2)
    with Seen() as seen:
        parts(hidden, weight, target).backward()
    assert seen.largest <= 1 << 22


@backends
def test_a_gradient_that_nobody_wants_costs_no_product(path):
    hidden, weight, bias, target, _ = tensors()
    wanted = found(whole, (hidden, weight, bias), target)[1:]
    for needs in [(True, True, True), (True, False, False), (False, True, False), (False, False, True)]:
        inputs = [x.detach().requires_grad_(need) for x, need in zip((hidden, weight, bias), needs, strict=True)]
        with forced(path), Seen() as forward:
            loss = parts(*inputs[:2], target, bias=inputs[2])
        with forced(path), Seen() as backward:
            loss.backward()
        assert (forward.products, backward.products) == (1, 1 + needs[0] + needs[1])
        for x, need, grad in zip(inputs, needs, wanted, strict=True):
            torch.testing.assert_close(x.grad, grad if need else None, rtol=1e-11, atol=1e-13)
    frozen = [x.detach() for x in (hidden, weight)]
    assert not parts(*frozen, target).requires_grad
    with torch.no_grad():
        assert not parts(hidden, weight, target).requires_grad


@compiled
@pytest.mark.parametrize(
    ("options", "factor", "serves"),
    [({}, 1, True), ({}, -1, True), ({"label_smoothing": 0.1}, 1, False), ({"eta": 5.0, "detach_weights": False}, 1, True)],
    ids=["plain", "ascent", "smoothing", "coefficients of both signs"],
)
def test_where_the_compiled_operator_writes_the_gradient(options, factor, serves):
    *inputs, target, _ = tensors()
    with Seen() as seen:
        found(parts, inputs, target, factor=factor, **options)
    assert ("loreun::ce_backward_" in seen.names) == serves
    assert "loreun::ce_forward" in seen.names


# ---- autograd and autocast


@backends
def test_a_kept_graph_gives_the_same_twice_and_there_is_no_second_derivative(path):
    hidden, weight, _, target, _ = tensors()
    with forced(path):
        loss = parts(hidden, weight, target, chunk_size=50)
        first = torch.autograd.grad(loss, hidden, retain_graph=True)
        again = torch.autograd.grad(loss, hidden, retain_graph=True)
        torch.testing.assert_close(first, again, rtol=1e-12, atol=1e-14)
        with pytest.raises(RuntimeError, match="loreun_linear_cross_entropy has no second derivative"):
            torch.autograd.grad(loss, hidden, create_graph=True)


def test_a_weight_that_changed_before_the_backward_pass_is_noticed():
    hidden, weight, _, target, _ = tensors()
    loss = parts(hidden, weight, target)
    with torch.no_grad():
        weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace"):
        loss.backward()


@backends
def test_autocast_makes_the_logits_in_16_bits(path):
    *inputs, target, score = tensors(torch.float32)
    short = [x.detach().bfloat16().requires_grad_() for x in inputs]
    with forced(path):
        wanted = found(parts, short, target, score)
        with torch.autocast("cpu", torch.bfloat16):
            loss = parts(*inputs[:2], target, score, bias=inputs[2])
            short_hidden = parts(short[0], inputs[1], target, score, bias=inputs[2])
        got = (loss.detach(), *torch.autograd.grad(loss, inputs))
    assert loss.item() == short_hidden.item()
    assert [x.dtype for x in got] == [torch.float32] * 4
    torch.testing.assert_close(got, tuple(x.float() for x in wanted), rtol=0, atol=0)


@pytest.mark.parametrize("path", [pytest.param("native", marks=compiled), pytest.param("reference", marks=pytest.mark.slow)])
def test_one_compiled_graph_gives_what_eager_gives(path):
    *inputs, target, score = tensors()
    torch._dynamo.reset()

    def scaled(hidden, weight, *labels, **options):
        return parts(hidden * 2, weight, *labels, chunk_size=50, **options)

    with forced(path):
        got = found(torch.compile(scaled, fullgraph=True, backend="aot_eager"), inputs, target, score)
    torch.testing.assert_close(got, found(scaled, inputs, target, score), rtol=1e-11, atol=1e-13)


@backends
def test_layouts_do_not_matter(path):
    hidden, weight, bias, target, score = tensors()
    inputs = [hidden.detach().T.contiguous().T, weight.detach().repeat(1, 2)[:, :WIDTH], bias.detach().expand(2, -1).T[:, 0]]
    with forced(path):
        got = found(parts, [x.requires_grad_() for x in inputs], target.repeat(2)[:ROWS], score, chunk_size=50)
    torch.testing.assert_close(got, found(whole, (hidden, weight, bias), target, score), rtol=1e-11, atol=1e-13)


# ---- refused calls

HIDDEN, WEIGHT, BIAS, TARGET, SCORE = (x.detach() for x in tensors(torch.float32))
LABEL = TARGET.clone()
LABEL[3] = CLASSES
WRONG = [
    ({"hidden": HIDDEN[0]}, ValueError, "hidden must be floating [N, H] or [B, T, H], got torch.float32 (7,)"),
    ({"hidden": HIDDEN.long()}, ValueError, "hidden must be floating [N, H] or [B, T, H], got torch.int64 (13, 7)"),
    ({"hidden": HIDDEN.to("meta")}, ValueError, "weight is on cpu, expected meta"),
    ({"hidden": HIDDEN.double()}, ValueError, "weight is torch.float32, expected torch.float64 as hidden"),
    ({"weight": WEIGHT.T}, ValueError, "weight must be [V, 7] with V > 0, got (7, 21)"),
    ({"weight": WEIGHT[:0]}, ValueError, "weight must be [V, 7] with V > 0, got (0, 7)"),
    ({"bias": BIAS[1:]}, ValueError, "bias must be [21], got (20,)"),
    ({"bias": BIAS.double()}, ValueError, "bias is torch.float64, expected torch.float32 as hidden"),
    ({"target": TARGET[1:]}, ValueError, "target must be [13], got (12,)"),
    ({"target": TARGET.float()}, ValueError, "target must be int64 [13], or probabilities [13, 21], got"),
    ({"target": LABEL}, IndexError, "target[3] = 21 is out of range for 21 classes"),
    ({"score_target": LABEL}, IndexError, "score_target[3] = 21 is out of range for 21 classes"),
    ({"score_target": SCORE[:, None]}, ValueError, "score_target must be [13], got (13, 1)"),
    ({"score_loss": BIAS}, ValueError, "score_loss must be floating [13], got torch.float32 (21,)"),
    ({"score_loss": SCORE.float(), "score_target": SCORE}, ValueError, "give score_target or score_loss, not both"),
    ({"ref_loss": BIAS}, ValueError, "ref_loss must be a number or [13], got (21,)"),
    ({"distance": "ratio"}, ValueError, "ref_loss must be positive in ratio form"),
    ({"eta": math.nan}, ValueError, "eta must be a finite number, got nan"),
    ({"direction": "up"}, ValueError, "direction must be 'forget' or 'retain', got 'up'"),
    ({"label_smoothing": 2.0}, ValueError, "label_smoothing must be in [0, 1], got 2.0"),
    ({"chunk_size": 0}, ValueError, "chunk_size must be a positive whole number, got 0"),
    ({"chunk_size": 2.5}, ValueError, "chunk_size must be a positive whole number, got 2.5"),
]  # fmt: skip


@backends
@pytest.mark.parametrize(("change", "error", "says"), WRONG, ids=[f"{i} {next(iter(w[0]))}" for i, w in enumerate(WRONG)])
def test_wrong_arguments_are_named(change, error, says, path):
    arguments = {"hidden": HIDDEN, "weight": WEIGHT, "target": TARGET, "bias": BIAS, **BASE}
    with forced(path), pytest.raises(error, match=re.escape(says)):
        loreun_linear_cross_entropy(**(arguments | change))


@backends
def test_sequences_and_rules_of_the_middle(path):
    """[B, T, H], a sequence of tokens per batch row; what is between the passes is that of the whole logits."""
    hidden, weight, bias, _, _ = tensors(rows=12)
    generator = torch.Generator().manual_seed(5)
    target, score = (torch.randint(len(weight), (3, 4), generator=generator) for _ in range(2))
    target[0, 1] = score[0, 1] = -100
    ids = torch.arange(3)[:, None].expand(3, 4)
    cube = hidden.detach().reshape(3, 4, -1)
    for options in (
        {"weights": "logistic", "eta": 0.3, "direction": "forget", "ref_loss": per_row(1)[:3].to(weight.dtype)},
        {"weights": lambda loss: 1 / (1 + loss), "normalize": "mean"},
        {"eta": 0.3, "direction": "retain", "detach_weights": False, "segment_reduction": "sum"},
    ):
        got, wanted = [], []
        for into, make in ((got, "parts"), (wanted, "whole")):
            x, w, b = (t.detach().clone().requires_grad_() for t in (cube, weight, bias))
            with forced(path):
                if make == "parts":
                    loss, stats = loreun_linear_cross_entropy(
                        x, w, target, score, bias=b, segment_ids=ids, chunk_size=40, return_stats=True, **options
                    )
                else:
                    loss, stats = loreun_cross_entropy(
                        x @ w.T + b, target, score, segment_ids=ids, class_dim=-1, return_stats=True, **options
                    )
            into += [loss, stats.weights, *torch.autograd.grad(loss, (x, w, b))]
        torch.testing.assert_close(got, wanted, rtol=1e-11, atol=1e-13)
    assert stats.weights.shape == (3,)
