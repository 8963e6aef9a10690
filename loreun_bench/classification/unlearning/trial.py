"""A model is tried before anything runs: what it takes, what it gives, whether it trains, and what to say of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from loreun_bench.classification.data.normalisation import words
from loreun_bench.classification.unlearning.checkpoints import read
from loreun_bench.classification.unlearning.networks import (
    MemoryFormat,
    adapt,
    build_model,
    contiguously,
    dtype_of,
    logits,
    tensors_in,
    told,
    untouched,
)
from loreun_bench.errors import UserError
from loreun_bench.harness.seeding import seeded
from loreun_bench.training.convolutions import Unsafe

if TYPE_CHECKING:
    from loreun_bench.classification.config import ClassificationConfig
    from loreun_bench.classification.data.prepared import DataInfo

LOOKED_AT, CHANCE = 100, 0.01  # test pictures that a checkpoint is tried on, and when it is no better than chance on them
CLOSE = 1e-3  # relative, in the 2-norm: rounding is far below, another meaning of the numbers far above


@dataclass(frozen=True)
class Trial:
    """What was found of a model that can be trained.

    model: as `adapt` made it; memory_format: of its images and weights; single: it also trains on a batch of one;
    notes: what a reader of its numbers should know.
    """

    model: nn.Module
    memory_format: MemoryFormat
    single: bool
    notes: tuple[str, ...]


def tried(config: ClassificationConfig, info: DataInfo) -> tuple[Trial, list[str]]:
    """A sweep's model tried on its data, and what to say of it. UserError if it, or the checkpoint, does not fit them."""
    device = "cuda" if config.device == "cuda" and torch.cuda.is_available() else "cpu"  # the GPUs may be elsewhere
    trial = try_model(config.model, config.model_settings, info, device)
    if (config.device, config.precision) == ("cpu", "bf16"):
        _check_convolutions(trial, info)
    notes = list(trial.notes)
    if config.checkpoint is not None:
        notes += try_checkpoint(config.checkpoint, trial, info)
    if config.checkpoint is not None or config.normalise != "data":
        notes.append(f"normalisation of the images: {words(info)}; `normalise` must be what the model was trained with")
    return trial, notes


def _check_convolutions(trial: Trial, info: DataInfo) -> None:
    """UserError for a network that must not be trained in bfloat16 on a CPU."""
    with untouched(trial.model), torch.no_grad(), Unsafe() as unsafe:
        trial.model.eval()(_formed(_images(info), trial.memory_format))
    if unsafe.found:
        raise UserError(f"the model has {unsafe.found}: set precision=fp32")


def try_model(name: str, settings: Mapping[str, Any], info: DataInfo, device: str = "cpu") -> Trial:
    """Build the model for these data and pass images forward and backward, in both memory formats and both modes.

    UserError in one line for whatever would stop a cell later: no logits [B, classes], types that do not train, a
    single image that fails, weights that its state_dict does not hold.
    """
    height, width, channels = info.shape

    def built(seed: int) -> nn.Module:
        with seeded(seed):
            return build_model(name, settings, channels, info.classes, (height, width)).to(device)

    model, images = built(0), _images(info).to(device)
    case = _Case(f"model '{name}'", info.classes)
    _check_weights(model, case.what)
    with seeded(0):
        form, found = _chosen(model, images, case)
        single = isinstance(_attempt(model, _formed(images[:1], form), case), _Pass)
        other, x = built(1), _formed(images, form)
        notes = [*_notes_on_output(found), *_notes_on_evaluation(model, x, found, case), *_notes_on_weights(model, other)]
        _check_stored(model, other, x, case)
    return Trial(adapt(model, info.classes, form, device), form, single, tuple(f"{case.what} {note}" for note in notes))


def try_checkpoint(path: str, trial: Trial, info: DataInfo) -> list[str]:
    """Load the weights at `path` into the tried model; what to say of them. UserError if they do not fit or give NaN."""
    name, model = Path(path).name, trial.model
    said = read(path, model)
    with torch.no_grad():
        found = model.eval()(_formed(_images(info), "channels_last").to(next(model.parameters()).device))
    if not bool(torch.isfinite(found).all()):
        raise UserError(f"checkpoint {path}: with its weights the model gives logits that are NaN or infinite")
    return [
        *([f"checkpoint {name}: {said}"] if said else []),
        *_notes_on_labels(f"checkpoint {name}", model, info),
        f"checkpoint {name} is the original of every seed: intervals do not hold its training; Retrain has this "
        "configuration's recipe, not the checkpoint's, so that gaps to it hold that difference, too; the split is drawn "
        "here, and validation and test images may be among those that it was trained on",
    ]


def _notes_on_labels(what: str, model: nn.Module, info: DataInfo) -> Iterator[str]:
    """Says so of a trained model that finds the test pictures' labels no better than chance does: it was trained on classes
    in another order, or on images normalised otherwise, and every number of the sweep would rest on that."""
    from scipy.stats import binom

    from loreun_bench.classification.data.images import load_dataset

    device = str(next(model.parameters()).device)
    data = load_dataset(info.path, info.mean, info.std, info.classes, device)
    n = min(LOOKED_AT, len(data.test))
    index = torch.arange(n, device=data.test.device) * len(data.test) // n
    with torch.no_grad():
        hits = int((model.eval()(data.test.batch(index)).argmax(1) == data.test_labels[index]).sum())
    if binom.sf(hits - 1, n, 1 / info.classes) > CHANCE:
        yield (f"{what} is right on {hits} of {n} test pictures, as chance is: are its classes in another order, or its "
               "images normalised otherwise?")  # fmt: skip


@dataclass(frozen=True)
class _Case:
    what: str
    classes: int

    def run(self, model: nn.Module, x: Tensor, seed: int = 0) -> tuple[Any, Tensor]:
        """(what the network returned, its logits [B, classes]). UserError if it has none, or they are not finite."""
        with seeded(seed):
            output = model(x.to(dtype_of(model)))
        found = logits(output, self.classes, len(x))
        if tuple(found.shape) != (len(x), self.classes):
            expected = (len(x), self.classes)
            raise UserError(f"{self.what} gives {tuple(found.shape)} for {len(x)} images, expected {expected}")
        if not found.is_floating_point() or not bool(torch.isfinite(found).all()):
            raise UserError(f"{self.what} gives logits that are no finite numbers before any training")
        return output, found


@dataclass(frozen=True)
class _Pass:
    """What a network gave: the raw output and the logits in evaluation mode, their gradient (None: it has none there)."""

    output: Any
    logits: Tensor
    gradient: Tensor | None


def _attempt(model: nn.Module, x: Tensor, case: _Case) -> _Pass | UserError:
    """The batch forward and backward in evaluation and in training mode; the model stays as it is."""
    labels, on = torch.arange(len(x), device=x.device) % case.classes, f"{case.what} on images {list(x.shape)}"
    try:
        with untouched(model):
            model.eval()
            with told(f"{on} in evaluation mode"), torch.no_grad():
                output, found = case.run(model, x)
            with told(f"{on} in training mode"):
                gradient = _gradient(model, x, labels, case)
                model.zero_grad()
                model.train()
                _loss(model, x, labels, case).backward()
            _check_gradients(model, case.what)
            return _Pass(output, found, gradient)
    except UserError as error:
        return error


def _chosen(model: nn.Module, images: Tensor, case: _Case) -> tuple[MemoryFormat, _Pass]:
    """Channels last, which is faster, where it works and says the same. UserError if the model does not work at all."""
    plain = _attempt(model, _formed(images, "contiguous"), case)
    if isinstance(plain, UserError):
        raise plain
    model.to(memory_format=torch.channels_last)
    last = _attempt(model, _formed(images, "channels_last"), case)
    if isinstance(last, _Pass) and _same(plain, last):
        return "channels_last", last
    model.to(memory_format=torch.contiguous_format)
    return "contiguous", plain


def _same(one: _Pass, other: _Pass) -> bool:
    if one.gradient is None or other.gradient is None:
        return one.gradient is other.gradient and _close(one.logits, other.logits)
    return _close(one.logits, other.logits) and _close(one.gradient, other.gradient, 10 * CLOSE)  # ReLU has kinks


def _loss(model: nn.Module, x: Tensor, labels: Tensor, case: _Case) -> Tensor:
    _, values = case.run(model, x)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError(f"{case.what} has no weights to train")
    if not values.requires_grad:
        raise UserError(f"{case.what} cannot be trained: its logits carry no gradient (no_grad or detach inside?)")
    return nn.functional.cross_entropy(values, labels)


def _gradient(model: nn.Module, x: Tensor, labels: Tensor, case: _Case) -> Tensor | None:
    """All weights' gradient in evaluation mode, where no dropout depends on the format; None if there is none."""
    try:
        _loss(model, x, labels, case).backward()
    except RuntimeError:  # a recurrent network on a GPU
        return None
    found = [p.grad.flatten() for p in model.parameters() if p.grad is not None and p.grad.layout == torch.strided]
    return torch.cat(found) if found else None


def _notes_on_output(found: _Pass) -> Iterator[str]:
    if not isinstance(found.output, Tensor):
        taken = [where for where, tensor in tensors_in(found.output) if tensor is found.logits]
        fitting = sum(tensor.shape == found.logits.shape for _, tensor in tensors_in(found.output))
        several = f", the first of {fitting} that fit" if fitting > 1 and "logits" not in "".join(taken) else ""
        yield f"returns {type(found.output).__name__}: {''.join(taken) or '.logits'} is taken for its logits{several}"
    rows = found.logits.double()
    if bool((rows >= 0).all()) and bool(((rows.sum(1) - 1).abs() < 1e-4).all()):
        yield "gives probabilities, it seems (rows sum to 1), where logits are expected: leave its softmax out"


def _notes_on_evaluation(model: nn.Module, x: Tensor, found: _Pass, case: _Case) -> Iterator[str]:
    with untouched(model), torch.no_grad():
        model.eval()
        with told(f"{case.what} on a single image in evaluation mode"):
            alone = torch.cat([case.run(model, image)[1] for image in x.split(1)])
        again = case.run(model, x, seed=1)[1]
    if not _close(again, found.logits):
        yield "draws at random in evaluation mode, too"
    elif not _close(alone, found.logits):
        yield (
            "gives an image other logits in evaluation mode when other images are beside it (BatchNorm without running "
            "statistics?): its numbers depend on who is measured together"
        )


def _notes_on_weights(model: nn.Module, other: nn.Module) -> Iterator[str]:
    """other: built with another seed."""
    if any(isinstance(m, _BatchNorm) and m.track_running_stats and m.momentum is None for m in model.modules()):
        yield (
            "has BatchNorm with momentum None: its statistics are the mean over all batches since training began, so after "
            "unlearning they belong to older weights and accuracy falls; give it a momentum, or methods freeze_batchnorm"
        )
    pairs = list(zip(model.parameters(), other.parameters(), strict=False))
    if all(torch.equal(a, b) for a, b in pairs):
        yield "begins with the same weights whatever the seed: the original and Retrain start from them alike"


def _check_weights(model: nn.Module, what: str) -> None:
    """UserError if weights are of a type that does not train, or the state_dict holds more than tensors."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.dtype not in (torch.float32, torch.float64):
            kind = str(parameter.dtype).removeprefix("torch.")
            raise UserError(
                f"{what}: {name} is {kind}; give the model's weights in float32 or float64 "
                "(precision: bf16 computes in 16 bits all the same)"
            )
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise UserError(f"{what}: its state_dict holds a {type(value).__name__} ({name}), not only tensors")


def _check_gradients(model: nn.Module, what: str) -> None:
    found = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    if not found:
        raise UserError(f"{what} cannot be trained: no gradient reaches its weights")
    if any(gradient.layout != torch.strided for gradient in found):
        raise UserError(f"{what}: its gradients are sparse (an Embedding with sparse=True?); the optimisers take dense ones")
    if not all(bool(torch.isfinite(gradient).all()) for gradient in found):
        raise UserError(f"{what} gives gradients that are NaN or infinite before any training")


def _check_stored(model: nn.Module, other: nn.Module, x: Tensor, case: _Case) -> None:
    """UserError if a model built with another seed is still another model when it has these weights."""
    with told(f"{case.what}: loading its own state_dict"):
        other.load_state_dict(model.state_dict())
    found = []
    for each in (model, other):
        with untouched(each), torch.no_grad():
            found.append(case.run(each.eval(), x)[1])
    if not _close(found[1], found[0]):
        raise UserError(
            f"{case.what} draws numbers that its state_dict does not hold (a plain tensor, or a buffer with "
            "persistent=False): loaded again it would be another model; use register_buffer"
        )


def _close(one: Tensor, other: Tensor, by: float = CLOSE) -> bool:
    return float((one - other).norm()) <= by * float(other.norm()) + 1e-30


def _images(info: DataInfo) -> Tensor:
    """A few images of noise [B, H, W, C], normalised as the data are; B is not the number of classes."""
    count = 3 if info.classes != 3 else 4
    pixels = torch.rand(count, *info.shape, generator=torch.Generator().manual_seed(0))
    return (pixels - torch.tensor(info.mean)) / torch.tensor(info.std)


def _formed(images: Tensor, form: str) -> Tensor:
    """[B, C, H, W] as `Images` hand them out, or contiguous."""
    x = images.permute(0, 3, 1, 2)
    return x if form == "channels_last" else contiguously(x)
