"""What can be forgotten: the classes of a data set, or a concept whose pictures the original model makes itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loreun_bench.errors import UserError
from loreun_bench.harness.store import data_root
from loreun_bench.registry import registry

if TYPE_CHECKING:
    from loreun_bench.generation.pictures import Pictures
    from loreun_bench.harness.store import Artifact


def dataset(name: str, split: str) -> Pictures:
    """The pictures of a data set by name, or of a folder with one folder a class (and perhaps train/ and test/ above)."""
    if not Path(name).is_dir():
        found: Pictures = registry("datasets", "generation").get(name).item(data_root(), split)
        return found
    from loreun_bench.generation.datasets.folder import folder

    return folder(Path(name), split)


def identity(name: str) -> dict[str, Any]:
    """What tells a data set from another in a stage's key: its files' names and sizes; of an embedded one, its name."""
    entry = None if Path(name).is_dir() else registry("datasets", "generation").get(name)
    if entry is not None and entry.info["embedded"]:
        return {"name": name}
    found = dataset(name, "train"), dataset(name, "test")
    files = sorted((path.name, path.stat().st_size) for pictures in found for path in pictures.files)
    return {"name": Path(name).name, "files": hashlib.sha256(json.dumps(files).encode()).hexdigest()}


def generated(folder: Path, prompts: tuple[str, ...]) -> Pictures:
    """Pictures that a model made of the two prompts of a concept scenario: class 0 is the one to forget."""
    import torch
    from torch import Tensor

    from loreun_bench.generation.images import Images
    from loreun_bench.generation.pictures import Pictures

    images = Images.open(folder, prompts)
    assert images.labels is not None

    def load(positions: Tensor, size: int) -> Tensor:
        found = torch.empty(len(positions), 3, size, size)
        seen = 0
        for where, pixels in images.subset(positions).numbered(len(positions), size):
            found[where] = pixels * 2 - 1
            seen += len(where)
        if seen < len(positions):
            raise UserError(f"a training picture in {folder} cannot be read: {images.bad[0][0].name}")
        return found

    return Pictures(prompts, images.labels, load)


def reference(config: Mapping[str, Any], inputs: Mapping[str, Artifact]) -> Pictures | None:
    """Real pictures of the classes, for distances; None for a concept, of which there are none."""
    return dataset(config["data"], "test") if config["forget"] is not None else None


def number(classes: tuple[str, ...], name: str) -> int:
    """The number of a class. UserError with a suggestion if there is none of the name."""
    from loreun_bench.errors import did_you_mean

    if name not in classes:
        raise UserError(f"forget_class: unknown class '{name}'; {did_you_mean(name, classes)}")
    return classes.index(name)
