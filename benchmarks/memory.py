"""How much memory does a step of Stable Diffusion 1.4's size take? Calculated without a GPU and without its weights.

    python benchmarks/memory.py [--batch 8] [--out FILE.json]

The project's own losses, mask and optimiser run on tensors that have shapes but no data (torch's FakeTensorMode), in
bf16 autocast, and every allocation is counted. What a GPU adds is not in it: the CUDA context (about 0.5 GiB) and what
the allocator loses to fragments. A calculation, to be checked by a measurement where there is a GPU.
"""

from __future__ import annotations

import argparse
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from tabulate import tabulate
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import CLIPTextConfig, CLIPTextModel

from loreun_bench.generation.pipeline.pipelines import Pipeline
from loreun_bench.generation.unlearning import gradient as unlearning
from loreun_bench.generation.unlearning.method import Context, Data
from loreun_bench.generation.unlearning.protocols import PROTOCOLS
from loreun_bench.registry import registry
from loreun_bench.training.clock import Meter
from loreun_bench.training.constraints import HardMask
from loreun_bench.training.optimiser import make_optimiser

GIB = 2**30
WIDTH, LENGTH = 768, 77  # of the text embeddings


class Ledger(TorchDispatchMode):
    """Bytes of all storages that are alive, and the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def count(self, tensor: Tensor) -> None:
        """Count the tensor's storage until it is freed."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, Tensor):
                self.count(tensor)
        return found


class Latents:
    """Pictures that are encoded already."""

    def __init__(self, count: int) -> None:
        self.moments = torch.zeros(count, 4, 64, 64)
        self.concepts = torch.zeros(count, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.moments)

    def draw(self, positions: Tensor, generator: torch.Generator) -> Tensor:
        """A latent each."""
        return self.moments[positions] + torch.randn(len(positions), 4, 64, 64, generator=generator)


def stable_diffusion() -> tuple[Pipeline, list[torch.nn.Module]]:
    """A pipeline of Stable Diffusion 1.4's size, and its frozen parts, in bf16."""
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=WIDTH, block_out_channels=(320, 640, 1280, 1280))
    torch.set_default_dtype(torch.bfloat16)
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    text = CLIPTextModel(
        CLIPTextConfig(hidden_size=WIDTH, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    )
    torch.set_default_dtype(torch.float32)
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)
    return Pipeline(unet=unet, vae=vae, text_encoder=text, tokenizer=None, scheduler=scheduler, device="cpu"), [vae, text]


def two_steps(name: str, rule: str, batch: int) -> dict[str, float]:
    """GiB of the weights, after a first step, and the most in the second one, of RL or SalUn with a weighting."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        pipeline, frozen = stable_diffusion()
        ledger = Ledger()
        with ledger:
            for part in (pipeline.unet, *frozen):
                for tensor in (*part.parameters(), *part.buffers()):
                    ledger.count(tensor)
            weights = ledger.now
            step = prepared(name, rule, batch, pipeline)
            step()
            between, ledger.peak = ledger.now, 0
            step()
    return {"weights": weights / GIB, "between_steps": between / GIB, "peak": ledger.peak / GIB}


def prepared(name: str, rule: str, batch: int, pipeline: Pipeline) -> Callable[[], None]:
    """One step of a method, as `descend` takes it, but for the guards, which look at values."""
    phases = dict(registry("weightings").get(rule).item().phases())
    context = Context(
        device="cpu", precision="bf16", protocol=PROTOCOLS["corrected"], phases=phases,
        curve=dict.fromkeys(("forget", "retain"), torch.ones(pipeline.timesteps)), seed=0, meter=Meter("cpu"),
    )  # fmt: skip
    sets: Any = {"forget": Latents(batch), "retain": Latents(batch)}
    data = Data(sets, frozenset(sets), ("a", "b"), torch.zeros(2, LENGTH, WIDTH), (0,))
    method: Any = registry("methods", "generation").get(name).item(batch_size=batch)
    chosen = unlearning.open_parameters(pipeline, unlearning.trainable(pipeline.unet, method.parameters))
    losses = [unlearning.PhaseLoss(method, phase, pipeline, data, context) for phase in ("forget", "retain")]
    weights = list(chosen.values())
    mask = HardMask(weights, [torch.ones_like(p, dtype=torch.bool) for p in weights]) if name == "SalUn" else None
    optimiser = make_optimiser(weights, "adam", method.lr, 0.0, 0.0)
    positions = torch.arange(batch)

    def step() -> None:
        loss = losses[0](positions) + losses[1](positions)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if mask is not None:
            mask.after_step()

    return step


def main() -> None:
    """Calculate, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    cases = [("RL", "none"), ("RL", "w_f+w_r"), ("SalUn", "none"), ("SalUn", "w_f+w_r")]
    rows = [{"method": name, "weighting": rule} | two_steps(name, rule, options.batch) for name, rule in cases]
    print(tabulate([list(row.values()) for row in rows], list(rows[0]), floatfmt=".2f"))
    if options.out:
        about = {"batch": options.batch, "unit": "GiB", "torch": torch.__version__, "how": "calculated, no GPU"}
        options.out.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
