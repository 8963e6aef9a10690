"""A small convolutional network that trains in seconds on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loreun_bench.decorators import model

if TYPE_CHECKING:
    from torch import nn


@model("small-cnn")
def small_cnn(channels: int, classes: int, size: tuple[int, int], width: int = 16) -> nn.Module:
    """Three 3×3 convolutions of width, 2·width, 4·width channels with batch norm, ReLU, pooling; then a linear layer."""
    from torch import nn

    def stage(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

    return nn.Sequential(
        *stage(channels, width), nn.MaxPool2d(2),
        *stage(width, 2 * width), nn.MaxPool2d(2),
        *stage(2 * width, 4 * width), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4 * width, classes),
    )  # fmt: skip
