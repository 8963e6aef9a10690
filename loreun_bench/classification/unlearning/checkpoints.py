"""Weights that a user brings: safetensors, or a PyTorch file that holds tensors and plain values and nothing that runs."""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from loreun_bench.errors import UserError, did_you_mean
from loreun_bench.reading import check_zip

Weights = Mapping[str, Tensor]
ASIDE = re.compile(r"(^|[._])(ema|teacher|swa)")  # a second set of weights, beside those that were trained
TRAINER = re.compile(r"^(optim\w*|(lr_)?sched\w*|scaler|epoch|step|global_step|iteration|criterion|loss\w*)(\.|$)")
COMPILED = "_orig_mod."  # torch.compile puts it anywhere in a name
COUNTER = "num_batches_tracked"


def read(path: str | Path, model: nn.Module) -> str:
    """Load the weights at `path` into `model`; what was unwrapped, stripped or converted, in words ("" if nothing was).

    They may lie in a dict, one or two levels deep, under any key, with any prefix on their names (`module.`,
    `_orig_mod.`, …), if only one reading fits the model; batch counters may be missing, and tied weights may be there
    once. UserError if they are missing, unsafe to load, ambiguous, or do not fit.
    """
    found = _content(Path(path))
    own = model.state_dict()
    readings = [reading for where, values in _places(found) for reading in _readings(where, values, own)]
    fitting = [reading for reading in readings if not reading.problem]
    chosen = [r for r in fitting if not ASIDE.search(r.where + r.prefix)] or fitting
    if not readings:
        raise UserError(f"checkpoint {path} is not a state_dict of tensors: it holds {_described(found)}")
    if not chosen:
        raise UserError(f"checkpoint {path} {min(readings, key=lambda reading: reading.misses).problem}")
    if len(chosen) > 1:
        names = " and ".join(" ".join(filter(None, (r.where, r.prefix))) or "the file's own" for r in chosen)
        raise UserError(f"checkpoint {path}: several sets of weights fit ({names}); save the one that is meant")
    weights = {name: _converted(path, name, tensor, own[name]) for name, tensor in chosen[0].weights.items()}
    model.load_state_dict(own | weights)
    return "; ".join(chosen[0].said(own))


@dataclass(frozen=True)
class _Reading:
    """A way to read weights: where they lie, the prefix taken off, what fits, and what does not."""

    where: str
    prefix: str
    weights: Weights
    left: tuple[str, ...]  # names that are none of the model's
    problem: str
    misses: int

    def said(self, own: Weights) -> Iterator[str]:
        """What a plan tells of it."""
        if self.where:
            yield f"weights under '{self.where}'"
        if self.prefix:
            yield f"prefix '{self.prefix}' stripped"
        if self.left:
            yield f"{len(self.left)} others left out (first: {self.left[0]})"
        if any(name.endswith(COUNTER) for name in own.keys() - self.weights.keys()):
            yield f"no {COUNTER} in it: counted from 0"
        kinds = {str(t.dtype)[6:] for n, t in self.weights.items() if t.is_floating_point() and t.dtype != own[n].dtype}
        if kinds:
            yield f"{' and '.join(sorted(kinds))} converted to the model's own type"


def _readings(where: str, values: Weights, own: Weights) -> Iterator[_Reading]:
    """The names as they are, without torch.compile's part; then each prefix under which a name of the model's is found."""
    names = {name if any(COMPILED in n for n in own) else name.replace(COMPILED, ""): name for name in values}
    plain = {name: values[old] for name, old in names.items()}
    first = next((name for name in own if not name.endswith(COUNTER)), "")
    prefixes = {"": names.get(first, "").removesuffix(first)}
    for name in plain:
        if name.endswith("." + first):
            prefixes[name.removesuffix(first)] = names[name].removesuffix(first)
    for prefix, said in prefixes.items():
        yield _reading(where, prefix, said, plain, own)


def _reading(where: str, prefix: str, said: str, values: Weights, own: Weights) -> _Reading:
    inside = {name[len(prefix) :]: tensor for name, tensor in values.items() if name.startswith(prefix)}
    outside = [name for name in values if not name.startswith(prefix)]
    for name in own.keys() - inside.keys():  # tied weights are saved once by safetensors' own writer
        twin = next((o for o in own if o in inside and own[o].data_ptr() == own[name].data_ptr() and own[o].numel()), None)
        if twin is not None and own[twin].shape == own[name].shape:
            inside[name] = inside[twin]
    missing = sorted(name for name in own.keys() - inside.keys() if not name.endswith(COUNTER))
    extra = sorted(name for name in inside.keys() - own.keys() if not TRAINER.match(name))
    left = (*outside, *sorted(inside.keys() - own.keys() - set(extra)))
    weights = {name: inside[name] for name in own if name in inside}
    wrong = [name for name in weights if weights[name].shape != own[name].shape]
    problem = ""
    if missing or extra:
        near = f"; {did_you_mean(missing[0], extra)}" if missing and extra else ""
        problem = (
            f"does not fit the model: {len(missing)} weights missing (first: {next(iter(missing), '-')}{near}), "
            f"{len(extra)} unknown (first: {next(iter(extra), '-')})"
        )
    elif wrong:
        shapes = tuple(weights[wrong[0]].shape), tuple(own[wrong[0]].shape)
        problem = f"does not fit the model: {wrong[0]} has shape {shapes[0]}, expected {shapes[1]}"
    return _Reading(where, said, weights, left, problem, len(missing) + len(extra) + len(wrong))


def _converted(path: str | Path, name: str, tensor: Tensor, own: Tensor) -> Tensor:
    """The tensor in the model's type. UserError if it is of another kind, or not finite in it."""
    if tensor.is_meta or tensor.layout != torch.strided:
        kind = "no values (device meta)" if tensor.is_meta else f"the layout {str(tensor.layout)[6:]}"
        raise UserError(f"checkpoint {path}: {name} has {kind}, expected a plain tensor")
    if own.is_floating_point() and not tensor.is_floating_point():
        raise UserError(f"checkpoint {path}: {name} is {str(tensor.dtype)[6:]}, expected floating numbers")
    converted = tensor.to(own.dtype)
    if tensor.is_complex() or not bool(torch.isfinite(converted).all()):
        raise UserError(f"checkpoint {path}: {name} holds values that are not finite numbers")
    return converted


def _places(found: Any, where: str = "", depth: int = 0) -> Iterator[tuple[str, Weights]]:
    """Every dict with tensors in it, at most two levels down, with the keys that lead to it."""
    if not isinstance(found, Mapping) or depth > 2:
        return
    tensors = {name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if tensors:
        yield where, tensors
    for key, value in found.items():
        if isinstance(key, str) and not TRAINER.match(key):
            yield from _places(value, f"{where}.{key}" if where else key, depth + 1)


def _content(path: Path) -> Any:
    """What is in the file; nothing in it is run. UserError if it is not there, damaged, or holds objects."""
    if not path.is_file():
        raise UserError(f"checkpoint {path} not found")
    try:
        check_zip(path, f"checkpoint {path}")
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with torch.serialization.safe_globals(_plain_values()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # safetensors raises a class of its own, and torch any, of bytes that are no checkpoint
        what = f"is damaged: {error}" if path.suffix == ".safetensors" else _refused(str(error))
        raise UserError(f"checkpoint {path} {what}") from error


def _refused(error: str) -> str:
    """Why, and what to do: torch's own message is a page."""
    cure = "where it was made, save the model's state_dict: torch.save(model.state_dict(), 'weights.pt')"
    if "TorchScript" in error:
        return f"is a TorchScript archive; {cure}"
    classes = re.findall(r"GLOBAL (\S+)", error)
    named = f" ({classes[0]})" if classes else ", or is damaged"
    return f"holds more than tensors{named}, which is not loaded as it could run code; {cure}"


def _plain_values() -> list[Any]:
    """What training scripts save beside weights and cannot run: arguments, paths, NumPy's numbers."""
    import numpy as np

    allowed: list[Any] = [argparse.Namespace, pathlib.PosixPath, pathlib.PurePosixPath, np.dtype, np.ndarray]
    allowed += [type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "u1", "?")]
    with contextlib.suppress(ImportError, AttributeError):
        from numpy._core import multiarray

        allowed += [multiarray.scalar, multiarray._reconstruct]
    return allowed


def _described(found: Any) -> str:
    if isinstance(found, Mapping):
        return f"a dict with keys {', '.join(map(str, list(found)[:5]))}" if found else "an empty dict"
    return f"a {type(found).__name__}"
