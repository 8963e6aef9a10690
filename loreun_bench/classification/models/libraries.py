"""Models of timm and torchvision by name: `timm:NAME`, `torchvision:NAME`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loreun_bench.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from torch import nn

LIBRARIES = ("timm", "torchvision")


def library(name: str) -> str:
    """The library that the model's name begins with, or "" if it is no library's."""
    head, colon, _ = name.partition(":")
    return head if colon and head in LIBRARIES else ""


def version(name: str) -> str:
    """What a stage's key holds of the library: "timm 1.0.31", or "" (torchvision's version stands in every manifest)."""
    return f"timm {_timm().__version__}" if library(name) == "timm" else ""


def from_library(name: str, settings: Mapping[str, Any], channels: int, classes: int, size: tuple[int, int]) -> nn.Module:
    """A model without pretrained weights, unless the settings ask for them, for images [B, channels, *size].

    UserError if the library is not installed or has no model of that name; whatever it raises of the settings.
    """
    build = _from_timm if library(name) == "timm" else _from_torchvision
    return build(name.partition(":")[2], settings, channels, classes, size)


def _from_timm(
    name: str, settings: Mapping[str, Any], channels: int, classes: int, size: tuple[int, int]
) -> nn.Module:
    timm = _timm()
    if not timm.is_model(name):
        raise UserError(f"model 'timm:{name}': timm has none of that name; {_near(name, timm.list_models())}")
    found = timm.get_pretrained_cfg(name)
    sized = {"img_size": size} if found is not None and found.fixed_input_size else {}
    options = {"in_chans": channels, "num_classes": classes, "pretrained": False, **sized, **settings}
    model: nn.Module = timm.create_model(name, **options)
    return model


def _from_torchvision(
    name: str, settings: Mapping[str, Any], channels: int, classes: int, size: tuple[int, int]
) -> nn.Module:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise UserError(f"model 'torchvision:{name}': torchvision has none of that name; {_near(name, known)}")
    sized = {"image_size": size[0]} if name.startswith("vit_") else {}
    model: nn.Module = models.get_model(name, **{"weights": None, "num_classes": classes, **sized, **settings})
    if channels != 3:
        _replace_first_convolution(model, channels)
    return model


def _replace_first_convolution(model: nn.Module, channels: int) -> None:
    """torchvision's models take three channels: the first convolution is made again for `channels`."""
    from torch import nn

    path, old = next((path, module) for path, module in model.named_modules() if isinstance(module, nn.Conv2d))
    new = nn.Conv2d(
        channels, old.out_channels, old.kernel_size, old.stride, old.padding, old.dilation,  # type: ignore[arg-type]
        bias=old.bias is not None, padding_mode=old.padding_mode,
    )  # fmt: skip
    parent, _, last = path.rpartition(".")
    setattr(model.get_submodule(parent), last, new)


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise UserError("models 'timm:NAME' need timm: pip install 'loreun-bench[timm]'") from error
    return timm


def _near(name: str, known: list[str]) -> str:
    """A suggestion; libraries have too many models to list."""
    found = did_you_mean(name, known)
    return found if found.startswith("did") else "see its own list"
