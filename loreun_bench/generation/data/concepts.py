"""What can be forgotten: the classes of a data set, or a concept whose pictures the original model makes itself."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loreun_bench import pictures as reader
from loreun_bench.errors import UserError
from loreun_bench.generation.datasets import folder
from loreun_bench.harness.files import sha256_file
from loreun_bench.harness.stage import code_digest, digest
from loreun_bench.harness.store import data_root
from loreun_bench.plugins import is_users
from loreun_bench.registry import Entry, registry

if TYPE_CHECKING:
    from loreun_bench.generation.scoring.pictures import Pictures
    from loreun_bench.harness.store import Artifact


def dataset(name: str, split: str) -> Pictures:
    """The pictures of a data set by name, or of a folder with one folder a class (and perhaps train/ and test/ above)."""
    entry = _entry(name)
    found: Pictures = folder.folder(Path(name), split) if entry is None else entry.item(data_root(), split)
    return found


def _entry(name: str) -> Entry | None:
    """The data set called `name`, None for a folder. A folder of the same name as a data set needs ./ in front."""
    datasets = registry("datasets", "generation")
    known = name in {entry.name for entry in datasets.entries()}
    return datasets.get(name) if known or not Path(name).is_dir() else None


def readers(name: str) -> tuple[Path, ...]:
    """The file of a plug-in that reads a data set, which the stages that use it run; nothing for our own and for folders."""
    entry = _entry(name)
    return (entry.file,) if entry is not None and is_users(str(entry.file)) else ()


def identity(name: str) -> dict[str, Any]:
    """What tells a data set from another in a stage's key: the code that reads it, its classes, its files' contents."""
    entry = _entry(name)
    readers = {Path(folder.__file__), Path(reader.__file__)} | ({entry.file} if entry is not None else set())
    about: dict[str, Any] = {"name": Path(name).name, "code": [code_digest(path) for path in sorted(readers)]}
    if entry is not None and entry.info["embedded"]:
        return about
    with ThreadPoolExecutor() as pool:
        for split in ("train", "test"):
            pictures = dataset(name, split)
            found = [pictures.classes, pictures.labels.tolist(), list(pool.map(sha256_file, pictures.files))]
            about[split] = digest(found)
    return about


def generated(where: Path, prompts: tuple[str, ...]) -> Pictures:
    """Pictures that a model made of the two prompts of a concept scenario: class 0 is the one to forget."""
    import torch
    from torch import Tensor

    from loreun_bench.generation.scoring.images import Images
    from loreun_bench.generation.scoring.pictures import Pictures

    images = Images.open(where, prompts)
    assert images.labels is not None

    def load(positions: Tensor, size: int) -> Tensor:  # as they were made: the pipeline's own height and width
        found = [pixels for _, pixels in images.subset(positions).numbered(len(positions))]
        if sum(map(len, found)) < len(positions):
            raise UserError(f"a training picture in {where} cannot be read: {images.bad[0][0].name}")
        return torch.cat(found) * 2 - 1

    return Pictures(prompts, images.labels, load)


def reference(config: Mapping[str, Any], inputs: Mapping[str, Artifact]) -> Pictures | None:
    """Real pictures of the classes, for distances; None for a concept, of which there are none."""
    return dataset(config["data"], "test") if config["forget"] else None
