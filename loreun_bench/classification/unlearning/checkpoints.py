"""Weights that a user brings: safetensors, or a .pt that holds nothing but tensors."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import nn

from loreun_bench.errors import UserError


def read(path: str | Path, model: nn.Module) -> None:
    """Load the weights at `path` into `model`. UserError if they are missing, unsafe to load, or do not fit."""
    weights = _weights(Path(path))
    own = model.state_dict()
    missing, extra = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    if missing or extra:
        raise UserError(
            f"checkpoint {path} does not fit the model: {len(missing)} weights missing (first: {next(iter(missing), '-')}), "
            f"{len(extra)} unknown (first: {next(iter(extra), '-')})"
        )
    for name, tensor in own.items():
        if weights[name].shape != tensor.shape:
            found, expected = tuple(weights[name].shape), tuple(tensor.shape)
            raise UserError(f"checkpoint {path} does not fit the model: {name} has shape {found}, expected {expected}")
        if weights[name].is_complex() or not bool(torch.isfinite(weights[name].double()).all()):
            raise UserError(f"checkpoint {path}: {name} holds values that are not finite numbers")
    model.load_state_dict(weights)


def _weights(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise UserError(f"checkpoint {path} not found")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise UserError(f"checkpoint {path} holds more than tensors, or is damaged; save its state_dict") from error
    except Exception as error:  # safetensors raises a class of its own
        raise UserError(f"checkpoint {path} is damaged: {error}") from error
    weights = weights.get("state_dict", weights) if isinstance(weights, dict) else weights
    if not isinstance(weights, dict) or not all(isinstance(v, torch.Tensor) for v in weights.values()):
        raise UserError(f"checkpoint {path} is not a state_dict of tensors")
    return weights
