"""A control: LoReUn's forget weights, given to other samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from loreun_bench.decorators import weighting
from loreun_bench.weightings import Batch, Eta

if TYPE_CHECKING:
    from torch import Tensor


@weighting("random")
@dataclass(frozen=True)
class Shuffled:
    """The weights of w_f in every batch, dealt out at random: the same effective sample size, and nothing of the losses.
    Both tracks."""

    eta_f: Eta = 0.1
    control_of: ClassVar[str] = "w_f"
    normalize: ClassVar[str] = "batch"
    needs_original: ClassVar[bool] = False  # generation has the original's losses anyway

    def weights(self, batch: Batch) -> Tensor:
        """exp(-eta_f ℓ) of the batch's losses, in another order."""
        import torch

        loss = batch.clean_losses
        if batch.timesteps is not None:  # as w_f has it there: in ratio to the original's at the same timestep
            loss = loss / batch.original_losses
        order = torch.randperm(len(loss), generator=batch.generator, device=loss.device)
        return (-self.eta_f * (loss - loss.min())).exp()[order]
