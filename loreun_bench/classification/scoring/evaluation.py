"""What metrics are computed from: each set's logits, predicted once, and everything that follows from them."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from loreun_bench.classification.data.images import Dataset, Images
from loreun_bench.classification.data.splits import ForgetSplit
from loreun_bench.classification.unlearning.protocols import Protocol
from loreun_bench.errors import Diverged
from loreun_bench.training.frozen import classifier

if TYPE_CHECKING:
    from loreun_bench.classification.unlearning.method import ImageSet

BATCH = 1000
TEST = ("test", "test_forget")
SETS = ("forget", "retain", "validation", "earlier", *TEST)


@dataclass(frozen=True)
class Predictions:
    """A model's logits [n, C] (fp32 or fp64, CPU) on one set, and the set's labels [n]; features [n, d], the classifier's
    input (the logits of a network without a last linear layer), where a metric asks for them."""

    logits: Tensor
    labels: Tensor
    features: Tensor = field(default_factory=lambda: torch.empty(0, 0))

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def log_probabilities(self) -> Tensor:
        """log softmax [n, C], in fp64 so that confident predictions stay apart."""
        return self.logits.double().log_softmax(1)

    @cached_property
    def losses(self) -> Tensor:
        """Cross entropy of each sample [n]."""
        return -self.log_probabilities.gather(1, self.labels.unsqueeze(1)).squeeze(1)

    @property
    def margins(self) -> Tensor:
        """Each sample's margin [n], the logit of p, its label's probability: log p - log(1 - p). It says all that attacks
        and distances over seeds ask of a sample: the loss is softplus(-margin)."""
        label = self.labels.unsqueeze(1)
        others = self.logits.double().scatter(1, label, -torch.inf).logsumexp(1)
        return self.logits.double().gather(1, label).squeeze(1) - others

    @property
    def hits(self) -> int:
        """How many are classified as labelled."""
        return int((self.logits.argmax(1) == self.labels).sum()) if len(self) else 0

    @property
    def accuracy(self) -> float:
        """Percent classified as labelled; NaN for an empty set."""
        return 100 * float((self.logits.argmax(1) == self.labels).double().mean())


@dataclass(frozen=True)
class Outputs:
    """All that a metric may look at.

    sets: "forget", "retain", "validation" (empty if none is held out), "test" (without a forgotten class), "test_forget"
    (that class, else empty), "earlier" (what requests before this one forgot, else empty).
    true_labels: the forget samples' real labels, where the trained ones were wrong on purpose. buffers, and those of the
    original model, where there is one: batch-norm statistics by name. seed: the evaluation's.

    Of what a metric `needs`: retrain and original, the same sets through these models; original_weights by name;
    original_losses, the original's on each forget sample [n]; model, the network itself; data, the forget set's pictures.
    """

    sets: Mapping[str, Predictions]
    true_labels: Tensor
    protocol: Protocol
    seed: int
    buffers: Mapping[str, Tensor] = field(default_factory=dict)
    original_buffers: Mapping[str, Tensor] = field(default_factory=dict)
    retrain: Mapping[str, Predictions] = field(default_factory=dict)
    original: Mapping[str, Predictions] = field(default_factory=dict)
    original_weights: Mapping[str, Tensor] = field(default_factory=dict)
    original_losses: Tensor = field(default_factory=lambda: torch.empty(0))
    model: nn.Module | None = None
    data: ImageSet | None = None

    def copied(self) -> Outputs:
        """A copy that may be changed without harm; the pictures are not."""
        return replace(copy.deepcopy(replace(self, data=None)), data=self.data)


def predict(model: nn.Module, images: Images, index: Tensor) -> Tensor:
    """Logits [n, C] in fp32 (fp64 of a model in fp64) on the CPU: evaluation mode, no augmentation, no autocast.

    Without inference_mode, whose tensors a model that caches some could not train on afterwards.
    """
    model.eval()
    with torch.no_grad():
        parts = [_wide(model(images.batch(part))) for part in index.split(BATCH)] if len(index) else []
    return torch.cat(parts).cpu() if parts else torch.empty(0, 1)


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def predictions(
    model: nn.Module, dataset: Dataset, split: ForgetSplit, names: Iterable[str] = SETS, features: bool = False
) -> dict[str, Predictions]:
    """The sets through the model, once."""
    found = {}
    with contextlib.ExitStack() as stack:
        parts = stack.enter_context(seen(model, dataset.classes)) if features else []
        for name in names:
            images, labels = (dataset.test, dataset.test_labels) if name in TEST else (dataset.train, split.labels)
            index, start = getattr(split, name), len(parts)
            logits = predict(model, images, index)
            own = torch.cat(parts[start:]).cpu() if len(parts) > start else logits
            once = own if len(own) == len(logits) else logits  # a model may show its classifier a picture twice, mirrored
            found[name] = Predictions(logits, labels[index].cpu(), once if features else torch.empty(0, 0))
    return found


@contextlib.contextmanager
def seen(model: nn.Module, classes: int) -> Iterator[list[Tensor]]:
    """A list to which each forward pass adds what the classifier sees [n, d]; nothing, if there is no last linear layer."""
    last, parts = classifier(model, classes), list[Tensor]()
    hook = last.register_forward_pre_hook(lambda _, inputs: parts.append(inputs[0].detach().flatten(1))) if last else None
    try:
        yield parts
    finally:
        if hook is not None:
            hook.remove()


def evaluate(
    model: nn.Module, dataset: Dataset, split: ForgetSplit, protocol: Protocol, seed: int, original: Mapping[str, Tensor],
    features: bool = False,
) -> Outputs:  # fmt: skip
    """Every set through the model, once. Raises Diverged if its logits are not finite."""
    sets = predictions(model, dataset, split, features=features)
    for name, found in sets.items():
        wrong = int((~torch.isfinite(found.logits)).any(1).sum())
        if wrong:
            raise Diverged(f"the logits of {wrong} of {len(found)} {name} images are NaN or infinite")
    buffers = {name: value.cpu() for name, value in model.named_buffers()}
    true = dataset.train_labels[split.forget].cpu()
    return Outputs(sets, true, protocol, seed, buffers, {k: v for k, v in original.items() if k in buffers})
