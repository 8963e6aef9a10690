"""What functions of others return as a data set: looked at before anything runs, and told from others by its pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from loreun_bench.errors import UserError
from loreun_bench.names import twice
from loreun_bench.pictures import counted

if TYPE_CHECKING:
    from torch import Tensor

    from loreun_bench.generation.scoring.pictures import Pictures

BATCH = 32


def checked(what: str, found: Any, count: int | None = None, names: Sequence[str] = ()) -> Pictures:
    """`found`, if it is Pictures whose classes and labels hang together, labels as int64 [N].

    count, names: what is declared of the classes. UserError, beginning with `what`, for names that are no text, empty or
    given twice, for others than declared, and unless every class has pictures.
    """
    import torch

    from loreun_bench.generation.scoring.pictures import Pictures

    if not isinstance(found, Pictures):
        raise UserError(f"{what} returned {type(found).__name__}, expected Pictures(classes, labels, load)")
    classes = _named(what, found.classes, count, names)
    labels = torch.as_tensor(found.labels)
    if labels.ndim != 1 or labels.is_floating_point() or labels.dtype == torch.bool:
        raise UserError(f"{what}: labels are {labels.dtype} {list(labels.shape)}, expected whole numbers [N]")
    lacking = sorted(set(range(len(classes))) - set(labels.tolist()))
    strange = sorted(set(labels.tolist()) - set(range(len(classes))))
    if strange:
        raise UserError(f"{what}: label {strange[0]} is none of {len(classes)} classes, which are counted from 0")
    if lacking:
        raise UserError(f"{what}: class '{classes[lacking[0]]}' has no picture: labels must be 0 … {len(classes) - 1}, each "
                        "at least once")  # fmt: skip
    if found.files and len(found.files) != len(labels):
        raise UserError(f"{what}: {len(found.files)} files for {len(labels)} labels: give one each, or none")
    return replace(found, classes=classes, labels=labels.long(), load=_single(found.load))


def _single(load: Callable[[Tensor, int], Tensor]) -> Callable[[Tensor, int], Tensor]:
    """`load` with floats of any width as those of networks; what is no float stays, and is refused."""

    def loaded(positions: Tensor, size: int) -> Tensor:
        found = load(positions, size)
        return found.float() if hasattr(found, "is_floating_point") and found.is_floating_point() else found

    return loaded


def _named(what: str, classes: Any, count: int | None, names: Sequence[str]) -> tuple[str, ...]:
    if isinstance(classes, str) or not all(isinstance(name, str) for name in classes):
        raise UserError(f"{what}: classes are {classes!r}, expected the name of each, as text")
    own = tuple(classes)
    odd = next((name for name in own if not name.strip()), twice(own))
    if odd is not None:
        raise UserError(f"{what}: two classes, or one without a name, are called '{odd}': give each its own name")
    if count is not None and len(own) != count:
        raise UserError(f"{what}: {len(own)} classes ({', '.join(own[:5])}), but it declares {count}")
    if names and own != tuple(names):
        differs = next(pair for pair in zip(own, names, strict=False) if pair[0] != pair[1])
        raise UserError(f"{what}: a class is called '{differs[0]}', but it declares '{differs[1]}' in that place")
    return own


def pixels(what: str, pictures: Pictures, size: int) -> Iterator[Tensor]:
    """All pictures in batches [n, 3, size, size]. UserError, beginning with `what`, unless they are floats in [-1, 1]."""
    import torch

    parts = torch.arange(len(pictures)).split(BATCH)
    for part in counted(parts, len(parts), f"batches of pictures of {what}"):
        found = pictures.load(part, size)
        if not hasattr(found, "shape") or list(found.shape) != [len(part), 3, size, size]:
            gave = list(getattr(found, "shape", ())) or type(found).__name__
            raise UserError(f"{what}: load gave {gave} for {len(part)} pictures of size {size}, not "
                            f"{[len(part), 3, size, size]}")  # fmt: skip
        if not found.is_floating_point():
            raise UserError(f"{what}: load gave {found.dtype}, expected floats in [-1, 1]")
        low, high = float(found.min()), float(found.max())
        if not -1.0001 <= low <= high <= 1.0001:
            raise UserError(f"{what}: pictures must be floats in [-1, 1], these span {low:.3g} to {high:.3g}")
        yield found


def content(what: str, pictures: Pictures, size: int) -> str:
    """A hash of the classes, the labels, and every pixel at size × size."""
    found = hashlib.sha256(repr((pictures.classes, pictures.labels.tolist(), size)).encode())
    for batch in pixels(what, pictures, size):
        found.update(batch.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
