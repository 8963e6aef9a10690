"""By what pixels are normalised: the data's own statistics, given ones, or nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from loreun_bench.classification.config import Normalisation
from loreun_bench.errors import UserError

if TYPE_CHECKING:
    from loreun_bench.classification.data.prepared import DataInfo


def normalised(info: DataInfo, by: Literal["data", "none"] | Normalisation) -> DataInfo:
    """`info` with the mean and standard deviation that its images are normalised by. UserError if they do not fit."""
    if by == "data":
        return info
    channels = info.shape[2]
    mean, std = ((0.0,), (1.0,)) if by == "none" else (by.mean, by.std)
    for name, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, channels):
            expected = f"1 or {channels}, the channels of {info.name}" if channels > 1 else f"1: {info.name} is grey"
            raise UserError(f"normalise.{name}: {len(values)} values, expected {expected}")
    return replace(info, mean=mean * (channels // len(mean)), std=std * (channels // len(std)))


def words(info: DataInfo) -> str:
    """How a plan and a table say it, such as "mean 0.5, std 0.5", or "none"."""
    if set(info.mean) == {0.0} and set(info.std) == {1.0}:
        return "none"
    return ", ".join(f"{name} {_short(values)}" for name, values in (("mean", info.mean), ("std", info.std)))


def _short(values: Any) -> str:
    return "/".join(f"{value:.4g}" for value in (values if len(set(values)) > 1 else values[:1]))
