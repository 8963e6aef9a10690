"""Readers of data sets as people have them: .npz, idx files, torchvision's folders, folders of pictures."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loreun_bench.classification.data.arrays import Arrays
from loreun_bench.errors import UserError
from loreun_bench.registry import registry

if TYPE_CHECKING:
    import numpy as np

IDX = {
    "train_images": "train-images-idx3-ubyte", "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte", "test_labels": "t10k-labels-idx1-ubyte",
}  # fmt: skip


def read_any(name: str, source: Path) -> Arrays:
    """The data set `name` from a local copy: an .npz, a folder of idx files (also .gz), or torchvision's root folder."""
    if not source.exists():
        raise UserError(f"{source} not found")
    if source.is_file() and source.suffix == ".npz":
        return read_npz(source)
    if source.is_dir() and any(source.glob(IDX["train_images"] + "*")):
        return read_idx(source)
    if source.is_dir() and not registry("datasets").get(name).info["embedded"]:
        try:
            return registry("datasets").get(name).item(source, False)  # type: ignore[no-any-return]
        except (OSError, RuntimeError) as error:
            raise UserError(f"{source} holds no copy of {name} that torchvision can read: {error}") from error
    raise UserError(f"{source}: expected an .npz, a folder of idx files, or torchvision's folder of {name}")


def read_npz(path: Path) -> Arrays:
    """An .npz with train_images, train_labels, test_images, test_labels. No pickled objects are read."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            return Arrays(**{key: file[key] for key in IDX})
    except KeyError as error:
        raise UserError(f"{path}: array {error} is missing; expected {', '.join(IDX)}") from error
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is truncated or no .npz of plain arrays: {error}") from error


def read_idx(folder: Path) -> Arrays:
    """The four idx files of MNIST and Fashion-MNIST, plain or .gz."""
    return Arrays(**{key: _idx(folder, name) for key, name in IDX.items()})


def torchvision_arrays(name: str, root: Path, download: bool, split: bool = False) -> Arrays:
    """A data set of torchvision.datasets as arrays. split: it takes split="train" instead of train=True (SVHN)."""
    import numpy as np
    from torchvision import datasets

    def part(train: bool) -> Any:
        which: dict[str, Any] = {"split": "train" if train else "test"} if split else {"train": train}
        return getattr(datasets, name)(root, download=download, **which)

    def labels(data: Any) -> np.ndarray:
        return np.asarray(data.labels if split else data.targets, dtype=np.int64)

    def images(data: Any) -> np.ndarray:
        x = np.asarray(data.data)
        return x.transpose(0, 2, 3, 1) if split else x

    train, test = part(True), part(False)
    return Arrays(images(train), labels(train), images(test), labels(test))


def image_folder(folder: Path, size: int | None) -> Arrays:
    """A folder with train/<class>/* and test/<class>/* pictures, as RGB resized to size × size."""
    import numpy as np
    from PIL import UnidentifiedImageError
    from torchvision.datasets import ImageFolder

    if size is None:
        raise UserError(f"image folder {folder}: set image_size, to which its pictures are resized")

    def part(name: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
        try:
            data = ImageFolder(str(folder / name), transform=lambda im: np.asarray(im.resize((size, size))))
            pairs = [data[i] for i in range(len(data))]
        except (OSError, FileNotFoundError, UnidentifiedImageError) as error:
            raise UserError(f"image folder {folder / name}: {error}") from error
        return np.stack([x for x, _ in pairs]), np.array([y for _, y in pairs]), data.classes

    (x, y, classes), (u, v, others) = part("train"), part("test")
    if classes != others:
        raise UserError(f"image folder {folder}: train/ has classes {classes}, test/ has {others}")
    return Arrays(x, y, u, v)


def _idx(folder: Path, name: str) -> np.ndarray:
    import numpy as np

    path = next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
    if path is None:
        raise UserError(f"{folder / name} (or .gz) is missing")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        rank = content[3]
        shape = tuple(np.frombuffer(content, ">i4", rank, offset=4).tolist())
        return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise UserError(f"{path} is truncated or no idx file: {error}") from error
