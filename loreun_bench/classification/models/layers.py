"""Layers that torch does not have."""

from __future__ import annotations

import torch
from torch import Tensor, nn

PIXELS = 5_120_000  # by whose patches images are whitened: those of 5000 of CIFAR-10


class Whitening(nn.Conv2d):
    """A frozen convolution that whitens patches [k, k] of the images that training begins with, and its negative, so that
    what follows a rectifier loses nothing; its bias learns (Jordan 2024, arXiv 2404.00498, section 3.1)."""

    def __init__(self, channels: int, size: int = 2) -> None:
        super().__init__(channels, 2 * channels * size**2, size)
        self.weight.requires_grad_(False)
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]

    @torch.no_grad()
    def begin(self, images: Tensor) -> None:
        """Take the filters from images [N, C, H, W]: the eigenvectors of their patches' covariance over the root of its
        eigenvalues."""
        size, channels = self.kernel_size[0], self.in_channels
        patches = images.unfold(2, size, 1).unfold(3, size, 1).movedim(1, 3).reshape(-1, channels * size**2)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (vectors / (values.clamp(min=0) + 5e-4).sqrt()).T.reshape(-1, channels, size, size)
        self.weight.copy_(torch.cat([filters, -filters]))


class Scaled(nn.Linear):
    """A linear layer without bias whose output is multiplied by `scale`."""

    def __init__(self, inputs: int, outputs: int, scale: float) -> None:
        super().__init__(inputs, outputs, bias=False)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """x [B, inputs] → [B, outputs]."""
        return super().forward(x) * self.scale


class Mirrored(nn.Sequential):
    """Layers whose output, in evaluation, is the mean of an image's and of its mirror's (test-time augmentation)."""

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] → [B, outputs]."""
        own = super().forward(x)  # type: ignore[no-untyped-call]
        return own if self.training else (own + super().forward(x.flip(-1))) / 2  # type: ignore[no-untyped-call, no-any-return]
