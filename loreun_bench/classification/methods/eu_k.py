"""EU-k: only the last blocks unlearn, from new weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loreun_bench.classification.methods.cf_k import CatastrophicForgetting
from loreun_bench.classification.unlearning.method import Asked, Context, Data
from loreun_bench.decorators import method
from loreun_bench.errors import UserError

if TYPE_CHECKING:
    from torch import nn


@method("EU-k", uses={"retain"}, paper="Goel et al., arXiv 2201.06640")
@dataclass(frozen=True)
class ExactUnlearning(CatastrophicForgetting):
    """CF-k from initial weights of the blocks that move."""

    def check(self, asked: Asked) -> None:
        """New blocks must see pictures."""
        super().check(asked)
        if self.freeze_batchnorm:
            raise UserError("the new blocks' batch norm would never see a picture: leave freeze_batchnorm out")

    def prepare(self, model: nn.Module, data: Data, context: Context) -> Any:
        """The blocks, with weights of a new model."""
        from loreun_bench.training.frozen import last_blocks

        fresh = context.fresh()
        moving = last_blocks(model, self.k)
        for part, new in zip(moving, last_blocks(fresh, self.k), strict=True):
            part.load_state_dict(new.state_dict())
        return moving
