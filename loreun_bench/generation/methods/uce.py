"""Unified concept editing: keys and values of cross-attention are solved for, and nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge, Gt

from loreun_bench.decorators import method
from loreun_bench.generation.unlearning.method import Context, Data, Method

if TYPE_CHECKING:
    from torch import Tensor

    from loreun_bench.generation.pipeline.pipelines import Pipeline


@method("UCE", uses={"forget"}, paper="Gandikota et al., WACV 2024", track="generation")
@dataclass(frozen=True)
class UnifiedConceptEditing(Method):
    """Every key and value matrix W becomes the W* that answers a forgotten concept as W answers `guide`, and the kept
    concepts as before, in least squares, with `regularisation` times the distance to W.

    A concept stands for itself alone and in its prompt, by the text encoder's state at the last word, as in the authors'
    newer code; `end_token` takes the first end-of-text token, which sums the prompt up, as well. No pictures are read.
    """

    space: ClassVar[Mapping[str, tuple[float, float]]] = {"regularisation": (0.01, 10.0)}

    guide: str = ""
    regularisation: Annotated[float, Gt(0)] = 0.5
    erase: Annotated[float, Gt(0)] = 1.0
    preserve: Annotated[float, Ge(0)] = 1.0
    end_token: bool = True

    def unlearn(self, pipeline: Pipeline, data: Data, context: Context) -> None:
        """Solve in place, in float64."""
        import torch

        whole = [data.prompts[number] for number in data.forgotten]
        kept = [prompt for number, prompt in enumerate(data.prompts) if number not in data.forgotten]
        old = self._states(pipeline, [*dict.fromkeys([*data.names, *data.bare, *whole])])
        guide = self._states(pipeline, [self.guide])
        new = guide.repeat(len(old) // len(guide), 1)
        same = self._states(pipeline, kept)
        with torch.no_grad():
            for name, weight in pipeline.unet.named_parameters():
                if ".attn2.to_k.weight" in name or ".attn2.to_v.weight" in name:
                    weight.copy_(self._solved(weight.double(), old, new, same))
        context.meter.forward_samples += len(old) + len(same)

    def _solved(self, weight: Tensor, old: Tensor, new: Tensor, same: Tensor) -> Tensor:
        """(λ W + Σ s W c' cᵀ) (λ 1 + Σ s c cᵀ)⁻¹ over pairs of a state c and that whose answer it gets, c'."""
        import torch

        unit = self.regularisation * torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
        answers = unit + self.erase * new.T @ old + self.preserve * same.T @ same
        states = unit + self.erase * old.T @ old + self.preserve * same.T @ same
        solved: Tensor = torch.linalg.solve(states, weight @ answers, left=False)
        return solved

    def _states(self, pipeline: Pipeline, texts: list[str]) -> Tensor:
        """The last word's state of each text, and the end of text's if it counts [n, width], in float64."""
        import torch

        embedded = pipeline.embed(texts).double()
        ends = [min(len(ids), embedded.shape[1]) - 1 for ids in pipeline.tokenizer(texts, verbose=False).input_ids]
        rows = [(k, at) for k, end in enumerate(ends) for at in ([end - 1, end] if self.end_token else [end - 1])]
        return torch.stack([embedded[k, max(at, 0)] for k, at in rows])
