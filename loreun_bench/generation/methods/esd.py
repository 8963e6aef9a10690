"""Erased Stable Diffusion, in its two parameter sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt

from loreun_bench.decorators import method
from loreun_bench.generation.unlearning.method import Asked, Context, Count, Data, Method, Parameters

if TYPE_CHECKING:
    from torch import Tensor

    from loreun_bench.generation.pipeline.pipelines import Pipeline


@dataclass(frozen=True)
class _Erase(Method):
    """Steer the prediction for a concept away from the concept: no pictures are read.

    ε_θ(x_t | c) is trained to be ε°(x_t | ∅) - eta (ε°(x_t | c) - ε°(x_t | ∅)), where ε° is the original model and x_t
    comes from it too, by denoising with the concept's prompt for a random part of `ddim_steps`. eta is that of the
    paper's equation; the authors' newer code calls eta + 1 what is eta here. start_from "current" takes x_t from the model
    being edited, as their first code did. What stands for the concept is the scenario's `concept_text`; of several
    forgotten concepts a random one is erased at each step, so that they share the iterations.
    """

    spreads: ClassVar[bool] = True

    iterations: Count = 1000
    batch_size: Count = 1
    eta: Annotated[float, Gt(0)] = 1.0
    start_guidance: Annotated[float, Ge(0)] = 3.0
    ddim_steps: Count = 50
    start_from: Literal["original", "current"] = "original"

    def samples(self, sizes: Mapping[str, int]) -> int:
        """Half the steps of guided denoising, on average, and three predictions an iteration."""
        return self.iterations * self.batch_size * (self.ddim_steps + 3)

    def check(self, asked: Asked) -> None:
        """UserError if the pipeline has fewer timesteps than `ddim_steps`."""
        from loreun_bench.generation.pipeline.schedules import check_steps

        check_steps(asked.schedule, self.ddim_steps, f"methods.{self.name}.ddim_steps")

    def unlearn(self, pipeline: Pipeline, data: Data, context: Context) -> None:
        """Unlearn in place."""
        import copy
        from dataclasses import replace
        from itertools import repeat

        import torch

        from loreun_bench.generation.unlearning.gradient import open_parameters, trainable
        from loreun_bench.training.loop import run_steps
        from loreun_bench.training.optimiser import make_optimiser
        from loreun_bench.training.snapshots import Snapshots

        original = replace(pipeline, unet=copy.deepcopy(pipeline.unet))
        chosen = open_parameters(pipeline, trainable(pipeline.unet, self.parameters))
        optimiser = make_optimiser(chosen.values(), "adam", self.lr, 0.0, 0.0)
        texts, which = data.bare_texts(pipeline), context.stream("esd", "concept", device="cpu")
        steps = min(self.iterations, context.limit_steps or self.iterations)

        def objective(_: None) -> Tensor:
            text = texts[int(torch.randint(len(texts), (), generator=which))].expand(self.batch_size, -1, -1)
            return self._loss(pipeline, original, text, pipeline.no_text.expand_as(text), context)

        run_steps(
            pipeline.unet, repeat(None, steps), objective, optimiser, total=steps, snapshots=Snapshots(context)
        )
        pipeline.unet.requires_grad_(False)

    def _loss(self, pipeline: Pipeline, original: Pipeline, text: Tensor, empty: Tensor, context: Context) -> Tensor:
        """The squared error to the target at one random timestep: that of x_t's noise, up to a step of DDIM."""
        import torch

        from loreun_bench.generation.pipeline.sampling import denoise
        from loreun_bench.generation.unlearning.gradient import predict

        generator, meter = context.stream("esd", device="cpu"), context.meter
        part = int(torch.randint(self.ddim_steps, (), generator=generator))
        width = pipeline.timesteps // self.ddim_steps
        at = int(
            torch.randint((self.ddim_steps - 1 - part) * width, (self.ddim_steps - part) * width, (), generator=generator)
        )
        start = torch.randn(len(text), *pipeline.latent_shape, generator=context.stream("noise", "esd"), device=text.device)
        guidance = torch.full((len(text),), self.start_guidance, device=text.device)
        t = torch.full((len(text),), at, device=text.device)
        first, until = (0, part) if context.protocol.noise_of_t else (1, min(part + 2, self.ddim_steps))
        with torch.no_grad():
            source = original if self.start_from == "original" else pipeline
            noisy = denoise(source, start, text, guidance, self.ddim_steps, slice(first, until), context.precision)
            plain, concept = (predict(original, noisy, t, words, context) for words in (empty, text))
        meter.forward_samples += (until - first) * len(text) * (1 if self.start_guidance == 1 else 2)
        meter.backward_samples += len(text)
        target = plain - self.eta * (concept - plain)
        return (predict(pipeline, noisy, t, text, context) - target).square().mean()


@method("ESD-x", uses={"forget"}, paper="Gandikota et al., ICCV 2023", track="generation")
@dataclass(frozen=True)
class CrossAttentionErase(_Erase):
    """ESD of the cross-attention layers: for concepts named in the prompt, such as styles."""

    parameters: Parameters = "cross-attention"


@method("ESD-u", uses={"forget"}, paper="Gandikota et al., ICCV 2023", track="generation")
@dataclass(frozen=True)
class UnconditionalErase(_Erase):
    """ESD of all but the cross-attention layers: for objects and nudity, whatever the prompt."""

    parameters: Parameters = "no-cross-attention"
