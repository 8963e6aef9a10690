"""Sampling by DDIM with classifier-free guidance: the same latents for every model, pictures streamed to a folder."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from loreun_bench.harness.files import write_atomic
from loreun_bench.harness.progress import report
from loreun_bench.training.loop import autocast

if TYPE_CHECKING:
    from loreun_bench.generation.pipeline.pipelines import Pipeline

INDEX = "index.json"


@dataclass(frozen=True)
class Request:
    """One picture: its file's name, the prompt, the seed of its first latent, guidance, and what it should show."""

    name: str
    prompt: str
    seed: int
    guidance: float
    label: int | None = None
    concept: str = ""


def sample(
    pipeline: Pipeline,
    requests: Sequence[Request],
    folder: Path,
    *,
    steps: int,
    batch_size: int,
    precision: str = "fp32",
) -> None:
    """Write the picture of every request that the folder lacks, and the index of all; a stopped run goes on from there.

    Each picture is written whole or not at all. A picture that is made again is made in the batch it was in at first, so
    that it is the same to the bit: alone it would be so only up to rounding.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = {r.name for r in requests if not _readable(folder / f"{r.name}.png")}
    waiting: list[Future[None]] = []
    with ThreadPoolExecutor(1) as writer:  # PNG is made while the next batch is sampled
        for start in range(0, len(requests), batch_size):
            batch = requests[start : start + batch_size]
            if missing.isdisjoint(r.name for r in batch):
                continue
            pixels = pictures(pipeline, batch, steps, precision).cpu()
            for future in waiting:
                future.result()
            lacking = [(r, p) for r, p in zip(batch, pixels, strict=True) if r.name in missing]
            waiting = [writer.submit(_write, folder / f"{r.name}.png", p) for r, p in lacking]
            report((start + len(batch)) / len(requests))
        for future in waiting:
            future.result()
    write_atomic(folder / INDEX, json.dumps({r.name: _about(r) for r in requests}, indent=0))


def pictures(pipeline: Pipeline, requests: Sequence[Request], steps: int, precision: str = "fp32") -> Tensor:
    """The pictures of one batch, [n, H, W, 3] uint8 on the device."""
    guidance = torch.tensor([r.guidance for r in requests], device=pipeline.device)
    text = pipeline.embed([r.prompt for r in requests])
    return pipeline.decode(denoise(pipeline, first_latents(pipeline, requests), text, guidance, steps, precision=precision))


def first_latents(pipeline: Pipeline, requests: Sequence[Request]) -> Tensor:
    """Pure noise [n, c, h, w], each from its own seed on the CPU, so that every device and batch starts alike."""
    shape = pipeline.latent_shape
    drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(r.seed)) for r in requests]
    return torch.stack(drawn).to(pipeline.device) * float(pipeline.scheduler.init_noise_sigma)


def denoise(
    pipeline: Pipeline,
    latents: Tensor,
    text: Tensor,
    guidance: Tensor,
    steps: int,
    part: slice = slice(None),
    precision: str = "fp32",
) -> Tensor:
    """Latents [n, c, h, w] after DDIM's steps, or after a part of them.

    text: [n, length, width]; guidance: [n], 1 for none: ε(∅) + g (ε(text) - ε(∅)).
    """
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(steps, device=pipeline.device)
    guided = bool((guidance != 1).any())
    if guided:
        text = torch.cat([pipeline.no_text.expand_as(text), text])
    factor = guidance.view(-1, 1, 1, 1)
    with torch.no_grad(), autocast(pipeline.device, precision):
        for t in scheduler.timesteps[part]:
            found = pipeline.predict(torch.cat([latents] * 2) if guided else latents, t, text).float()
            if guided:
                without, conditioned = found.chunk(2)
                found = without + factor * (conditioned - without)
            latents = scheduler.step(found, t, latents, return_dict=False)[0]
    return latents


def _about(request: Request) -> dict[str, object]:
    return {key: value for key, value in asdict(request).items() if key != "name"}


def _readable(path: Path) -> bool:
    """Whether a picture is there and can be decoded to its end."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            picture.load()
    except (OSError, SyntaxError):  # of a broken PNG
        return False
    return True


def _write(path: Path, pixels: Tensor) -> None:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(buffer, "PNG")
    write_atomic(path, buffer.getvalue())
