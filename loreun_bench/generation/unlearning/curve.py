"""The original model's mean denoising loss at each timestep, ℓ°_t: measured at some, known for all (LoReUn, section 4)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from loreun_bench.errors import UserError
from loreun_bench.harness.progress import report
from loreun_bench.training.loop import autocast

if TYPE_CHECKING:
    from loreun_bench.generation.data.latents import LatentSet
    from loreun_bench.generation.pipeline.pipelines import Pipeline
    from loreun_bench.generation.unlearning.method import Context

Fit = Literal["exponential", "interpolated"]
BATCH = 32
OFF = 1.25  # a factor between measured and fitted losses that is told


def timesteps(fit: Fit, points: int, count: int) -> list[int]:
    """Where the loss is measured, of `count` timesteps: 0, T/points, 2T/points, … as in the paper; or for `interpolated`
    from 0 to T - 1, in steps that grow with t, as the loss is steep where there is little noise."""
    if fit == "exponential":
        return [k * count // points for k in range(points)]
    spread = np.unique(np.maximum(np.round((np.arange(points) / (points - 1)) ** 2 * (count - 1)), np.arange(points)))
    return [int(t) for t in spread]


def measure(
    pipeline: Pipeline, samples: LatentSet, texts: Tensor, steps: list[int], count: int, context: Context
) -> Tensor:
    """The losses [len(steps), n] at the timesteps of n = min(count, all) random pictures."""
    order = torch.randperm(len(samples), generator=context.stream("curve", "order", device="cpu"))[:count]
    losses = []
    for number, t in enumerate(steps):
        report(number / len(steps))
        losses.append(losses_at(pipeline, samples, order, texts, t, context))
    return torch.stack(losses)


def losses_at(pipeline: Pipeline, samples: LatentSet, chosen: Tensor, texts: Tensor, t: int, context: Context) -> Tensor:
    """Per-picture denoising losses [n] at timestep t, each with noise of its own."""
    found = []
    for positions in chosen.split(BATCH):
        latents = samples.draw(positions, context.stream("curve", "posterior"))
        noise = torch.randn(latents.shape, generator=context.stream("curve", "noise"), device=latents.device)
        step = torch.full((len(positions),), t, device=latents.device)
        text = texts[samples.concepts[positions.to(samples.concepts.device)]]
        with torch.no_grad(), autocast(context.device, context.precision):
            predicted = pipeline.predict(pipeline.noised(latents, noise, step), step, text)
        target = pipeline.denoising_target(latents, noise, step)
        found.append((predicted.float() - target).square().flatten(1).mean(1))
        context.meter.forward_samples += len(positions)
    return torch.cat(found)


def through(fit: Fit, steps: list[int], means: np.ndarray, count: int) -> tuple[dict[str, Any], np.ndarray]:
    """The curve [count] of the means at `steps`; and what to tell of it: steps, losses, the fit's parameters if it has any,
    and `off`, the measured mean over the curve at each step. UserError if it is not positive everywhere."""
    about: dict[str, Any] = {"fit": fit, "timesteps": steps, "losses": [round(float(m), 6) for m in means]}
    if fit == "exponential":
        (a, b, c), curve = exponential(steps, means, count)
        about |= {"a": a, "b": b, "c": c}
    else:
        curve = interpolated(steps, means, count)
    return about | {"off": [round(float(m / curve[t]), 4) for t, m in zip(steps, means, strict=True)]}, curve


def exponential(steps: list[int], means: np.ndarray, timesteps: int) -> tuple[tuple[float, float, float], np.ndarray]:
    """(a, b, c) and the curve a·exp(b·t) + c [timesteps] through the means, by least squares of the relative error.

    Relative, as the weights divide by the curve: an absolute fit is dominated by the small timesteps, whose losses are a
    hundred times those of the large ones. UserError if it is not positive everywhere.
    """
    from scipy.optimize import OptimizeWarning, curve_fit

    t = np.asarray(steps, dtype=float)
    start = (max(means[0] - means[-1], 1e-3), -5.0 / timesteps, max(means[-1], 1e-6))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OptimizeWarning)  # of a covariance that nobody asks for
            (a, b, c), _ = curve_fit(_exponential, t, means, p0=start, sigma=means, maxfev=20_000)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"no exponential fits the losses {np.round(means, 4).tolist()} by timestep: {error}") from error
    curve = _exponential(np.arange(timesteps), a, b, c)
    if not (np.isfinite(curve).all() and (curve > 0).all()):
        raise UserError(f"the fitted loss curve is not positive everywhere (least {curve.min():.3g}): measure more pictures")
    return (float(a), float(b), float(c)), curve


def interpolated(steps: list[int], means: np.ndarray, timesteps: int) -> np.ndarray:
    """The curve [timesteps] through the means, without a hump between two of them: a monotone cubic of the log-losses, level
    before the first and after the last. UserError if a mean is not positive."""
    from scipy.interpolate import PchipInterpolator

    if not (np.isfinite(means).all() and (means > 0).all()):
        raise UserError(f"losses {np.round(means, 4).tolist()} by timestep are not all positive: measure more pictures")
    t = np.clip(np.arange(timesteps), steps[0], steps[-1])
    return np.asarray(np.exp(PchipInterpolator(steps, np.log(means))(t)))


def told(about: Mapping[str, Mapping[str, Any]]) -> str:
    """A phrase on curves by set: how they were made, and where measured losses are farthest from them."""
    name, worst = max(((n, own) for n, own in about.items()), key=lambda pair: max(map(_factor, pair[1]["off"])))
    at = max(range(len(worst["off"])), key=lambda i: _factor(worst["off"][i]))
    factor, of = _factor(worst["off"][at]), f" of the {name} set" if len(about) > 1 else ""
    fit = worst["fit"]
    return fit if factor <= OFF else f"{fit}, off by a factor {factor:.3g} at t = {worst['timesteps'][at]}{of}"


def _factor(off: float) -> float:
    """How far a ratio is from 1, either way."""
    return max(off, 1 / off)


def static_scores(
    pipeline: Pipeline, samples: LatentSet, texts: Tensor, reference: Tensor, context: Context
) -> Tensor:
    """LoReUn-s: each picture's loss on the original model [n], the mean over a few timesteps of loss over ℓ°_t."""
    every = torch.arange(len(samples))
    steps = [k * pipeline.timesteps // 10 for k in range(10)]
    return torch.stack([losses_at(pipeline, samples, every, texts, t, context) / reference[t] for t in steps]).mean(0)


def _exponential(t: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
    return a * np.exp(b * t) + c
