"""Pictures and labels as people keep them, made uint8 [N, H, W, C] and int64 [N] where they can mean one thing only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from loreun_bench.errors import UserError
from loreun_bench.names import twice

if TYPE_CHECKING:
    import numpy as np

SLACK = 1e-4  # how far rounding in a resize may leave [0, 1]
CHANNELS = (1, 2, 3, 4)


def images(what: str, parts: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The pictures of each part as uint8 [N, H, W, C].

    Arrays, tensors or lists of PIL images; [N, H, W], channels last or, where only that fits, first; bytes, truth values,
    floats in [0, 1], 16 bits, or whole numbers from 0 to 255 of any type. All parts are read by one rule. UserError, with
    the cure, for everything else.
    """
    found = {part: _stacked(f"{what}: {part} images", value) for part, value in parts.items()}
    first = found["train"]
    for part, x in found.items():
        if x.shape[1:] != first.shape[1:]:
            raise UserError(f"{what}: train images {first.shape[1:]} differ from {part} {x.shape[1:]}")
        if len(x) == 0:
            raise UserError(f"{what}: there are no {part} images")
        if x.dtype.kind.replace("u", "i") != first.dtype.kind.replace("u", "i"):
            raise UserError(f"{what}: train images are {first.dtype}, {part} images {x.dtype}: make both uint8")
    return _bytes(what, {part: _channels_last(what, x) for part, x in found.items()})


def labels(
    what: str,
    parts: Mapping[str, Any],
    sizes: Mapping[str, int],
    names: Sequence[str] = (),
    usual: Sequence[str] = (),
    word: str = "label",
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """(numbers of each part int64 [N] from 0, the classes' names).

    Whole numbers, text, [N, 1] or one-hot [N, C] are taken. Classes are the values that occur, in the order of
    scikit-learn's LabelEncoder: numbers by size, text by its characters' codes, digits as text, too ("10" before "2",
    "B" before "a"); text that `names` or `usual` name, in their order. A class is called by `names`, by `usual` where
    these fit, else by its value. UserError for what is no label, and for a test label that training lacks.
    """
    import numpy as np

    many = "subclasses" if word == "subclass" else "labels"
    found = {part: _values(f"{what}: {part} {many}", value, sizes[part]) for part, value in parts.items()}
    if len({x.dtype.kind for x in found.values()}) > 1:
        raise UserError(f"{what}: some {many} are numbers and some are text: use one of them")
    values = sorted({value for x in found.values() for value in x.tolist()})
    called = _called(values, names or usual)
    if names and called is None:
        raise UserError(f"{what}: {len(names)} names do not fit the {many} {_few(values)}: give each of them a name")
    if called is None:
        called = {value: str(value) for value in values}
    elif isinstance(values[0], str):
        values.sort(key={name: place for place, name in enumerate(names or usual)}.__getitem__)
    if word == "label":
        values = _trained_on(what, found, values)
    own = tuple(called[value] for value in values)
    odd = next((name for name in own if not name.strip()), twice(own))
    if odd is not None:
        raise UserError(f"{what}: two classes, or one without a name, are called '{odd}': give each its own name")
    numbers = {value: number for number, value in enumerate(values)}
    return {part: np.array([numbers[value] for value in x.tolist()], np.int64) for part, x in found.items()}, own


def _trained_on(what: str, found: Mapping[str, np.ndarray], values: list[Any]) -> list[Any]:
    """The values that occur in training. UserError if these are no classes, or others are tested."""
    trained = set(found["train"].tolist())
    strange = next((value for value in values if value not in trained), None)
    if strange is not None:
        raise UserError(f"{what}: test label '{strange}' does not occur in training: take it out, or add it there")
    if not 1 < len(trained) < len(found["train"]):
        raise UserError(f"{what}: train labels must be of 2 classes or more, and fewer than pictures; got {len(trained)}")
    if not isinstance(values[0], str) and values[0] < 0 and values != [-1, 1]:
        raise UserError(f"{what}: label {values[0]} is below 0: take the pictures without a label out")
    return values


def _values(what: str, value: Any, size: int) -> np.ndarray:
    """One label a picture: int64 or text [N]."""
    import numpy as np

    if isinstance(value, (list, tuple)):
        value = [each.item() if hasattr(each, "item") and getattr(each, "ndim", 1) == 0 else each for each in value]
    _unmixed(what, value)
    try:
        x = _array(value)
        x = x[:, 0] if x.ndim == 2 and x.shape[1] == 1 else x
        if x.dtype.kind == "O":
            x = np.array(x.tolist())  # pandas keeps text and whole numbers as objects
        if x.dtype.kind == "S":
            x = np.char.decode(x, "utf-8")
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"{what} make no array ({error}): give one whole number or text a picture") from error
    if x.ndim == 2 and x.dtype.kind in "biuf" and len(x) == size:
        x = _of_one_hot(what, x)
    if x.shape != (size,) or x.dtype.kind not in "biufU":
        raise UserError(f"{what} must be one whole number or text a picture, [{size}], got {x.dtype} {x.shape}")
    if x.dtype.kind == "f" and not (np.isfinite(x).all() and (x == np.rint(x)).all()):
        raise UserError(f"{what} must be whole numbers or text, some are such as {x[x != np.rint(x)][0]:g}")
    return x if x.dtype.kind == "U" else x.astype(np.int64)


def _unmixed(what: str, value: Any) -> None:
    """UserError for text among numbers, or nothing: NumPy would make 'nan' or 'None' a class."""
    if isinstance(value, (list, tuple)) or getattr(getattr(value, "dtype", None), "kind", "") == "O":
        flat = [each for row in value for each in (row if isinstance(row, (list, tuple)) else [row])]
        texts = [isinstance(each, (str, bytes)) for each in flat]
        if any(texts) and not all(texts):
            odd = flat[texts.index(False)]
            raise UserError(f"{what} must be one whole number or text a picture; {odd!r} is among text: take it out")


def _of_one_hot(what: str, x: np.ndarray) -> np.ndarray:
    import numpy as np

    if ((x == 0) | (x == 1)).all() and (x.sum(1) == 1).all():
        return np.asarray(x.argmax(1))
    raise UserError(f"{what} {x.shape} are not one-hot: give one label a picture, not several and no probabilities")


def _called(values: list[Any], names: Sequence[str]) -> dict[Any, str] | None:
    """What `names` call each value: by its number, else by its place; None if they do not fit."""
    if not names:
        return None
    if isinstance(values[0], str):
        return {value: value for value in values} if set(values) <= set(names) else None
    if values[0] >= 0 and values[-1] < len(names):
        return {value: str(names[value]) for value in values}
    return dict(zip(values, map(str, names), strict=True)) if len(values) == len(names) else None


def _few(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values[:5])) + (f", … {values[-1]}" if len(values) > 5 else "")


def _stacked(what: str, value: Any) -> np.ndarray:
    """One array of a library's array or tensor, or of a list of pictures."""
    import numpy as np

    if isinstance(value, (list, tuple)) and value and hasattr(value[0], "getbands"):
        return _of_pil(what, value)
    try:
        if isinstance(value, (list, tuple)):
            return np.stack([_array(each) for each in value]) if value else np.empty((0, 0, 0))
        x = _array(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"{what} make no array ({error}): give pictures of one size") from error
    if x.dtype.kind not in "biuf":
        raise UserError(f"{what} must be numbers, such as uint8 [N, H, W, C], got {x.dtype} {x.shape}")
    return x


def _array(value: Any) -> np.ndarray:
    import numpy as np

    if hasattr(value, "detach"):  # a torch tensor, wherever it is
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() else value).numpy()
    return np.asarray(value)


def _of_pil(what: str, pictures: Sequence[Any]) -> np.ndarray:
    """Grey where all pictures are, else RGB."""
    import numpy as np

    from loreun_bench.pictures import rgb

    try:
        sizes = {picture.size for picture in pictures}
        if len(sizes) > 1:
            raise UserError(f"{what} have {len(sizes)} sizes, such as {sorted(sizes)[:2]}: resize them, or set image_size")
        grey = all(len(picture.getbands()) == 1 and picture.mode != "P" for picture in pictures)
        found = np.stack([np.asarray(rgb(picture)) for picture in pictures])
    except (ValueError, OSError, AttributeError) as error:
        raise UserError(f"{what}: a picture cannot be read ({error})") from error
    return np.asarray(found[..., :1] if grey else found)


def _channels_last(what: str, x: np.ndarray) -> np.ndarray:
    shape = x.shape[1:]
    if x.ndim == 3:
        x, shape = x[..., None], (*shape, 1)
    if x.ndim == 4 and min(shape) > 0:
        last, first = shape[2] in CHANNELS, shape[0] in CHANNELS
        if last and shape[0] == shape[2] == 3 != shape[1]:
            raise UserError(f"{what}: images {shape} may have their channels first or last: give them as [N, H, W, C]")
        if last:
            return x
        if first:
            moved: np.ndarray = x.transpose(0, 2, 3, 1)
            return moved
    raise UserError(
        f"{what}: images must be uint8 [N, H, W, C] of 1 to 4 channels, got {x.dtype} [N, {', '.join(map(str, shape))}]"
        + (": give flat ones their height and width with reshape" if x.ndim == 2 else "")
    )


def _bytes(what: str, parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same pixels as uint8, by the range that both parts have together."""
    import numpy as np

    first = parts["train"]
    if all(x.dtype == np.uint8 for x in parts.values()):
        return dict(parts)
    if first.dtype.kind == "b":
        return {part: x.astype(np.uint8) * 255 for part, x in parts.items()}
    low, high = min(float(x.min()) for x in parts.values()), max(float(x.max()) for x in parts.values())
    span = f"{what}: {first.dtype} images from {low:g} to {high:g}"
    if low == high:
        raise UserError(f"{what}: {first.dtype} images are {low:g} everywhere, of no range: give uint8 [N, H, W, C]")
    if not np.isfinite([low, high]).all():
        raise UserError(f"{what}: images hold NaN or infinite values: mend them")
    if first.dtype.kind == "f" and low >= -SLACK and high <= 1 + SLACK:
        return {part: np.rint(x.clip(0, 1) * 255).astype(np.uint8) for part, x in parts.items()}
    if low < 0:
        raise UserError(f"{span}: undo their normalisation and give uint8, or floats in [0, 1]")
    if high <= 255 and all((x == np.rint(x)).all() for x in parts.values()):
        return {part: x.astype(np.uint8) for part, x in parts.items()}
    if all(x.dtype == np.uint16 for x in parts.values()) and high >= 1 << 15:
        return {part: (x // 257).astype(np.uint8) for part, x in parts.items()}
    raise UserError(f"{span} have no range that is plain: scale them to uint8, or to floats in [0, 1]")
