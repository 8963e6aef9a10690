"""The LoReUn operator: per-sample loss, excess-loss weights, renormalisation and weighted sum in one call."""

from loreun_bench.ops.accumulation import Accumulation
from loreun_bench.ops.functional import (
    loreun_cross_entropy,
    loreun_linear_cross_entropy,
    loreun_losses,
    loreun_mse_loss,
    loreun_square_losses,
    loreun_step,
    loreun_weights,
)

__all__ = [
    "Accumulation",
    "loreun_cross_entropy",
    "loreun_linear_cross_entropy",
    "loreun_losses",
    "loreun_mse_loss",
    "loreun_square_losses",
    "loreun_step",
    "loreun_weights",
]
