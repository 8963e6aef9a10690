"""Training pictures as latents: encoded once, when they are first used, and kept on the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from loreun_bench.training.loop import epoch

if TYPE_CHECKING:
    from loreun_bench.generation.pipeline.pipelines import Pipeline
    from loreun_bench.generation.scoring.pictures import Pictures


class LatentSet:
    """Some of a data set's pictures, each with the number of its concept."""

    def __init__(self, pipeline: Pipeline, pictures: Pictures, positions: Tensor, concepts: Tensor) -> None:
        self._pipeline, self._pictures, self._positions = pipeline, pictures, positions
        self.concepts = concepts.to(pipeline.device)
        dtype = torch.bfloat16 if pipeline.device == "cuda" else torch.float32
        shape = (len(positions), 2, *pipeline.latent_shape)
        self._moments = torch.empty(shape, dtype=dtype, device=pipeline.device)
        self._known = torch.zeros(len(positions), dtype=torch.bool)  # on the CPU, where positions are drawn

    def __len__(self) -> int:
        return len(self._positions)

    def showing(self, concepts: Tensor) -> LatentSet:
        """Those that show one of the concepts."""
        kept = torch.isin(self.concepts, concepts.to(self.concepts.device)).cpu()
        return LatentSet(self._pipeline, self._pictures, self._positions[kept], self.concepts[kept.to(self.concepts.device)])

    def moments(self, chosen: Tensor) -> Tensor:
        """Mean and standard deviation [n, 2, c, h, w] of the latents of the chosen [n], an index on the CPU."""
        missing = chosen[~self._known[chosen]].unique()
        if len(missing):
            pixels = self._pictures.load(self._positions[missing], min(self._pipeline.image_size))
            self._moments[missing.to(self._moments.device)] = self._pipeline.encode(pixels).to(self._moments.dtype)
            self._known[missing] = True
        return self._moments[chosen.to(self._moments.device)].float()

    def draw(self, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """A latent [n, c, h, w] of each, from the autoencoder's posterior."""
        mean, deviation = self.moments(chosen).unbind(1)
        return mean + deviation * torch.randn(mean.shape, generator=generator, device=mean.device)

    def state_dict(self) -> dict[str, Any]:
        """Latents as they were encoded: in another batch their last bits may be others."""
        return {"known": self._known, "moments": self._moments[self._known.to(self._moments.device)]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing of this is encoded again."""
        self._known.copy_(state_dict["known"])
        self._moments[self._known.to(self._moments.device)] = state_dict["moments"].to(self._moments.device)

    def passes(self, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Batches without end: pass after pass over all pictures, each in a new order, none left out."""
        while True:
            yield from epoch(len(self), batch_size, generator)
