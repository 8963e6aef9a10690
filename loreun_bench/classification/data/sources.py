"""Readers of data sets as people have them: .npz, idx files, torchvision's folders, a user's function."""

from __future__ import annotations

import gzip
import math
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loreun_bench.classification.data.arrays import Arrays
from loreun_bench.classification.data.returned import as_arrays, of_mapping
from loreun_bench.errors import UserError
from loreun_bench.reading import check_size, check_zip, told
from loreun_bench.registry import registry

if TYPE_CHECKING:
    import numpy as np

IDX = {
    "train_images": "train-images-idx3-ubyte", "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte", "test_labels": "t10k-labels-idx1-ubyte",
}  # fmt: skip
_IDX = re.compile(r"(.*?)(train|t10k|test)[-_.](images|labels)[-_.]idx[13][-_.]ubyte(\.gz)?", re.IGNORECASE)


def read_any(name: str, source: Path) -> Arrays:
    """The data set `name` from a local copy: an .npz, a folder of idx files (also .gz), or torchvision's root folder."""
    if not source.exists():
        raise UserError(f"{source} not found")
    if source.is_file() and source.suffix.lower() == ".npz":
        return read_npz(source)
    if is_idx(source):
        return read_idx(source)
    entry = registry("datasets").get(name)
    if source.is_dir() and not entry.info["embedded"]:
        with told(f"{source} holds no copy of {name} that torchvision can read"):
            return as_arrays(f"data set '{name}'", entry.item(source, False))
    raise UserError(f"{source}: expected an .npz, a folder of idx files, or torchvision's folder of {name}")


def read_npz(path: Path) -> Arrays:
    """An .npz of arrays by any of the usual names; see `returned.of_mapping`. No pickled objects are read."""
    import numpy as np

    with told(f"{path} is truncated or no .npz of plain arrays (text as str, no objects)"):
        _check_arrays(path)
        with np.load(path, allow_pickle=False) as file:
            return of_mapping(str(path), {key: file[key] for key in file.files})


def _check_arrays(path: Path) -> None:
    """UserError or ValueError for arrays that are too large, or that promise more than they hold."""
    from numpy.lib import format as npy

    check_zip(path, str(path))
    with zipfile.ZipFile(path) as file:
        for each in file.infolist():
            with file.open(each) as member:
                first = npy.read_magic(member) == (1, 0)
                shape, _, dtype = npy.read_array_header_1_0(member) if first else npy.read_array_header_2_0(member)
            if math.prod(shape) * max(dtype.itemsize, 1) > each.file_size:
                raise ValueError(f"{each.filename} promises {dtype} {shape} and holds {each.file_size} bytes")


def is_idx(folder: Path) -> bool:
    """Whether a folder holds training pictures as an idx file."""
    return folder.is_dir() and ("train", "images") in {(part, kind) for part, kind, _ in _idx_files(folder)}


def read_idx(folder: Path) -> Arrays:
    """The four idx files of MNIST and its relatives, plain or .gz. UserError if one is missing, or there are several."""
    found: dict[str, Path] = {}
    for part, kind, path in _idx_files(folder):
        key = f"{part}_{kind}"
        if key in found and found[key].name.removesuffix(".gz") != path.name.removesuffix(".gz"):
            raise UserError(f"{folder} holds both {found[key].name} and {path.name}: put each data set into its own folder")
        found.setdefault(key, path)
    missing = next((key for key in IDX if key not in found), None)
    if missing is not None:
        raise UserError(f"{folder / IDX[missing]} (or .gz) is missing")
    train_images, train_labels, test_images, test_labels = (_idx(found[key]) for key in IDX)
    return Arrays(train_images, train_labels, test_images, test_labels)


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


def _idx_files(folder: Path) -> list[tuple[str, str, Path]]:
    """(part, images or labels, path) of the idx files in a folder, plain ones before compressed ones."""
    found = [(match, path) for path in sorted(folder.iterdir()) if (match := _IDX.fullmatch(path.name)) and path.is_file()]
    return [("train" if m[2].lower() == "train" else "test", m[3].lower(), path) for m, path in found]


def _idx(path: Path) -> np.ndarray:
    import numpy as np

    opened: Any = gzip.open if path.suffix == ".gz" else open
    with told(f"{path} is truncated or no idx file"), opened(path, "rb") as file:
        head = file.read(4)
        if head[:3] != b"\0\0\x08":
            raise ValueError("it does not begin as an idx file of bytes")
        shape = np.frombuffer(file.read(4 * head[3]), ">u4").tolist()
        check_size(size := math.prod(shape), path.stat().st_size, str(path))
        content = file.read(size + 1)
        if len(content) != size:
            raise ValueError(f"it promises {size} bytes and holds {'more' if len(content) > size else len(content)}")
        found: np.ndarray = np.frombuffer(content, np.uint8).reshape(shape)
        return found
