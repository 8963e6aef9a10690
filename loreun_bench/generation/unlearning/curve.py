"""The original model's mean denoising loss at each timestep, ℓ°_t: measured at a few, fitted for all (LoReUn, section 4)."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

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

BATCH = 32


def measure(
    pipeline: Pipeline, samples: LatentSet, texts: Tensor, points: int, count: int, context: Context
) -> tuple[list[int], Tensor]:
    """Timesteps 0, T/points, 2T/points, …, and the losses there [points, n] of n = min(count, all) random pictures."""
    order = torch.randperm(len(samples), generator=context.stream("curve", "order", device="cpu"))[:count]
    steps = [k * pipeline.timesteps // points for k in range(points)]
    losses = []
    for number, t in enumerate(steps):
        report(number / points)
        losses.append(losses_at(pipeline, samples, order, texts, t, context))
    return steps, torch.stack(losses)


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


def fit(steps: list[int], means: np.ndarray, timesteps: int) -> tuple[tuple[float, float, float], np.ndarray]:
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


def static_scores(pipeline: Pipeline, samples: LatentSet, texts: Tensor, context: Context) -> Tensor:
    """LoReUn-s: each picture's loss on the original model [n], the mean over a few timesteps of loss over ℓ°_t."""
    assert context.curve is not None
    every = torch.arange(len(samples))
    steps = [k * pipeline.timesteps // 10 for k in range(10)]
    return torch.stack([losses_at(pipeline, samples, every, texts, t, context) / context.curve[t] for t in steps]).mean(0)


def _exponential(t: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
    return a * np.exp(b * t) + c
