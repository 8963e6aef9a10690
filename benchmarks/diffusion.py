"""What does the weighting cost a denoiser's step, and is our sampling slower than diffusers' pipeline? In one process.

    python benchmarks/diffusion.py [--pipeline NAME] [--device cpu|cuda] [--batch 16] [--rounds 30] [--out FILE.json]

The RL step (forget and retain batch, backward pass, Adam) runs with every weighting in turn, and the sampling of one
batch by our loop and by diffusers' pipeline from the same latents; the sides alternate, so that a machine that slows
down slows all of them. Ratios are of the minima and of the medians of the same run. One thread on a CPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from loreun_bench.bench.timing import Side, interleave
from loreun_bench.generation.data.latents import LatentSet
from loreun_bench.generation.datasets.digits import WORDS, digits
from loreun_bench.generation.pipeline import pipelines, sampling
from loreun_bench.generation.pipeline.sampling import Request
from loreun_bench.generation.unlearning import gradient as unlearning
from loreun_bench.generation.unlearning.method import Context, Data
from loreun_bench.generation.unlearning.protocols import PROTOCOLS
from loreun_bench.harness import environment
from loreun_bench.registry import registry
from loreun_bench.training.clock import Meter
from loreun_bench.training.loop import automatic
from loreun_bench.training.optimiser import make_optimiser

RULES = ("none", "w_f", "w_r", "w_f+w_r", "loreun-d")
PROMPTS = tuple(f"an image of {word}" for word in WORDS)
FORGOTTEN = 7


def step(folder: Path, device: str, rule: str, batch: int) -> Callable[[], object]:
    """One RL step with one weighting, on a denoiser of its own."""
    pipeline = pipelines.load(folder, device)
    pictures, texts = digits(Path(), "train"), pipeline.embed(PROMPTS)
    parts = {"forget": pictures.of(FORGOTTEN), "retain": pictures.others(FORGOTTEN)[:500]}
    sets = {name: LatentSet(pipeline, pictures, index, pictures.labels[index]) for name, index in parts.items()}
    for samples in sets.values():
        samples.moments(torch.arange(len(samples)))  # encoding is paid once, not at every step
    phases = dict(registry("weightings").get(rule).item().phases())
    curve = dict.fromkeys(("forget", "retain"), torch.linspace(1, 0.1, pipeline.timesteps, device=device))
    context = Context(
        device=device, precision=automatic(device), protocol=PROTOCOLS["corrected"], phases=phases, curve=curve, seed=0,
        meter=Meter(device),
    )  # fmt: skip
    data = Data(sets, frozenset(sets), PROMPTS, texts, (FORGOTTEN,))
    method: Any = registry("methods", "generation").get("RL").item(batch_size=batch, lr=1e-6, epochs=10**6)
    chosen = unlearning.open_parameters(pipeline, unlearning.trainable(pipeline.unet, "full"))
    losses = [unlearning.PhaseLoss(method, phase, pipeline, data, context) for phase in ("forget", "retain")]
    optimiser = make_optimiser(chosen.values(), "adam", method.lr, 0.0, 0.0)
    positions = torch.arange(batch)  # the same pictures at every step: sides differ in their weights only

    def run() -> None:
        loss = losses[0](positions) + losses[1](positions)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return run


def samplers(folder: Path, device: str, batch: int, steps: int) -> dict[str, Callable[[], object]]:
    """One batch of pictures by our loop and by diffusers' pipeline, with guidance."""
    from diffusers import StableDiffusionPipeline

    own = pipelines.load(folder, device)
    peer = StableDiffusionPipeline(
        vae=own.vae, text_encoder=own.text_encoder, tokenizer=own.tokenizer, unet=own.unet, scheduler=own.scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    peer.set_progress_bar_config(disable=True)
    requests = [Request(str(i), PROMPTS[i % 10], i, 7.5) for i in range(batch)]

    def ours() -> object:
        return sampling.pictures(own, requests, steps)

    def theirs() -> object:
        generators = [torch.Generator().manual_seed(r.seed) for r in requests]
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            return peer([r.prompt for r in requests], num_inference_steps=steps, guidance_scale=7.5, generator=generators)

    return {"our sampling": ours, "diffusers' pipeline": theirs}


def compare(sides: dict[str, Callable[[], object]], base: str, device: str, rounds: int) -> list[dict[str, Any]]:
    """A row a side: milliseconds, and ratios to `base`."""
    timed = {name: Side(call) for name, call in sides.items()}
    for side in timed.values():
        side.calibrate(device)
    interleave(list(timed.values()), device, rounds, 1e9)
    least, middle = min(timed[base].samples), statistics.median(timed[base].samples)
    rows = []
    for name, side in timed.items():
        row = {"side": name, "ms_min": 1e3 * min(side.samples), "ms_median": 1e3 * statistics.median(side.samples)}
        ratios = [a / b for a, b in zip(side.samples, timed[base].samples, strict=True)]
        row |= {"ratio_min": min(side.samples) / least, "ratio_median": statistics.median(side.samples) / middle}
        rows.append(row | {"paired_median": statistics.median(ratios)})
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="digits")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20, help="of sampling")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = pipelines.find(options.pipeline).folder
    steps = {rule: step(folder, options.device, rule, options.batch) for rule in RULES}
    rows = compare(steps, "none", options.device, options.rounds)
    both = samplers(folder, options.device, options.batch, options.steps)
    rows += compare(both, "diffusers' pipeline", options.device, options.rounds)
    print(tabulate([list(row.values()) for row in rows], list(rows[0]), floatfmt=".3f"))
    if options.out:
        about = {
            "environment": environment.describe(options.device),
            "batch": options.batch,
            "sampling_steps": options.steps,
        }
        options.out.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
