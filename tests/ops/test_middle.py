"""What is between the operator's passes: rules, functions, normalisation, segments, classes, and losses that stand alone."""

from __future__ import annotations

import warnings

import pytest
import torch
from accuracy import compiled, forced
from torch import Tensor
from torch.nn import functional as F

from loreun_bench.ops import (
    Accumulation,
    calls,
    loreun_cross_entropy,
    loreun_losses,
    loreun_mse_loss,
    loreun_square_losses,
    loreun_weights,
)

DOUBLE = torch.float64
NATIVE = [pytest.param(path, marks=compiled) for path in ("eager", "python")]
paths = pytest.mark.parametrize("path", [*NATIVE, "reference"])
SIGN = {"forget": -1.0, "retain": 1.0}


def batch(n=12, c=7, seed=0, dtype=DOUBLE):
    g = torch.Generator().manual_seed(seed)
    logits = (2 * torch.randn(n, c, generator=g, dtype=DOUBLE)).to(dtype)
    return logits.requires_grad_(), torch.randint(c, (n,), generator=g), torch.randint(c, (n,), generator=g)


def written_out(rule: str, eta: float, score: Tensor, d: Tensor, importance: float) -> Tensor:
    """The papers' weights; eta is signed."""
    p = torch.exp(-score)
    return {
        "exp": lambda: torch.exp(eta * d),
        "power": lambda: d**eta,
        "probability": lambda: p**-eta,
        "satimp": lambda: p**-eta * (1 - p) ** importance,
        "logistic": lambda: 2 * torch.sigmoid(eta * d),
    }[rule]()


def divided(raw: Tensor, normalize: str) -> Tensor:
    return raw / {"batch": raw.sum(), "mean": torch.tensor(float(len(raw))), "none": torch.tensor(1.0)}[normalize]


def close(found: Tensor, wanted: Tensor, **tolerance) -> None:
    torch.testing.assert_close(found, wanted, **({"rtol": 1e-10, "atol": 1e-13} | tolerance))


def gradient(loss: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(loss, x, torch.full_like(loss, 0.7), retain_graph=True)[0]


RULES = [("exp", "ratio"), ("exp", None), ("power", "ratio"), ("power", None), ("probability", None), ("satimp", None)]
RULES += [("logistic", "ratio"), ("logistic", "difference")]


@paths
@pytest.mark.parametrize("detach", [True, False], ids=["detached", "undetached"])
@pytest.mark.parametrize("normalize", ["batch", "mean", "none"])
@pytest.mark.parametrize(("rule", "form"), RULES)
@pytest.mark.parametrize("direction", SIGN)
def test_every_rule_is_its_papers(rule, form, direction, normalize, detach, path):
    x, target, clean = batch()
    ref = torch.rand(12, dtype=DOUBLE) + 0.5
    given = {} if form is None else {"ref_loss": ref, "distance": form}
    objective, score = (F.cross_entropy(x, label, reduction="none") for label in (target, clean))
    seen = score.detach() if detach else score
    d = {None: seen, "ratio": seen / ref, "difference": seen - ref}[form]
    weights = divided(written_out(rule, 0.3 * SIGN[direction], seen, d, 1.5), normalize)
    wanted = (weights * objective).sum()
    options = {"weights": rule, "normalize": normalize, "importance": 1.5, "direction": direction, **given}
    with forced(path):
        loss = loreun_cross_entropy(x, target, clean, eta=0.3, detach_weights=detach, **options)
        _, stats = loreun_cross_entropy(x, target, clean, eta=0.3, detach_weights=detach, return_stats=True, **options)
        close(loss, wanted)
        close(gradient(loss, x), gradient(wanted, x))
        close(stats.weights, weights.detach())
        close(stats.effective_samples, weights.detach().sum() ** 2 / weights.detach().square().sum())
    close(loreun_weights(score, eta=0.3, **options), weights if not detach else weights.detach())


@paths
@pytest.mark.parametrize("detach", [True, False], ids=["detached", "undetached"])
@pytest.mark.parametrize("normalize", ["batch", "mean", "none"])
@pytest.mark.parametrize("rule", ["exp", "power", "satimp", "logistic", "function"])
@pytest.mark.parametrize("two", [True, False], ids=["two targets", "one target"])
def test_squared_errors_too(rule, normalize, detach, path, two):
    g = torch.Generator().manual_seed(1)
    x, target, other = (torch.randn(6, 3, 5, generator=g, dtype=DOUBLE) for _ in range(3))
    x.requires_grad_()
    ref = torch.rand(6, dtype=DOUBLE) + 0.5
    objective = (x - target).square().mean((1, 2))
    score = (x - other).square().mean((1, 2)) if two else objective
    seen = score.detach() if detach else score
    function = lambda loss: 1 / (1 + loss)  # noqa: E731
    if rule == "function":
        weights, options = divided(function(seen), normalize), {"weights": function}
    else:
        referred = rule != "satimp"
        weights = divided(written_out(rule, -0.4, seen, seen / ref if referred else seen, 1.0), normalize)
        options = {"weights": rule, "eta": 0.4, "direction": "forget", "ref_loss": ref if referred else None}
    wanted = (weights * objective).sum()
    with forced(path):
        loss = loreun_mse_loss(x, target, other if two else None, normalize=normalize, detach_weights=detach, **options)
        close(loss, wanted)
        close(gradient(loss, x), gradient(wanted, x))


@paths
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, DOUBLE])
@pytest.mark.parametrize("classes", [7, 100, 3000])
@pytest.mark.parametrize("detach", [True, False], ids=["detached", "undetached"])
def test_a_function_of_the_scores(dtype, classes, detach, path):
    x, target, clean = batch(20, classes, dtype=dtype)
    target[::5] = -100
    seen = []

    def rule(score: Tensor) -> Tensor:
        seen.append(score)
        return torch.sigmoid(1 - score)

    wide = x.detach().to(DOUBLE).requires_grad_()
    objective, score = (F.cross_entropy(wide, label, reduction="none") for label in (target, clean))
    weights = torch.sigmoid(1 - score.detach() if detach else 1 - score).where(target != -100, 0.0)
    wanted = (weights * objective).sum() / weights.sum() * 0.5
    with forced(path):
        loss, stats = loreun_cross_entropy(
            x, target, clean, weights=rule, detach_weights=detach, loss_scale=0.5, return_stats=True
        )
    rtol = 1e-12 if dtype is DOUBLE else 1e-5
    close(loss.to(DOUBLE), wanted, rtol=rtol)
    size = float(gradient(wanted, wide).abs().max())
    rounding = {torch.bfloat16: 2**-7, torch.float16: 2**-10}.get(dtype, rtol)  # a ready one is scaled: rounded twice
    smallest = 1e-7 if dtype == torch.float16 else 0.0
    close(gradient(loss, x).to(DOUBLE), gradient(wanted, wide), rtol=rounding, atol=size * rtol + smallest)
    close(stats.weights.to(DOUBLE), (weights / weights.sum()).detach(), rtol=rtol, atol=1e-12)
    assert seen
    assert not (detach and any(each.requires_grad for each in seen))


@paths
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("rule", ["exp", "logistic"])
def test_one_reference_and_classes_that_weigh_in_a_mean(rule, dtype, path):
    """One number cancels in a softmax alone; a mean divides by what the rows' classes weigh."""
    x, target, clean = batch(dtype=dtype)
    of_class = torch.linspace(0.5, 2, 7, dtype=dtype)
    score = F.cross_entropy(x, clean, reduction="none").detach()
    raw = written_out(rule, -0.3, score, score - 0.6, 1.0)
    losses = F.cross_entropy(x, target, reduction="none", weight=of_class)
    tolerance = {"rtol": 1e-5 if dtype is torch.float32 else 1e-12, "atol": 0.0}
    options = {"weights": rule, "eta": 0.3, "direction": "forget", "ref_loss": 0.6, "weight": of_class}
    with forced(path):
        for normalize, divisor in (("none", 1.0), ("mean", of_class[target].sum())):
            found = loreun_cross_entropy(x, target, clean, normalize=normalize, **options)
            close(found, (raw * losses).sum() / divisor, **tolerance)


@paths
def test_weights_may_be_given(path):
    x, target, _ = batch()
    given = torch.rand(12)
    with forced(path):
        loss = loreun_cross_entropy(x, target, weights=given, normalize="none")
        learnt = given.double().requires_grad_()
        other = loreun_cross_entropy(x, target, weights=learnt, normalize="none", detach_weights=False)
    losses = F.cross_entropy(x, target, reduction="none")
    close(loss, (given * losses).sum())
    close(torch.autograd.grad(other, learnt)[0], losses.detach())


@paths
@pytest.mark.parametrize("kind", ["float", "int", "numpy", "tensor", "float32 tensor", "fraction"])
def test_eta_is_a_number_of_any_kind(kind, path):
    import fractions

    import numpy as np

    x, target, clean = batch()
    value = 2.0 if kind == "int" else 0.5
    eta = {
        "float": value, "int": 2, "numpy": np.float32(value), "tensor": torch.tensor(value, dtype=DOUBLE),
        "float32 tensor": torch.tensor(value), "fraction": fractions.Fraction(1, 2),
    }[kind]  # fmt: skip
    wanted = loreun_cross_entropy(x, target, clean, eta=value, direction="retain")
    with forced(path):
        for detach in (True, False):
            found = loreun_cross_entropy(x, target, clean, eta=eta, direction="retain", detach_weights=detach)
            close(found, wanted)
        square = loreun_mse_loss(x, x.detach() + 1, eta=eta, direction="forget", ref_loss=1.0)
    close(square, loreun_mse_loss(x, x.detach() + 1, eta=value, direction="forget", ref_loss=1.0))


# ---- what cross_entropy users expect


@paths
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("probable", [False, True], ids=["labels", "probabilities"])
@pytest.mark.parametrize("weighted", [False, True], ids=["", "classes weigh"])
def test_eta_zero_is_torchs_cross_entropy(smoothing, probable, weighted, path):
    x, target, _ = batch()
    of_class = torch.rand(7, dtype=DOUBLE) if weighted else None
    if weighted:
        of_class[2] = 0
    if probable:
        target = torch.softmax(torch.randn(12, 7, dtype=DOUBLE), 1)
    else:
        target[::4] = -100
    options = {"weight": of_class, "label_smoothing": smoothing}
    with forced(path):
        for normalize, reduction in (("batch", "mean"), ("mean", "mean"), ("none", "sum")):
            wanted = F.cross_entropy(x, target, reduction=reduction, **options)
            loss = loreun_cross_entropy(x, target, eta=0.0, direction="forget", normalize=normalize, **options)
            close(loss, wanted)
            close(gradient(loss, x), gradient(wanted, x))
        losses, weights = loreun_cross_entropy(x, target, eta=0.3, direction="forget", reduction="none", **options)
        close(losses, F.cross_entropy(x, target, reduction="none", **options))
        loss, stats = loreun_cross_entropy(x, target, eta=0.3, direction="forget", return_stats=True, **options)
        close((losses * weights).sum(), loss)
        close(stats.weights, weights)
        close(stats.objective, losses)


@paths
def test_class_weights_weigh_rows(path):
    """Of two rows alike but for their class, one counts as often as its class weighs."""
    x, target, clean = batch()
    of_class = torch.tensor([1.0, 2.0, 1.0, 1.0, 3.0, 1.0, 1.0], dtype=DOUBLE)
    often = torch.repeat_interleave(torch.arange(12), of_class[target].long())
    with forced(path):
        for normalize in ("batch", "mean", "none"):
            options = {"eta": 0.4, "direction": "retain", "normalize": normalize}
            loss = loreun_cross_entropy(x, target, clean, weight=of_class, **options)
            close(loss, loreun_cross_entropy(x[often], target[often], clean[often], **options))
            close(gradient(loss, x), gradient(loreun_cross_entropy(x[often], target[often], clean[often], **options), x))


@paths
@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.uint8])
def test_labels_of_any_integer_type(dtype, path):
    x, target, clean = batch()
    with forced(path):
        found = loreun_cross_entropy(x, target.to(dtype), clean.to(dtype), eta=0.3, direction="forget")
    close(found, loreun_cross_entropy(x, target, clean, eta=0.3, direction="forget"))


@paths
@pytest.mark.parametrize("last", [True, False], ids=["[B, T, V]", "[N, C, L]"])
@pytest.mark.parametrize("detach", [True, False])
def test_three_dimensions_are_as_many_rows(last, detach, path):
    x, target, clean = batch(12, 7)
    shape = (3, 4)
    cube = x.detach().reshape(3, 4, 7)
    cube = (cube if last else cube.movedim(-1, 1).contiguous()).requires_grad_()
    options = {"eta": 0.3, "direction": "forget", "detach_weights": detach}
    ref = torch.rand(12, dtype=DOUBLE)
    with forced(path):
        loss, stats = loreun_cross_entropy(
            cube, target.view(shape), clean.view(shape), ref_loss=ref.view(shape), return_stats=True, **options
        )
        wanted = loreun_cross_entropy(x, target, clean, ref_loss=ref, **options)
        close(loss, wanted)
        flat = gradient(loss, cube) if last else gradient(loss, cube).movedim(1, -1)
        close(flat.reshape(12, 7), gradient(wanted, x))
        assert stats.weights.shape == shape
        losses, weights = loreun_cross_entropy(cube, target.view(shape), reduction="none", **options)
        assert losses.shape == weights.shape == shape


def test_a_shape_that_can_be_read_in_two_ways_is_asked_about():
    x, target = torch.randn(3, 5, 5), torch.randint(5, (3, 5))
    with pytest.raises(ValueError, match="class_dim"):
        loreun_cross_entropy(x, target, eta=0.1, direction="forget")
    for dim in (1, -1):
        found = loreun_cross_entropy(x, target, eta=0.0, direction="forget", class_dim=dim)
        torch.testing.assert_close(found, F.cross_entropy(x if dim == 1 else x.movedim(-1, 1), target))


@paths
@pytest.mark.parametrize("classes", [7, 300])
def test_padding_in_both_labels_is_left_out(classes, path):
    x, target, clean = batch(12, classes)
    pad = torch.arange(12) % 3 == 1
    options = {"eta": 0.3, "direction": "forget", "detach_weights": False}
    with forced(path):
        loss = loreun_cross_entropy(x, target.where(~pad, -100), clean.where(~pad, -100), **options)
        wanted = loreun_cross_entropy(x[~pad], target[~pad], clean[~pad], **options)
        close(loss, wanted)
        close(gradient(loss, x), gradient(wanted, x))


# ---- segments


@paths
@pytest.mark.parametrize("mean", [True, False], ids=["mean", "sum"])
@pytest.mark.parametrize("detach", [True, False], ids=["detached", "undetached"])
@pytest.mark.parametrize("rule", ["exp", "logistic", "function"])
def test_segments_are_a_loop_over_sequences(mean, detach, rule, path):
    x, target, clean = batch(14, 7)
    ids = torch.tensor([0, 0, 0, 1, 2, 2, 2, 2, 3, 3, 4, 4, 4, 4])
    target, clean = target.clone(), clean.clone()
    target[[1, 5]], clean[5] = -100, -100
    target[8:10] = -100  # a sequence that is all padding
    of_class = torch.rand(7, dtype=DOUBLE) + 0.5
    ref = torch.rand(5, dtype=DOUBLE)
    if rule == "function":
        options = {"weights": lambda score: 1 / (1 + score)}
    else:
        options = {"weights": rule, "eta": 0.3, "direction": "forget", "ref_loss": ref}

    def loop() -> Tensor:
        objectives, scores = [], []
        for s in (0, 1, 2, 4):
            rows = (ids == s) & (target != -100)
            own = of_class[target[rows]]
            of = F.cross_entropy(x[rows], target[rows], reduction="none") * own
            by = F.cross_entropy(x[rows], clean[rows], reduction="none")
            objectives.append(of.sum() / own.sum() if mean else of.sum())
            scores.append(by.mean() if mean else by.sum())
        objective, score = torch.stack(objectives), torch.stack(scores)
        seen = score.detach() if detach else score
        r = ref[[0, 1, 2, 4]]
        raw = 1 / (1 + seen) if rule == "function" else written_out(rule, -0.3, seen, seen - r, 1.0)
        return (raw / raw.sum() * objective).sum()

    with forced(path):
        loss, stats = loreun_cross_entropy(
            x, target, clean, segment_ids=ids, segment_reduction="mean" if mean else "sum", weight=of_class,
            detach_weights=detach, return_stats=True, **options,
        )  # fmt: skip
        close(loss, loop())
        close(gradient(loss, x), gradient(loop(), x))
    assert stats.weights.shape == (5,)
    assert stats.weights[3] == 0


def test_segments_of_language_models():
    """[B, T, V], a sequence per batch row, NPO against a reference model."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(3, 5, 11, generator=g, dtype=DOUBLE, requires_grad=True)
    target = torch.randint(11, (3, 5), generator=g)
    ref = torch.rand(3, generator=g, dtype=DOUBLE) * 10
    ids = torch.arange(3)[:, None].expand(3, 5)
    loss = loreun_cross_entropy(
        x, target, segment_ids=ids, segment_reduction="sum", weights="logistic", normalize="mean", eta=0.1,
        direction="forget", ref_loss=ref,
    )  # fmt: skip
    nll = F.cross_entropy(x.movedim(-1, 1), target, reduction="none").sum(1)
    npo = -2 / 0.1 * F.logsigmoid(0.1 * (nll - ref)).mean()  # its gradient is that of -loss
    close(-gradient(loss, x), gradient(npo, x))


# ---- passes that stand alone


@paths
@pytest.mark.parametrize("classes", [7, 100])
def test_losses_are_differentiable_on_their_own(classes, path):
    x, target, clean = batch(9, classes)
    target[2] = -100
    coefficient = torch.linspace(-1, 2, 9, dtype=DOUBLE)
    wanted_objective = F.cross_entropy(x, target, reduction="none", label_smoothing=0.1)
    wanted_score = F.cross_entropy(x, clean, reduction="none").where(target != -100, 0.0)
    with forced(path):
        losses = loreun_losses(x, target, clean, label_smoothing=0.1)
        close(losses.objective, wanted_objective)
        close(losses.score.where(losses.kept, 0.0), wanted_score)
        assert losses.kept.tolist() == (target != -100).tolist()
        found = (coefficient * losses.objective).sum() + (losses.score.where(losses.kept, 0.0) ** 2).sum()
    wanted = (coefficient * wanted_objective).sum() + (wanted_score**2).sum()
    close(gradient(found, x), gradient(wanted, x))


@paths
def test_square_losses_are_too(path):
    x, target, other = (torch.randn(5, 3, 4, dtype=DOUBLE) for _ in range(3))
    x.requires_grad_()
    with forced(path):
        losses = loreun_square_losses(x, target, other, reduction="sum")
        found = (losses.objective.sqrt() * losses.score).sum()
    of, by = ((x - t).square().sum((1, 2)) for t in (target, other))
    close(found, (of.sqrt() * by).sum())
    close(gradient(found, x), gradient((of.sqrt() * by).sum(), x))


@paths
@pytest.mark.parametrize("normalize", ["batch", "mean"])
@pytest.mark.parametrize("weighted", [True, False])
def test_micro_batches_are_the_whole_batch(normalize, weighted, path):
    x, target, clean = batch(16, 7)
    target[3] = -100
    ref = torch.rand(16, dtype=DOUBLE)
    of_class = torch.rand(7, dtype=DOUBLE) if weighted else None
    options = {"eta": 0.4, "direction": "forget", "normalize": normalize}
    cuts = [slice(0, 5), slice(5, 6), slice(6, 16)]
    with forced(path):
        wanted = loreun_cross_entropy(x, target, clean, ref_loss=ref, weight=of_class, **options)
        whole = Accumulation(**options)
        for step in range(2):  # the object serves again
            for cut in cuts:
                with torch.no_grad():
                    whole.see(loreun_losses(x[cut], target[cut], clean[cut], weight=of_class), ref[cut])
            x.grad, total = None, 0.0
            for cut in cuts:
                loss = whole.loss(loreun_losses(x[cut], target[cut], clean[cut], weight=of_class))
                (0.7 * loss).backward()
                total += loss.item()
            assert total == pytest.approx(wanted.item(), rel=1e-12), step
            close(x.grad, gradient(wanted, x))
    with pytest.raises(ValueError, match="no micro-batch is left"):
        whole.loss(loreun_losses(x, target))
    whole.see(loreun_losses(x, target))
    with pytest.raises(ValueError, match="5 rows, the one that was seen 16"):
        whole.loss(loreun_losses(x[:5], target[:5]))
    with pytest.raises(ValueError, match="1 micro-batches were seen"):
        whole.see(loreun_losses(x, target))


@paths
def test_a_batch_of_one_warns_once(path):
    calls._warned_of_one.cache_clear()
    x, target, _ = batch(1, 7)
    with forced(path), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        loreun_cross_entropy(x, target, eta=0.0, direction="forget")
        assert not said
        loreun_cross_entropy(x, target, eta=0.1, direction="forget", normalize="mean")
        assert not said
        for _ in range(3):
            loreun_cross_entropy(x, target, eta=0.1, direction="forget")
    assert len(said) == 1
    assert "Accumulation" in str(said[0].message)


# ---- transforms


def call(x: Tensor, target: Tensor, clean: Tensor, **options) -> Tensor:
    return loreun_cross_entropy(x, target, clean, **({"eta": 0.3, "direction": "forget"} | options))


@paths
@pytest.mark.parametrize("detach", [True, False])
def test_functional_transforms(detach, path):
    x, target, clean = batch()
    x = x.detach()
    tangent = torch.randn_like(x)
    plain = loreun_cross_entropy(x.requires_grad_(), target, clean, eta=0.3, direction="forget", detach_weights=detach)
    wanted = torch.autograd.grad(plain, x)[0]
    x = x.detach()

    def f(x: Tensor) -> Tensor:
        return call(x, target, clean, detach_weights=detach)

    with forced(path):
        close(torch.func.grad(f)(x), wanted)
        value, slope = torch.func.jvp(f, (x,), (tangent,))
        close(value, plain.detach())
        close(slope, (wanted * tangent).sum())
        batches = torch.stack([x, 2 * x, x - 1])
        each = torch.func.vmap(lambda x: call(x, target, clean, detach_weights=detach))(batches)
        close(each, torch.stack([f(x) for x in batches]))
        grads = torch.func.vmap(torch.func.grad(f))(batches)
        close(grads, torch.stack([torch.func.grad(f)(x) for x in batches]))
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x, tangent)
            close(torch.autograd.forward_ad.unpack_dual(f(dual)).tangent, (wanted * tangent).sum())
        if not detach:
            hessian = torch.func.hessian(f)(x)
            close(hessian, hessian.permute(2, 3, 0, 1))
            assert float(hessian.abs().max()) > 0.01
