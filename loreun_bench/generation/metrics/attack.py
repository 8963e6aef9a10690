"""Whether a forgotten class can still be asked for."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from loreun_bench.decorators import metric
from loreun_bench.harness.measuring import Measured

if TYPE_CHECKING:
    from torch import Tensor

    from loreun_bench.generation.scene import Scene
    from loreun_bench.generation.scoring.model import Model

TOKENS, STEPS, BATCH, RATE = 4, 100, 16, 0.05  # Adam; its rate in standard deviations of a text's embedding


@metric(
    "attack",
    columns={"recovered": "recovered"},
    best="low",
    needs={"model", "data"},
    cost=lambda sizes: STEPS * BATCH,
    paper="as Pham et al., ICLR 2024 (concept inversion), of embeddings after the text encoder",
    track="generation",
    about_classes=True,
)
def attack(scene: Scene) -> Measured:
    """recovered: UA where the prompt is the empty one with 4 tokens that were sought for the class, in 100 steps on its
    training pictures, the model itself unchanged (settings: attack_tokens, attack_steps). Far above UA: the class is there
    still. The search may teach the class as well as find it: compare rows."""
    model, settings = scene.need_model("attack"), scene.settings
    tokens, steps = int(settings.get("attack_tokens", TOKENS)), int(settings.get("attack_steps", STEPS))
    sought = {label: _sought(model, label, tokens, steps) for label in model.data.forgotten}
    hits, n = model.recognised(scene.need_classifier("attack"), texts=sought)
    return Measured({"recovered": 100 * hits / n}, {"recovered": [hits, n]})


def _sought(model: Model, label: int, tokens: int, steps: int) -> Tensor:
    """The embedding [length, width] that denoises the class's pictures best."""
    import torch

    from loreun_bench.generation.unlearning.gradient import denoising_loss, noised
    from loreun_bench.training.loop import run_steps

    pipeline, context = model.pipeline, model.context()
    pictures = model.data.forget.showing(torch.tensor([label]))
    empty = pipeline.no_text[0]
    free = empty[1 : tokens + 1].clone().requires_grad_(True)
    optimiser = torch.optim.Adam([free], lr=RATE * float(model.data.texts.std()))
    pipeline.unet.requires_grad_(False)

    def text() -> Tensor:
        return torch.cat([empty[:1], free, empty[tokens + 1 :]])

    def objective(positions: Tensor) -> Tensor:
        batch = noised(pipeline, pictures, positions, context, "attack")
        return denoising_loss(pipeline, batch, text().expand(len(batch.t), -1, -1), context)

    batches = pictures.passes(min(BATCH, len(pictures)), context.stream("order", "attack", device="cpu"))
    run_steps(pipeline.unet, islice(batches, steps), objective, optimiser, total=steps)
    return text().detach()
