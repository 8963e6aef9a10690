"""ResNet-18 for small images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loreun_bench.decorators import model

if TYPE_CHECKING:
    from torch import nn


@model("resnet18", paper="He et al., CVPR 2016")
def resnet18(channels: int, classes: int, size: tuple[int, int]) -> nn.Module:
    """torchvision's ResNet-18; below 64 pixels with the CIFAR stem: a 3×3 first convolution, stride 1, no pooling."""
    from torch import nn
    from torchvision.models import resnet18

    network: nn.Module = resnet18(num_classes=classes)
    if min(size) < 64:
        network.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    elif channels != 3:
        network.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    return network
