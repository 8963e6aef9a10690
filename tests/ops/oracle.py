"""What the kernels should compute, in double precision with torch's own functions and autograd."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from emulation import CrossEntropy, MeanSquared, Part, Run, accumulator
from torch import Tensor
from torch.nn import functional as F

# Relative error of the accumulation type, and of a gradient rounded to its own type.
ACCURACY = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-5, torch.float16: 1e-5}
ROUNDING = {torch.float64: 0.0, torch.float32: 0.0, torch.bfloat16: 2**-8, torch.float16: 2**-10}
SMALLEST = {torch.float64: 0.0, torch.float32: 1e-38, torch.bfloat16: 1e-38, torch.float16: 6e-8}


@dataclass
class Expected:
    """Of one part; the gradient is for an incoming gradient of 1. size: what a row's gradient is rounded against."""

    table: list[Tensor]
    kept: Tensor
    log_normaliser: Tensor
    mean: Tensor
    grad: Tensor
    size: Tensor


def expect(part: CrossEntropy | MeanSquared) -> Expected:
    return _cross_entropy(part) if isinstance(part, CrossEntropy) else _mean_squared(part)


def _nll(logp: Tensor, label: Tensor, smoothing: float = 0.0) -> Tensor:
    """NaN where the label is out of range, and so is its gradient."""
    classes = logp.shape[1]
    valid = torch.where((label >= 0) & (label < classes), 1.0, torch.nan).double()
    loss = -logp.gather(1, label.clamp(0, classes - 1)[:, None])[:, 0] * valid
    return loss if smoothing == 0 else (1 - smoothing) * loss - smoothing * logp.mean(1)


def _cross_entropy(part: CrossEntropy) -> Expected:
    x = part.logits.detach().double().clone().requires_grad_()
    kept = part.target != part.ignore_index
    logp = F.log_softmax(x.where(kept[:, None], torch.zeros(())), 1)
    label = part.target.where(kept, torch.zeros_like(part.target))
    objective = _nll(logp, label, part.label_smoothing).where(kept, torch.zeros(()).double())
    score, shown = _nll(logp, label), None
    if part.score_target is not None:
        score = _nll(logp, part.score_target)
        shown = _nll(F.log_softmax(part.logits.double(), 1), part.score_target)  # an ignored row has a score too
    with torch.no_grad():
        top = part.logits.double().max(1).values
        sums = torch.logsumexp(part.logits.double() - top[:, None], 1)
    slope = 2.0
    return _finish(part, x, kept, objective, score, shown, [top, sums], torch.full_like(top, slope))


def _mean_squared(part: MeanSquared) -> Expected:
    x = part.input.detach().double().flatten(1).clone().requires_grad_()

    def distance(other: Tensor) -> Tensor:
        return (x - other.double().flatten(1)).square().sum(1) / part.divisor

    objective = distance(part.target)
    score = objective if part.score_target is None else distance(part.score_target)
    far = [(x - t.double().flatten(1)).abs() for t in (part.target, part.score_target) if t is not None]
    reach = torch.stack([each.amax(1) if each.shape[1] else each.sum(1) for each in far]).amax(0).detach() * 2 / part.divisor
    kept = torch.ones(len(x), dtype=torch.bool)
    return _finish(part, x, kept, objective, score, None, [], reach)


def _finish(
    part: Part,
    x: Tensor,
    kept: Tensor,
    objective: Tensor,
    score: Tensor,
    shown: Tensor | None,
    more: list[Tensor],
    reach: Tensor,
) -> Expected:
    """The weights, as their papers write them, the loss, and autograd."""
    if part.score_loss is not None:
        score = shown = part.score_loss.to(accumulator(part_type(part))).double()
    ref = torch.tensor(part.ref, dtype=torch.float64)
    if part.ref_loss is not None:
        ref = part.ref_loss.to(accumulator(part_type(part))).double()
    weighed = score.detach() if part.detach else score
    eta = part.eta * (1.0 if part.eta_factor is None else part.eta_factor)
    raw = _logarithm(part, eta, weighed / ref if part.ratio else weighed - ref, weighed)
    classes = torch.ones_like(raw)
    if isinstance(part, CrossEntropy) and part.class_weight is not None:
        in_range = part.target.clamp(0, part.logits.shape[1] - 1)
        classes = part.class_weight.to(accumulator(part_type(part))).double()[in_range]
    s = (raw + classes.log()).masked_fill(~kept, -torch.inf)
    some = bool(kept.any())
    divisor = {"batch": 1.0, "mean": classes[kept].sum(), "none": torch.ones(()).double()}[part.normalize]
    w = torch.softmax(s, 0) if part.normalize == "batch" else s.exp() / divisor
    mean = (w * objective).sum() if some or part.normalize == "none" else torch.tensor(torch.nan).double()
    (grad,) = torch.autograd.grad(mean * part.scale, x, allow_unused=True) if mean.requires_grad else (None,)
    grad = (torch.zeros_like(x) if grad is None else grad).masked_fill(~kept[:, None], 0.0)
    steep = torch.zeros_like(raw)
    if not part.detach and part.score_loss is None:
        with torch.enable_grad():
            at = weighed.detach().clone().requires_grad_()
            value = _logarithm(part, eta, at / ref if part.ratio else at - ref, at)
            (steep,) = torch.autograd.grad(value.sum(), at)
    score = shown if shown is not None else score.masked_fill(~kept, 0.0)
    table = [objective, score, s, steep.masked_fill(~kept, 0.0), *more]
    steep = steep.abs()
    swing = (steep * (objective.abs() + mean.abs())).detach().nan_to_num(0, 0)
    size = (w.detach() * abs(part.scale) * reach * (1 + swing)).nan_to_num(0, 0)
    log_normaliser = s.max() + (s - s.max()).exp().sum().log() if len(s) else s.sum()  # torch.logsumexp makes inf of inf
    if part.normalize != "batch":
        log_normaliser = divisor.log()
    return Expected([t.detach() for t in table], kept, log_normaliser.detach(), mean.detach(), grad, size)


def _logarithm(part: Part, eta: float, d: Tensor, score: Tensor) -> Tensor:
    """Of a weight before it is divided."""
    if part.rule == "exp":
        return eta * d
    if part.rule == "power":
        return (d**eta).log()
    if part.rule == "satimp":
        p = torch.exp(-score)
        return torch.log(p**-eta * (-torch.expm1(-score)) ** part.importance)
    if part.rule == "logistic":
        return math.log(2) + F.logsigmoid(eta * d)  # log(sigmoid) loses the digits of 1 - sigmoid
    return torch.zeros_like(d)


def part_type(part: Part) -> torch.dtype:
    return part.logits.dtype if isinstance(part, CrossEntropy) else part.input.dtype


def differ(what: str, actual: Tensor, expected: Tensor, rtol: float, atol: Tensor | float) -> None:
    """Raises if they differ by more than that, or in where they are NaN or infinite."""
    actual = actual.double()
    finite = expected.isfinite()
    same = torch.where(finite, (actual - expected).abs() <= rtol * expected.abs() + atol, actual == expected)
    same |= expected.isnan() & actual.isnan()
    if not bool(same.all()):
        wrong = (~same).nonzero()
        first = tuple(wrong[0].tolist())
        numbers = f"{float(actual[first])!r} instead of {float(expected[first])!r}"
        raise AssertionError(f"{what}: {len(wrong)} of {same.numel()} wrong, at {first} {numbers}")


def check_forward(run: Run, want: Expected, part: Part) -> None:
    """Loss, table and batch."""
    accuracy = ACCURACY[part_type(part)]
    names = ("objective", "score", "log_weight", "slope", "max", "log_sum")
    for row, name, value in zip(run.table, names, want.table, strict=False):
        keep = torch.ones_like(want.kept)
        if name in ("max", "log_sum"):  # together they make p, which the gradient's test sees where these are not finite
            keep = want.kept & (want.table[4] + want.table[5]).isfinite()
        differ(name, row[keep], value[keep], accuracy, accuracy)
    differ("mean", run.batch[1], want.mean, accuracy, accuracy)
    baseline = want.mean if part.normalize == "batch" else torch.zeros_like(want.mean)
    differ("baseline", run.batch[2], baseline, accuracy, accuracy)
    if bool(want.kept.any()) and bool((want.table[2] > -torch.inf).any()):
        differ("log_normaliser", run.batch[0], want.log_normaliser, accuracy, accuracy)
    differ("loss", run.loss, part.scale * want.mean, accuracy, accuracy)


def check_grad(grad: Tensor, want: Expected, part: Part, grad_out: float = 1.0) -> None:
    kind = part_type(part)
    atol = (abs(grad_out) * ACCURACY[kind] * want.size)[:, None] + SMALLEST[kind]
    differ("gradient", grad, grad_out * want.grad, ROUNDING[kind] + ACCURACY[kind], atol)
    assert bool((grad[~want.kept] == 0).all()), "an ignored row has a gradient"
