"""Forget-Me-Not: attention is taken away from the concept's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from loreun_bench.generation.unlearning.method import Context, Count, Data, Method, Parameters
from loreun_bench.registry import method

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from loreun_bench.generation.pipeline.pipelines import Pipeline


@method("FMN", uses={"forget"}, paper="Zhang et al., 2023, Forget-Me-Not", track="generation")
@dataclass(frozen=True)
class ForgetMeNot(Method):
    """Shrink the attention that pictures of the concept pay to its words, on every cross-attention layer.

    The loss is the norm of those attention probabilities over layers, heads and places; nothing holds the rest in place.
    end_token: the first end-of-text token, which sums up the prompt, counts as one of the words (only the first: where a
    tokenizer pads with the same token, marking all of them would mark nearly every position).
    """

    lr: Annotated[float, Ge(0)] = 2e-6
    batch_size: Count = 1
    parameters: Parameters = "cross-attention"
    steps: Count = 35
    weight_decay: Annotated[float, Ge(0)] = 0.01
    end_token: bool = True

    def samples(self, sizes: Mapping[str, int]) -> int:
        """One prediction a step."""
        return self.steps * self.batch_size

    def unlearn(self, pipeline: Pipeline, data: Data, context: Context) -> None:
        """Unlearn in place."""
        import torch

        from loreun_bench.generation.pipeline.attention import watched
        from loreun_bench.generation.unlearning.gradient import noised, open_parameters, predict, trainable
        from loreun_bench.training.loop import run_steps
        from loreun_bench.training.optimiser import make_optimiser

        chosen = open_parameters(pipeline, trainable(pipeline.unet, self.parameters))
        optimiser = make_optimiser(chosen.values(), "adamw", self.lr, 0.0, self.weight_decay)
        words = concept_positions(pipeline.tokenizer, data.prompts, data.forgotten, self.end_token)
        batches = data.forget.passes(self.batch_size, context.stream("order", "forget", device="cpu"))

        with watched(pipeline.unet) as attention:

            def objective(positions: Tensor) -> Tensor:
                batch = noised(pipeline, data.forget, positions, context, "forget")
                attention.clear()
                predict(pipeline, batch.noisy, batch.t, data.texts[batch.concepts], context)
                context.meter.backward_samples += len(positions)
                paid: Tensor = torch.cat([layer[:, :, words].flatten() for layer in attention])
                return paid.square().sum().sqrt()

            total = min(self.steps, context.limit_steps or self.steps)
            clip = _Clip(list(chosen.values()))
            run_steps(pipeline.unet, islice(batches, total), objective, optimiser, constraint=clip, total=total)
        pipeline.unet.requires_grad_(False)


def concept_positions(tokenizer: Any, prompts: tuple[str, ...], forgotten: int, end_token: bool) -> list[int]:
    """Where in the tokenised prompt the words are that no other concept's prompt has, and the first end of text."""
    from loreun_bench.errors import UserError

    own, *others = (tokenizer(p).input_ids for p in (prompts[forgotten], *prompts[:forgotten], *prompts[forgotten + 1 :]))
    shared = set().union(*others) if others else set()
    end = own.index(tokenizer.eos_token_id)
    found = [i for i, token in enumerate(own[:end]) if token not in shared and token not in tokenizer.all_special_ids]
    if not found:
        raise UserError(f"FMN: the prompt {prompts[forgotten]!r} has no word that the other concepts' prompts lack")
    return found + [end] * end_token


class _Clip:
    """Gradients are cut to norm 1."""

    def __init__(self, parameters: list[torch.nn.Parameter]) -> None:
        self._parameters = parameters

    def before_step(self) -> None:
        """Cut."""
        import torch

        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)

    def after_step(self) -> None:
        """Nothing."""
