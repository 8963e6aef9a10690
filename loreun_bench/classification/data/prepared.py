"""Data sets as files: read from wherever they come, checked, kept as one safetensors file of uint8 images each."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from loreun_bench.classification.data.arrays import Arrays, checked
from loreun_bench.classification.data.sources import image_folder, read_any
from loreun_bench.errors import UserError
from loreun_bench.harness.files import locked, sha256_file, write_atomic
from loreun_bench.harness.stage import digest
from loreun_bench.harness.store import data_root
from loreun_bench.plugins import is_users
from loreun_bench.registry import call_reference, registry


@dataclass(frozen=True)
class DataInfo:
    """What is known of a prepared data set without opening it. mean, std: per channel, of the training images in [0, 1]."""

    name: str
    file: str
    sha256: str
    shape: tuple[int, int, int]
    classes: int
    train: tuple[int, ...]  # training images in each class
    test: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def path(self) -> Path:
        """The data file."""
        return data_root() / self.file

    def identity(self) -> dict[str, Any]:
        """All that a stage needs to find and normalise the data, and its key to depend on; lists, as in JSON."""
        return dict(json.loads(json.dumps(asdict(self))))


def resolve(dataset: str, image_size: int | None = None) -> DataInfo:
    """The prepared data set of a name, a `FILE.py:function`, or an image folder with train/ and test/.

    Embedded and user data are prepared on the spot. UserError if data are missing, truncated or not what they should be.
    """
    if ".py:" in dataset:
        arrays = call_reference(dataset, "data set")
        try:
            arrays = arrays if isinstance(arrays, Arrays) else Arrays(*arrays)
        except TypeError as error:
            expected = "(train images, train labels, test images, test labels)"
            raise UserError(f"data set '{dataset}' returned {type(arrays).__name__}, expected {expected}") from error
        return _write(dataset.rpartition(":")[2], arrays, custom=True)
    known = [entry.name for entry in registry("datasets").entries()]
    if dataset not in known and Path(dataset).is_dir():
        return _write(Path(dataset).resolve().name, image_folder(Path(dataset), image_size), custom=True)
    entry = registry("datasets").get(dataset)
    if entry.info["embedded"] and is_users(str(entry.file)):
        return prepare(dataset, custom=True)  # each time, as what it reads may have changed
    if not (data_root() / f"{dataset}.json").is_file():
        if not entry.info["embedded"]:
            raise UserError(
                f"data set '{dataset}' is not prepared: run `loreun-bench data prepare {dataset}` (downloads it), "
                f"or with --from PATH for a copy you have"
            )
        return prepare(dataset)
    return verify(dataset)


@cache
def verified(file: str, sha256: str) -> Path:
    """The path of a data file whose bytes have this hash; looked at once a process."""
    path = data_root() / file
    if not path.is_file():
        raise UserError(f"data file {path} is missing; prepare it again: `loreun-bench data prepare {path.stem}`")
    if sha256_file(path) != sha256:
        raise UserError(
            f"data file {path} is truncated or changed; prepare it again: `loreun-bench data prepare {path.stem}`"
        )
    return path


def prepare(name: str, source: Path | None = None, custom: bool = False) -> DataInfo:
    """Bring data set `name` into the data folder: from `source` (.npz, idx folder, torchvision folder), or by download."""
    entry = registry("datasets").get(name)
    if source is not None:
        arrays = read_any(name, source)
    else:
        try:
            arrays = entry.item(data_root() / "download", True)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"data set '{name}' could not be downloaded ({error}); with a local copy: "
                f"`loreun-bench data prepare {name} --from PATH`"
            ) from error
    arrays = checked(name, arrays)
    shape, classes = entry.info["shape"], entry.info["classes"]
    found = (tuple(arrays.train_images.shape[1:]), int(arrays.train_labels.max()) + 1)
    if shape and found != (tuple(shape), classes):
        raise UserError(f"{source or name}: images {found[0]} in {found[1]} classes are not {name} ({shape}, {classes})")
    return _write(name, arrays, custom)


def verify(name: str) -> DataInfo:
    """The prepared data set, its description and its bytes checked against the hashes taken when it was prepared."""
    try:
        values = json.loads((data_root() / f"{name}.json").read_text())
        if digest(values["info"]) != values["digest"]:
            raise ValueError("its hash does not match")
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values["info"].items()}
        info = DataInfo(**fields)
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        remedy = f"prepare it again: `loreun-bench data prepare {name}`"
        raise UserError(f"the description of data set '{name}' is unreadable or changed; {remedy}") from error
    verified.cache_clear()
    verified(info.file, info.sha256)
    return info


def _write(name: str, arrays: Arrays, custom: bool = False) -> DataInfo:
    import numpy as np
    from safetensors.numpy import save

    arrays = checked(name, arrays)
    content = save({k: np.ascontiguousarray(v) for k, v in vars(arrays).items()})
    classes = int(arrays.train_labels.max()) + 1
    sha256 = hashlib.sha256(content).hexdigest()
    stem = f"{name}-{sha256[:12]}" if custom else name
    pixels = arrays.train_images.reshape(-1, arrays.train_images.shape[-1])
    info = DataInfo(
        name=name,
        file=f"{stem}.safetensors",
        sha256=sha256,
        shape=arrays.train_images.shape[1:],
        classes=classes,
        train=tuple(np.bincount(arrays.train_labels, minlength=classes).tolist()),
        test=tuple(np.bincount(arrays.test_labels, minlength=classes).tolist()),
        mean=tuple(round(float(v) / 255, 6) for v in pixels.mean(0)),
        std=tuple(round(max(float(v) / 255, 1e-3), 6) for v in pixels.std(0)),
    )
    data_root().mkdir(parents=True, exist_ok=True)
    with locked(data_root() / ".lock"):
        write_atomic(info.path, content)
        write_atomic(
            data_root() / f"{stem}.json", json.dumps({"info": info.identity(), "digest": digest(info.identity())}, indent=1)
        )
    return info
