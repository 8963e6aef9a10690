"""What can be forgotten: the classes of a data set, or a concept whose pictures the original model makes itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loreun_bench import pictures as reader
from loreun_bench.errors import UserError
from loreun_bench.generation.data import returned, whole
from loreun_bench.generation.datasets import folder
from loreun_bench.harness.files import sha256_file, stamp
from loreun_bench.harness.stage import code_digest, digest
from loreun_bench.harness.store import data_root
from loreun_bench.plugins import blamed, call_reference, undisturbed
from loreun_bench.registry import Entry, registry

if TYPE_CHECKING:
    from loreun_bench.generation.scoring.pictures import Pictures

REFERENCE = ".py:"  # in the name of a function of the user's


def dataset(name: str, split: str) -> Pictures:
    """The pictures of a data set by name, of a `FILE.py:function(root, split)`, or of a folder with one folder a class (and
    perhaps train/ and test/ above). UserError for what others' code raises, or returns and does not hang together."""
    what = f"data set '{name}': {split}"
    if REFERENCE in name:
        return returned.checked(what, call_reference(name, "data set", data_root(), split))
    entry = _entry(name)
    if entry is None:
        return folder.folder(Path(name), split)
    if not entry.plugged:
        return entry.item(data_root(), split)  # type: ignore[no-any-return]
    with undisturbed(), blamed(entry.file, f"data set '{name}'"):
        found = entry.item(data_root(), split)
    return returned.checked(what, found, entry.info["classes"], entry.info["names"])


def _entry(name: str) -> Entry | None:
    """The data set called `name`, None for a folder. A folder of the same name as a data set needs ./ in front."""
    datasets = registry("datasets", "generation")
    known = name in {entry.name for entry in datasets.entries()}
    return datasets.get(name) if known or not Path(name).is_dir() else None


def called(name: str) -> str:
    """What a data set is called in records and tables."""
    return name.rpartition(":")[2] if REFERENCE in name else Path(name).name


def readers(name: str) -> tuple[Path, ...]:
    """The file of others that reads a data set, which the stages that use it run; nothing for our own and for folders."""
    if REFERENCE in name:
        return (Path(name.rpartition(":")[0]).resolve(),)
    entry = _entry(name)
    return (entry.file,) if entry is not None and entry.plugged else ()


def identity(name: str, size: int = 64) -> dict[str, Any]:
    """What tells a data set from another: the code that reads it, its classes, its files' contents; of data that others'
    code reads, all pixels at size × size, whatever they are called and come from.

    Pictures in files are tried, too: UserError names those that cannot be decoded.
    """
    parts = {split: dataset(name, split) for split in ("train", "test")}
    if parts["train"].classes != parts["test"].classes:
        raise UserError(f"data set '{name}': classes of the test split are others than of train, or in another order")
    for file in readers(name):
        what = f"data set '{name}'"
        with undisturbed(), blamed(file, what):
            return {"size": size} | {n: returned.content(f"{what}: {n}", found, size) for n, found in parts.items()}
    entry = _entry(name)
    code = {Path(folder.__file__), Path(reader.__file__)} | ({entry.file} if entry is not None else set())
    about: dict[str, Any] = {"name": Path(name).name, "code": [code_digest(path) for path in sorted(code)]}
    if entry is not None and entry.info["embedded"]:
        return about
    if parts["train"].packed is not None:
        return about | {"file": sha256_file(parts["train"].packed)}
    for split, found in parts.items():
        hashes = list(reader.each_of(found.files, sha256_file, f"pictures of {name} (hashed)"))
        whole.check(found.files, hashes, name)
        about[split] = digest([found.classes, found.labels.tolist(), hashes])
    return about


def planned(config: Mapping[str, Any], split: str) -> Pictures:
    """The pictures of `config`'s data set, if they still are those that its sweep was planned with. UserError else."""
    found = dataset(config["data"], split)
    files = found.files if found.packed is None else (found.packed,)
    _same(config["data"], json.dumps(config["data_identity"]), digest([[str(path), *stamp(path)] for path in files]))
    return found


@lru_cache(maxsize=8)
def _same(name: str, before: str, _: str) -> None:
    known = json.loads(before)
    now = identity(name, known.get("size", 64))
    if known | {"code": None} != json.loads(json.dumps(now)) | {"code": None}:  # what runs is what was read then
        raise UserError(f"data set '{name}' changed since this sweep was planned: run the command again")


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
