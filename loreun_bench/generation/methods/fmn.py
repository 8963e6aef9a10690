"""Forget-Me-Not: attention is taken away from the concept's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge

from loreun_bench.decorators import method
from loreun_bench.generation.unlearning.method import Asked, Context, Count, Data, Method

if TYPE_CHECKING:
    from torch import Tensor

    from loreun_bench.generation.pipeline.pipelines import Pipeline


@method("FMN", uses={"forget"}, paper="Zhang et al., 2023, Forget-Me-Not", track="generation")
@dataclass(frozen=True)
class ForgetMeNot(Method):
    """Shrink the attention that pictures of the concept pay to its words, on every cross-attention layer.

    The loss is the norm of those attention probabilities over layers, heads and places; nothing holds the rest in place.
    words: "all" takes every word of the concept's name, as the authors do, or where the prompt does not have the name (a
    concept of another wording), the words that no kept concept's prompt has; "own" takes those of the name that no kept
    concept's prompt has, if there are any. end_token: the first end-of-text token, which sums up the prompt, counts as one
    of the words (only the first: where a tokenizer pads with the same token, marking all of them would mark nearly every
    position). parameters: "cross-attention", whose keys the loss is about; the authors' default is "full", after a textual
    inversion that is not done here; on the embedded digits, at the preset's rate, it leaves 11 % of the other classes
    recognised, where cross-attention leaves 89 %.
    """

    lr: Annotated[float, Ge(0)] = 2e-6
    batch_size: Count = 1
    parameters: Literal["full", "cross-attention"] = "cross-attention"
    words: Literal["all", "own"] = "all"
    steps: Count = 35
    weight_decay: Annotated[float, Ge(0)] = 0.01
    end_token: bool = True

    def samples(self, sizes: Mapping[str, int]) -> int:
        """One prediction a step."""
        return self.steps * self.batch_size

    def check(self, asked: Asked) -> None:
        """UserError if a forgotten concept's prompt has no word of it within what the text encoder reads."""
        for number, name in zip(asked.forgotten, asked.names, strict=True):
            self._positions(asked.tokenizer, asked.prompts, number, asked.forgotten, name)

    def unlearn(self, pipeline: Pipeline, data: Data, context: Context) -> None:
        """Unlearn in place."""
        import torch

        from loreun_bench.generation.pipeline.attention import watched
        from loreun_bench.generation.unlearning.gradient import noised, open_parameters, predict, trainable
        from loreun_bench.training.constraints import Clip
        from loreun_bench.training.loop import run_steps
        from loreun_bench.training.optimiser import make_optimiser
        from loreun_bench.training.snapshots import Snapshots

        chosen = open_parameters(pipeline, trainable(pipeline.unet, self.parameters))
        optimiser = make_optimiser(chosen.values(), "adamw", self.lr, 0.0, self.weight_decay)
        words = {
            number: self._positions(pipeline.tokenizer, data.prompts, number, data.forgotten, name)
            for number, name in zip(data.forgotten, data.names, strict=True)
        }
        batches = data.forget.passes(self.batch_size, context.stream("order", "forget", device="cpu"))

        with watched(pipeline.unet) as attention:

            def objective(positions: Tensor) -> Tensor:
                batch = noised(pipeline, data.forget, positions, context, "forget")
                attention.clear()
                predict(pipeline, batch.noisy, batch.t, data.texts[batch.concepts], context)
                context.meter.backward_samples += len(positions)
                paid: Tensor = torch.cat(
                    [
                        layer[batch.concepts == number][:, :, chosen].flatten()
                        for number, chosen in words.items() for layer in attention
                    ]
                )  # fmt: skip
                return paid.square().sum().sqrt()

            total = min(self.steps, context.limit_steps or self.steps)
            clip = Clip(list(chosen.values()), 1.0)
            run_steps(
                pipeline.unet, islice(batches, total), objective, optimiser, constraint=clip, total=total,
                snapshots=Snapshots(context, forget=data.forget),
            )  # fmt: skip
        pipeline.unet.requires_grad_(False)

    def _positions(
        self, tokenizer: Any, prompts: tuple[str, ...], number: int, forgotten: tuple[int, ...], name: str
    ) -> list[int]:
        kept = tuple(prompt for other, prompt in enumerate(prompts) if other not in forgotten)
        return concept_positions(tokenizer, prompts[number], kept, name, self.words, self.end_token)


def concept_positions(
    tokenizer: Any, prompt: str, kept: tuple[str, ...], name: str, words: str, end_token: bool
) -> list[int]:
    """Where in the tokenised prompt the concept's words are, see `ForgetMeNot`, and the first end of text.

    Words that are cut off at the end of a long prompt are not among them. UserError if none is left.
    """
    from loreun_bench.errors import UserError

    every = [tokenizer(text, verbose=False).input_ids for text in (prompt, *kept)]
    tokens, shared = every[0], set().union(*every[1:])
    end = min(len(tokens), tokenizer.model_max_length) - 1  # of a prompt that is cut, the last token read is the end
    of_name = _within(tokens, tokenizer(name, add_special_tokens=False, verbose=False).input_ids, end)
    told = [i for i in range(end) if tokens[i] not in tokenizer.all_special_ids]
    own = [i for i in of_name or told if tokens[i] not in shared]
    found = (of_name if words == "all" else own) or own or of_name
    if not found:
        raise UserError(f"FMN: the prompt {prompt!r} has no word that tells '{name}' from what is kept, within the "
                        f"{tokenizer.model_max_length} tokens that are read")  # fmt: skip
    return [*found, end] if end_token else found


def _within(tokens: list[int], part: list[int], end: int) -> list[int]:
    """The positions before `end` of the last place where `tokens` has `part`, as a prompt may begin with the same word ("an
    image of image"); empty if there is none."""
    starts = range(min(end, len(tokens) - len(part) + 1)) if part else ()
    start = next((i for i in reversed(starts) if tokens[i : i + len(part)] == part), end)
    return list(range(start, min(start + len(part), end)))
