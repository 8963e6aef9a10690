"""How soon a forgotten class is drawn again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loreun_bench.decorators import metric
from loreun_bench.harness.measuring import Measured

if TYPE_CHECKING:
    from loreun_bench.generation.scene import Scene

STEPS, BATCH, RATE = 40, 16, 1e-4  # Adam


@metric(
    "relearn",
    columns={"relearned": "relearned"},
    best="low",
    needs={"model", "data"},
    cost=lambda sizes: STEPS * BATCH,
    paper="as the fine-tuning attack of Gao et al., ICCV 2025",
    track="generation",
    about_classes=True,
)
def relearn(scene: Scene) -> Measured:
    """relearned: UA after 40 steps of training on the forgotten class's pictures alone (settings: relearn_steps,
    relearn_lr). Near the original's with UA at 0: it was hidden, not forgotten. A model that never knew the class would
    learn some of it in as many steps, too: compare rows."""
    import copy
    from itertools import islice

    import torch

    from loreun_bench.generation.unlearning.gradient import denoising_loss, noised, open_parameters, trainable
    from loreun_bench.training.loop import run_steps

    model, settings = scene.need_model("relearn"), scene.settings
    pipeline, context = model.with_denoiser(copy.deepcopy(model.pipeline.unet)), model.context()
    chosen = list(open_parameters(pipeline, trainable(pipeline.unet, "full")).values())
    optimiser = torch.optim.Adam(chosen, lr=float(settings.get("relearn_lr", RATE)))
    forget, total = model.data.forget, int(settings.get("relearn_steps", STEPS))

    def objective(positions: torch.Tensor) -> torch.Tensor:
        batch = noised(pipeline, forget, positions, context, "relearn")
        return denoising_loss(pipeline, batch, model.data.texts[batch.concepts], context)

    batches = forget.passes(min(BATCH, len(forget)), context.stream("order", "relearn", device="cpu"))
    run_steps(pipeline.unet, islice(batches, total), objective, optimiser, total=total)
    pipeline.unet.eval().requires_grad_(False)
    hits, n = model.recognised(scene.need_classifier("relearn"), pipeline)
    return Measured({"relearned": 100 * hits / n}, {"relearned": [hits, n]})
