"""Who is forgotten: one object, hashed, that training, unlearning and evaluation share."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from loreun_bench.classification.config import Scenario
from loreun_bench.classification.data.prepared import DataInfo
from loreun_bench.errors import UserError
from loreun_bench.harness.seeding import derive

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@dataclass(frozen=True)
class ForgetSplit:
    """Positions in the training part [·] int64, and the labels trained on.

    forget and retain are disjoint and make up the training set; validation is outside both; `trained` is what the
    original model saw and `selection` what was held out from it (forget ∪ retain, and validation, but for protocol
    `paper`); test leaves out a class that is forgotten, whose test images are test_forget; labels [N]: wrong on purpose
    for forget samples of the mislabelled scenario.
    """

    trained: Tensor
    selection: Tensor
    forget: Tensor
    retain: Tensor
    validation: Tensor
    test: Tensor
    test_forget: Tensor
    labels: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """The fields, as a stage stores them; the store hashes them."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def to(self, device: str) -> ForgetSplit:
        """The split on `device`."""
        return ForgetSplit(**{name: tensor.to(device) for name, tensor in self.tensors().items()})


def sizes(info: DataInfo, scenario: Scenario, validation: float, images: int | None) -> dict[str, int]:
    """About how many samples each set will have, before anything is drawn.

    UserError if the scenario cannot be drawn from these data: no such class, an empty forget or retain set.
    """
    total = min(images or sum(info.train), sum(info.train))
    held = round(validation * total)
    if held < info.classes or total - held < info.classes:
        raise UserError(f"{info.name}: {total} training images cannot give {held} for validation in {info.classes} classes")
    share = scenario.fraction or 0.0
    if scenario.forget_class is not None:
        if scenario.forget_class >= info.classes:
            raise UserError(f"scenario class: {info.name} has classes 0 to {info.classes - 1}, not {scenario.forget_class}")
        share = info.train[scenario.forget_class] / sum(info.train)
    forget = round(share * (total - held))
    if forget == 0 or forget == total - held:
        empty = "retain" if forget else "forget"
        raise UserError(
            f"scenario {scenario.label}: the {empty} set is empty, {forget} of {total - held} images are forgotten"
        )
    return {"forget": forget, "retain": total - held - forget, "validation": held}


def draw(
    train_labels: np.ndarray,
    test_labels: np.ndarray,
    scenario: Scenario | None,
    *,
    validation: float,
    seed: int,
    one_split: bool = True,
    images: int | None = None,
) -> ForgetSplit:
    """Draw a split; without a scenario nobody is forgotten.

    Every draw has its own stream of `seed`, so that scenarios share their validation set; `images` limits training and
    test images (smoke runs). UserError if the forget or the retain set comes out empty.
    """
    import numpy as np
    import torch

    def stream(*name: str | int) -> np.random.Generator:
        return np.random.default_rng(derive(seed, "split", *name))

    pool = _some(np.arange(len(train_labels)), images, stream("pool"))
    test = _some(np.arange(len(test_labels)), images, stream("test"))
    train, held = _stratified(pool, train_labels, validation, derive(seed, "split", "validation"))
    forget = _forgotten(train, train_labels, scenario, stream("forget"))
    labels = train_labels.copy()
    if scenario is not None and scenario.kind == "mislabelled":
        classes = int(train_labels.max()) + 1
        labels[forget] = (labels[forget] + stream("labels").integers(1, classes, len(forget))) % classes
    retain = np.setdiff1d(train, forget)
    if scenario is not None and (len(forget) == 0 or len(retain) == 0):
        raise UserError(f"scenario {scenario.label}: the {'retain' if len(forget) else 'forget'} set is empty")
    trained, selection = train, held
    if not one_split:
        trained, selection = _stratified(pool, train_labels, validation, derive(seed + 1, "split", "validation"))
    forget_class = -1 if scenario is None or scenario.forget_class is None else scenario.forget_class
    gone = test_labels[test] == forget_class
    parts = (trained, selection, forget, retain, held, test[~gone], test[gone], labels)
    return ForgetSplit(*(torch.from_numpy(np.ascontiguousarray(part)) for part in parts))


def _forgotten(train: np.ndarray, labels: np.ndarray, scenario: Scenario | None, rng: np.random.Generator) -> np.ndarray:
    import numpy as np

    if scenario is None:
        return train[:0]
    if scenario.kind == "class":
        members: np.ndarray = train[labels[train] == scenario.forget_class]
        return members
    return np.sort(rng.permutation(train)[: round((scenario.fraction or 0) * len(train))])


def _some(indices: np.ndarray, count: int | None, rng: np.random.Generator) -> np.ndarray:
    import numpy as np

    return indices if count is None else np.sort(rng.permutation(indices)[:count])


def _stratified(pool: np.ndarray, labels: np.ndarray, share: float, seed: int) -> tuple[Any, Any]:
    """(training, validation) positions, sorted, each class in the same proportion where it can be."""
    import numpy as np
    from sklearn.model_selection import train_test_split

    counts = np.bincount(labels[pool])
    strata = labels[pool] if counts[counts > 0].min() > 1 else None
    train, held = train_test_split(pool, test_size=share, random_state=seed % 2**32, stratify=strata)
    return np.sort(train), np.sort(held)
