"""The user's network as ours: built by name, its weights all made, and wrapped so that it takes our images and gives
logits."""

from __future__ import annotations

import contextlib
import dataclasses
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

import loreun_bench
from loreun_bench.classification.models.libraries import from_library, library
from loreun_bench.errors import Diverged, UserError
from loreun_bench.registry import call_reference, registry

MemoryFormat = Literal["channels_last", "contiguous"]
OTHERS = tuple(map(Path, (loreun_bench.__path__[0], torch.__path__[0], sysconfig.get_path("stdlib"))))


def source(name: str) -> Path:
    """The file that makes the model of this name: the user's, or one of ours. UserError for a name that is none."""
    from loreun_bench.classification.models import libraries

    if ".py:" in name:
        return Path(name.rpartition(":")[0]).resolve()
    return Path(libraries.__file__) if library(name) else registry("models").get(name).file


def build_model(name: str, settings: Mapping[str, Any], channels: int, classes: int, size: tuple[int, int]) -> nn.Module:
    """A fresh model by registered name, `FILE.py:function`, `timm:NAME` or `torchvision:NAME`, with all its weights made.

    UserError if its settings do not fit the builder, if that returns no module, or if no image passes through.
    """
    with told(f"model '{name}'"), torch.enable_grad(), _default_dtype():
        if ".py:" in name:
            model = call_reference(name, "model", channels, classes, size, **settings)
        elif library(name):
            model = from_library(name, settings, channels, classes, size)
        else:
            try:
                model = registry("models").get(name).item(channels, classes, size, **settings)
            except TypeError as error:
                raise UserError(f"model '{name}': {error}; check model_settings") from error
    _check_module(model, f"model '{name}' returned")
    network: nn.Module = model
    with told(f"model '{name}' on images [2, {channels}, {size[0]}, {size[1]}]"):
        _complete(network, torch.full((2, channels, *size), 0.5))
    return network


def adapt(model: nn.Module, classes: int, memory_format: MemoryFormat, device: str = "cpu") -> nn.Module:
    """`model` on `device`, made to take float32 images [B, C, H, W], channels last, and to give its logits [B, classes].

    Done by hooks on the module itself: the names of its weights stay, and so does every number of a model that takes
    and gives just that.
    """
    options: dict[str, Any] = {"memory_format": torch.channels_last} if memory_format == "channels_last" else {}
    model = model.to(device, **options)
    _listen(model, classes, contiguous=memory_format == "contiguous")
    return model


def logits(output: Any, classes: int, count: int | None = None) -> Tensor:
    """The logits [B, classes] in what a network returned.

    A tensor is taken as it is, but for the [classes] of a single image, which `squeeze()` leaves of [1, classes]. Of
    anything else (tuple, list, dict, dataclass, Hugging Face's ModelOutput, one in another) it is the key or attribute
    `logits`, or else the first tensor of shape [B, classes]. count: B, if it is known. UserError if there is none.
    """
    named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    for found in (output, named):
        if isinstance(found, Tensor):
            return found.unsqueeze(0) if found.shape == (classes,) and count == 1 else found
    fitting = (t for _, t in tensors_in(output) if t.dim() == 2 and t.shape[1] == classes and count in (None, len(t)))
    if (first := next(fitting, None)) is None:
        shapes = ", ".join(f"{where} {list(tensor.shape)}" for where, tensor in tensors_in(output)) or "no tensor"
        raise UserError(f"the model returns {_kind(output)} without `logits` or a tensor [B, {classes}] (found: {shapes})")
    return first


def tensors_in(output: Any, where: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor in nested containers and dataclasses, with where it is, such as "[1]" or ".hidden"."""
    if isinstance(output, Tensor):
        yield where, output
    elif isinstance(output, Mapping):
        for key, value in output.items():
            yield from tensors_in(value, f"{where}[{key!r}]")
    elif isinstance(output, (tuple, list)):
        for number, value in enumerate(output):
            yield from tensors_in(value, f"{where}[{number}]")
    elif dataclasses.is_dataclass(output):
        for field in dataclasses.fields(output):
            yield from tensors_in(getattr(output, field.name), f"{where}.{field.name}")


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """What happens to `model` inside leaves no trace, also after an error: weights, buffers (those that are not stored,
    too), gradients and what needs them, the mode, hooks and plain attributes of every submodule."""
    modules = [(module, {k: (v, _content(v)) for k, v in vars(module).items()}) for module in model.modules()]
    plain = (value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor))
    every = {id(t): t for t in (*model.parameters(), *model.buffers(), *plain)}.values()
    tensors = [(tensor, tensor.detach().clone(), tensor.requires_grad) for tensor in every]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    try:
        for parameter, _ in gradients:
            parameter.grad = None
        yield
    finally:
        for module, before in modules:
            _restore(vars(module), before)
        with torch.no_grad():
            for tensor, value, needs in tensors:
                if not torch.equal(tensor, value):
                    tensor.copy_(value)
                if tensor.is_leaf and tensor.requires_grad != needs:
                    tensor.requires_grad_(needs)
        for parameter, gradient in gradients:
            parameter.grad = gradient


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Turn whatever a network raises inside into a UserError of one line, with the last place in the user's own code."""
    try:
        yield
    except (UserError, KeyboardInterrupt):
        raise
    except Diverged as error:
        raise UserError(f"{what}: {error}") from error
    except BaseException as error:
        own = [f for f in traceback.extract_tb(error.__traceback__) if not _foreign(Path(f.filename))]
        where = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
        raise UserError(f"{what} raised {type(error).__name__}: {error}{where}") from error


def contiguously(x: Tensor) -> Tensor:
    """`x` with the strides of a contiguous tensor; `contiguous()` leaves grey images channels last, as they are both."""
    return x.clone(memory_format=torch.contiguous_format)


def dtype_of(model: nn.Module) -> torch.dtype:
    """The type of the model's first floating weight, which its images are given in."""
    every = (*model.parameters(), *model.buffers())
    return next((t.dtype for t in every if t.is_floating_point()), torch.float32)


def device_of(model: Any) -> str:
    """Where a model of the user's is. UserError if it is no module, has no weights, or lies in several places."""
    _check_module(model, "evaluate: the model is")
    if any(is_lazy(parameter) for parameter in model.parameters()):
        raise UserError("evaluate: the model has lazy layers that no image has passed through yet")
    devices = sorted({str(parameter.device) for parameter in model.parameters()})
    if len(devices) != 1:
        where = f"weights on {' and '.join(devices)}: move it to one" if devices else "no weights"
        raise UserError(f"evaluate: the model has {where}")
    if devices[0] == "meta":
        raise UserError("evaluate: the model is on the device 'meta', where weights have no values")
    return devices[0]


@contextlib.contextmanager
def borrowed(model: nn.Module, images: Tensor, classes: int) -> Iterator[None]:
    """The user's model as `adapt` would make it, tried on `images`; it is as before afterwards.

    UserError for whatever it raises inside, and if it gives no logits [B, classes].
    """
    what = f"model {type(model).__name__}"
    with untouched(model), told(what):
        model.eval()
        x = images.to(dtype_of(model))
        with torch.no_grad():
            try:
                contiguous, output = False, model(x)
            except RuntimeError:  # view() of images that are channels last
                contiguous, output = True, model(contiguously(x))
        found = tuple(logits(output, classes, len(x)).shape)
        if found != (len(x), classes):
            raise UserError(f"{what} gives {found} for {len(x)} images, expected ({len(x)}, {classes})")
        _listen(model, classes, contiguous)
        yield


def _listen(model: nn.Module, classes: int, contiguous: bool) -> None:
    dtype = dtype_of(model)
    if contiguous or dtype != torch.float32:
        model.register_forward_pre_hook(partial(_take, dtype=dtype, contiguous=contiguous))
    model.register_forward_hook(partial(_give, classes=classes))


def _take(module: nn.Module, inputs: tuple[Any, ...], dtype: torch.dtype, contiguous: bool) -> tuple[Any, ...]:
    x, *rest = inputs
    return (contiguously(x.to(dtype)) if contiguous else x.to(dtype), *rest)


def _give(module: nn.Module, inputs: tuple[Any, ...], output: Any, classes: int) -> Tensor:
    if isinstance(output, Tensor) and output.dim() == 2:
        return output
    return logits(output, classes, len(inputs[0]) if inputs else None)


def _complete(model: nn.Module, images: Tensor) -> None:
    """Fill lazy layers, and let a network make those that it makes when the first images come; nothing else changes."""
    modes = [(module, module.training) for module in model.modules()]
    values = [(buffer, buffer.clone()) for buffer in model.buffers() if not is_lazy(buffer)]
    model.eval()
    with torch.no_grad():
        model(images.to(dtype_of(model)))
    for buffer, value in values:
        buffer.copy_(value)
    for module, training in modes:
        module.training = training


@contextlib.contextmanager
def _default_dtype() -> Iterator[None]:
    """A builder may set torch's default type to make a float64 network; nobody else's is changed."""
    before = torch.get_default_dtype()
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _check_module(model: Any, what: str) -> None:
    if not isinstance(model, nn.Module):
        raise UserError(f"{what} {_kind(model)}, not a torch.nn.Module")
    if isinstance(model, torch.jit.ScriptModule):
        raise UserError(f"{what} a TorchScript module, which cannot be trained on; give the torch.nn.Module behind it")


def _kind(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__} itself (call it)"
    return type(value).__name__


def _foreign(path: Path) -> bool:
    return "site-packages" in path.parts or any(root in path.parents for root in OTHERS) or not path.suffix


def _content(value: Any) -> Any:
    """A copy of a plain container's content, for `_restore`."""
    return value.copy() if isinstance(value, (dict, list, set)) else None


def _restore(now: dict[str, Any], before: Mapping[str, tuple[Any, Any]]) -> None:
    for key in now.keys() - before.keys():
        del now[key]
    for key, (value, content) in before.items():
        now[key] = value
        if isinstance(value, list):
            value[:] = content
        elif isinstance(value, (dict, set)):
            value.clear()
            value.update(content)
