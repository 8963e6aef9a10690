"""Distances between two sets of features, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from loreun_bench.errors import UserError
from loreun_bench.generation.scene import Extractor, Scene, Side
from loreun_bench.generation.scoring.intervals import drawn, percentiles

SIDES: tuple[Side, ...] = ("reference", "images")
FEW = 5  # pictures of a class below which pairs of one class say nothing
LEAST = 10  # pictures a side below which a covariance says nothing
_BLOCK = 1024
FRECHET_INTERVAL = (
    "of the distance at these numbers of pictures: percentiles of the resamples' values, moved so that their mean is the "
    "value, because a resample repeats pictures, which alone raises the distance"
)
KERNEL_INTERVAL = "percentiles of the resamples' values, pairs of one picture with itself left out"


@dataclass(frozen=True)
class Compared:
    """The features of both sides [N, d], fp32, what is to be said of them, and their classes [N] where these are known."""

    pictures: Tensor
    reference: Tensor
    about: dict[str, Any]
    classes: tuple[Tensor, Tensor] | None = None


def compare(scene: Scene, extractor: Extractor, metric: str, least: int) -> Compared:
    """The features of the retained classes' pictures and of the reference. UserError if a side has fewer than `least`."""
    found: dict[Side, Tensor] = {}
    for side in SIDES:
        found[side] = scene.features(extractor, side)
        _need(scene, side, metric, len(found[side]), least)
    pictures, reference = found["images"], found["reference"]
    sizes = {side: scene.sizes(side) for side in SIDES}
    notes = ["the pictures are not all of one size: resizing alone moves the distance"] if _differ(sizes) else []
    about = {
        "extractor": extractor.name, "dimension": pictures.shape[1], "n": len(pictures), "n_reference": len(reference),
        "sizes": sizes, "of": _of(scene), "notes": notes,
    }  # fmt: skip
    labels = scene.labels("images"), scene.labels("reference")
    return Compared(pictures, reference, about, _classes(*labels))


def need(scene: Scene, metric: str, least: int) -> None:
    """UserError if a side has fewer than `least` pictures, readable or not: said before a network is loaded."""
    for side in SIDES:
        _need(scene, side, metric, len(scene.retained(side)), least)


def _need(scene: Scene, side: Side, metric: str, n: int, least: int) -> None:
    if n < least:
        kept = " of classes that are kept" if len(scene.retained(side)) < len(scene.source(side)) else ""
        where = "the reference has" if side == "reference" else "there are"
        raise UserError(f"{metric}: {where} {n} readable pictures{kept}, at least {least} are needed")


def _classes(left: Tensor | None, right: Tensor | None) -> tuple[Tensor, Tensor] | None:
    """The labels of both sides, if they can be told apart by them: every class has enough pictures on its side."""
    if left is None or right is None:
        return None
    fewest = min(int(side.unique(return_counts=True)[1].min()) for side in (left, right))
    return (left, right) if fewest >= FEW else None


def frechet(x: Tensor, y: Tensor, x_counts: Tensor | None = None, y_counts: Tensor | None = None) -> float:
    """Squared Fréchet distance of Gaussians fitted to x [n, d] and y [m, d]: |μ₁-μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁Σ₂)^½).

    The last trace is the nuclear norm of A Bᵀ with Σ₁ = AᵀA and Σ₂ = BᵀB, so that no root of a matrix is needed and
    covariances of low rank do no harm. Covariances are unbiased. counts: how often each row is taken.
    """
    mean_x, a = _moments(x, x_counts)
    mean_y, b = _moments(y, y_counts)
    nuclear = torch.linalg.svdvals(a @ b.T).sum()
    value = (mean_x - mean_y).square().sum() + a.square().sum() + b.square().sum() - 2 * nuclear
    return max(float(value), 0.0)


def frechet_about(compared: Compared, value: float, settings: Any, tell: Callable[[float], None]) -> dict[str, Any]:
    """The bootstrap interval of a Fréchet distance, and a warning where the covariance has not full rank."""
    n, m, d = len(compared.pictures), len(compared.reference), compared.about["dimension"]
    resamples = int(settings.get("resamples", affordable(min(n, m, d))))
    seed = int(settings.get("seed", 0))
    x, y = compared.pictures.double(), compared.reference.double()
    values = []
    for left, right in zip(drawn(n, resamples, seed, "pictures"), drawn(m, resamples, seed, "reference"), strict=True):
        values.append(frechet(x, y, left, right))
        tell(len(values) / resamples)
    about = {**compared.about, "notes": list(compared.about["notes"])}
    if min(n, m) <= d:
        about["notes"].append(
            f"{min(n, m)} pictures for {d} features: a covariance has not full rank and the distance is too large; "
            "compare it only with distances of as many pictures, or see kid"
        )
    if not values:
        return about
    found = torch.tensor(values, dtype=torch.float64)
    raw, shift = percentiles(found), float(found.mean()) - value
    return {
        **about, "interval": [max(end - shift, 0.0) for end in raw], "interval_is": FRECHET_INTERVAL, "percentiles": raw,
        "resamples": resamples, "seed": seed,
    }  # fmt: skip


def affordable(size: int) -> int:
    """Resamples by the size of the matrix that each of them has to take apart: all are done in minutes on one core."""
    return 200 if size <= 400 else 100 if size <= 1024 else 20


def kernel_value(compared: Compared) -> float:
    """The unbiased MMD² of all pictures; where classes are known, of as many of each class as there are."""
    x, y = compared.pictures.double(), compared.reference.double()
    counts = torch.ones(1, len(x), dtype=torch.float64), torch.ones(1, len(y), dtype=torch.float64)
    return float(mmd(x, y, *counts, compared.classes))


def kernel_about(compared: Compared, settings: Any, tell: Callable[[float], None]) -> dict[str, Any]:
    """The bootstrap interval of the polynomial MMD² on all pictures; where classes are known, each is drawn from alone."""
    resamples, seed = int(settings.get("resamples", 200)), int(settings.get("seed", 0))
    if not resamples:
        return dict(compared.about)
    x, y = compared.pictures.double(), compared.reference.double()
    left, right = compared.classes or (torch.zeros(len(x)), torch.zeros(len(y)))
    counts = _drawn(left, resamples, seed, "pictures"), _drawn(right, resamples, seed, "reference")
    values = mmd(x, y, *counts, compared.classes, tell)
    return {
        **compared.about, "interval": percentiles(values[values.isfinite()]), "interval_is": KERNEL_INTERVAL,
        "resamples": resamples, "seed": seed,
    }  # fmt: skip


def _drawn(classes: Tensor, resamples: int, seed: int, side: str) -> Tensor:
    """Bootstrap counts [R, n] that keep the number of pictures of every class."""
    counts = torch.empty(resamples, len(classes), dtype=torch.float64)
    for number in classes.unique():
        own = classes == number
        counts[:, own] = drawn(int(own.sum()), resamples, seed, f"{side}/{int(number)}")
    return counts


def mmd(
    x: Tensor, y: Tensor, x_counts: Tensor, y_counts: Tensor, classes: tuple[Tensor, Tensor] | None = None,
    tell: Callable[[float], None] = lambda share: None,
) -> Tensor:  # fmt: skip
    """Unbiased MMD² [R] with KID's kernel (xᵀy/d + 1)³ of x [n, d] and y [m, d], row i taken counts[r, i] times.

    Pairs of a row with itself are left out, those of a row that is taken twice, too: they would raise it. classes: [n]
    and [m], where so many of each were made on purpose. Such pictures are not independent: two of one class meet too
    seldom, as none is paired with itself, which would lower the distance; what is left of a class's pairs counts more.
    """
    left, right = classes or (torch.zeros(len(x)), torch.zeros(len(y)))
    within = _within(x, x_counts, left), _within(y, y_counts, right)
    return within[0] + within[1] - 2 * _pairs(x, y, x_counts, y_counts, tell) / (x_counts.sum(1) * y_counts.sum(1))


def kernel(x: Tensor, y: Tensor) -> Tensor:
    """KID's polynomial kernel [n, m]."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def _within(x: Tensor, counts: Tensor, classes: Tensor) -> Tensor:
    """Mean kernel [R] of two different rows of x, each of a class as often as there are rows of it; NaN where a class has
    one row only."""
    inside, whole = [], []
    for number in classes.unique():
        rows, own = x[classes == number], counts[:, classes == number]
        same, squares = _pairs(rows, rows, own, own), own.square()
        itself = squares @ (rows.square().sum(1) / x.shape[1] + 1) ** 3
        n = own.sum(1).square()
        inside.append((same - itself) * n / (n - squares.sum(1)))
        whole.append(same)
    between = _pairs(x, x, counts, counts) - sum(whole) if len(whole) > 1 else 0.0
    return (torch.stack(inside).sum(0) + between) / counts.sum(1).square()


def _pairs(
    x: Tensor, y: Tensor, x_counts: Tensor, y_counts: Tensor, tell: Callable[[float], None] = lambda share: None
) -> Tensor:
    """Sum [R] of the kernel over all pairs of a row of x and one of y."""
    total = torch.zeros(len(x_counts), dtype=torch.float64)
    for start in range(0, len(x), _BLOCK):
        block = slice(start, start + _BLOCK)
        total += ((x_counts[:, block] @ kernel(x[block], y)) * y_counts).sum(1)
        tell(min(1.0, (start + _BLOCK) / len(x)))
    return total


def _moments(x: Tensor, counts: Tensor | None) -> tuple[Tensor, Tensor]:
    """(mean [d], A [r, d]) with AᵀA the unbiased covariance and r at most d."""
    x = x.double()
    weights = torch.ones(len(x), dtype=torch.float64) if counts is None else counts
    x, weights = x[weights > 0], weights[weights > 0]
    mean = weights @ x / weights.sum()
    rows = (x - mean) * (weights / (weights.sum() - 1)).sqrt()[:, None]
    return mean, torch.linalg.qr(rows, mode="r")[1] if len(rows) > rows.shape[1] else rows


def _of(scene: Scene) -> str:
    """Which pictures a distance is about."""
    if not scene.forget:
        return "all pictures"
    parts = [f"{len(scene.retained(side))} of {len(scene.source(side))} {side}" for side in reversed(SIDES)]
    return f"without the forgotten class{'es' * (len(scene.forget) > 1)}: {', '.join(parts)}"


def _differ(sizes: dict[Side, list[str]]) -> bool:
    return len({size for found in sizes.values() for size in found}) > 1
