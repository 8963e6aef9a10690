"""The network with which CIFAR-10 is learned to 94 % in the fewest operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from loreun_bench.decorators import model
from loreun_bench.errors import UserError

if TYPE_CHECKING:
    from torch import nn


@model("airbench", paper="Jordan, 2024 (arXiv 2404.00498)")
def airbench(
    channels: int, classes: int, size: tuple[int, int], widths: Sequence[int] = (64, 256, 256),
    whiten: bool = True, dirac: bool = True, mirror: bool = False,
) -> nn.Module:  # fmt: skip
    """A frozen whitening layer and three blocks of two 3×3 convolutions with GELU; batch norm only shifts; 2 M weights.

    whiten: else the first layer learns. dirac: convolutions begin as the identity, as far as they have channels.
    mirror: in evaluation, logits are the mean of a picture's and its mirror's.
    UserError for pictures of fewer than 9 pixels a side, of which three poolings leave nothing.
    """
    if min(size) < 9:
        given = "×".join(map(str, size))
        raise UserError(f"model 'airbench' needs pictures of 9×9 pixels or more, these have {given}: use small-cnn")
    from torch import nn

    from loreun_bench.classification.models.layers import Mirrored, Scaled, Whitening

    def convolution(inputs: int, outputs: int) -> nn.Module:
        made = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        if dirac:
            nn.init.dirac_(made.weight.data[:inputs])
        return made

    def norm(width: int) -> nn.Module:
        made = nn.BatchNorm2d(width, momentum=0.4)
        made.weight.requires_grad_(False)
        return made

    def block(inputs: int, width: int) -> list[nn.Module]:
        return [
            convolution(inputs, width), nn.MaxPool2d(2), norm(width), nn.GELU(),
            convolution(width, width), norm(width), nn.GELU(),
        ]  # fmt: skip

    first = Whitening(channels) if whiten else nn.Conv2d(channels, 8 * channels, 2)
    layers: list[nn.Module] = [first, nn.GELU()]
    for inputs, width in zip((first.out_channels, *widths), widths, strict=False):
        layers += block(inputs, width)
    made = Mirrored if mirror else nn.Sequential
    return made(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), Scaled(widths[-1], classes, 1 / 9))
