"""The LoReUn operator: per-sample loss, excess-loss weights, renormalisation and weighted sum in one call."""

from loreun_bench.ops.functional import (
    loreun_cross_entropy,
    loreun_linear_cross_entropy,
    loreun_mse_loss,
    loreun_step,
    loreun_weights,
)

__all__ = ["loreun_cross_entropy", "loreun_linear_cross_entropy", "loreun_mse_loss", "loreun_step", "loreun_weights"]
