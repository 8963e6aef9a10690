"""Pictures, data sets and weights that come from others: as `kinds`."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutations

Feed = Callable[[], Any]
Make = Callable[[int, random.Random], Feed]


def pictures(folder: Path) -> Make:
    """Picture files of every format, and a folder of pictures with its index.json."""
    import numpy as np
    from PIL import Image

    from loreun_bench.classification.data import folders
    from loreun_bench.generation.scoring.images import Images

    rng = np.random.default_rng(0)
    seeds = []
    for ending, modes in {
        "png": ("RGB", "L", "P", "LA", "I;16", "1"), "jpg": ("RGB", "L", "CMYK"), "gif": ("P",), "webp": ("RGB",),
        "bmp": ("RGB",), "tiff": ("RGB", "F", "I;16"), "ppm": ("RGB", "L"),
    }.items():  # fmt: skip
        for mode in modes:
            image = Image.fromarray(rng.integers(0, 255, (9, 7, 3), dtype=np.uint8))
            image = Image.new("I;16", (7, 9), 300) if mode == "I;16" else image.convert(mode)
            image.save(out := io.BytesIO(), {"jpg": "JPEG", "tiff": "TIFF"}.get(ending, ending.upper()))
            seeds.append((out.getvalue(), ending))
    index = {f"a/{n}": {"label": n, "concept": "cat", "prompt": "a cat", "seed": n} for n in range(2)}
    for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(seeds[0][0])

    def make(number: int, rng: random.Random) -> Feed:
        content, ending = rng.choice(seeds)
        target = folder / "a" / f"0.{ending}"
        target.write_bytes(mutations.bytes_of(content, rng))
        tree = mutations.values_of(index, rng) if rng.random() < 0.5 else None
        text = json.dumps(tree).encode() if tree is not None else mutations.bytes_of(json.dumps(index).encode(), rng)
        (folder / "index.json").write_bytes(text)
        indexed = rng.random() < 0.3

        def feed() -> None:
            try:
                if indexed:
                    list(Images.open(folder, ("cat", "dog")).batches(4, 8))
                else:
                    found = folders.find(folder)
                    folders.suggestion(found)
                    folders.read(found, 8)
            finally:
                target.unlink()
                (folder / "a" / "0.png").write_bytes(seeds[0][0])

        return feed

    return make


def arrays(folder: Path) -> Make:
    """Data sets as .npz and as idx files, plain and compressed."""
    import numpy as np

    from loreun_bench.classification.data.arrays import checked
    from loreun_bench.classification.data.sources import IDX, read_idx, read_npz

    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 255, (12, 5, 5), dtype=np.uint8), np.arange(12) % 3
    names = np.array([f"{n}.png" for n in y])
    variants = [
        {"x_train": x, "y_train": y, "x_test": x[:6], "y_test": y[:6]}, {"images": x / 255.0, "labels": y},
        {"train_images": x, "train_labels": np.array(["a", "b", "c"] * 4), "names": np.array(["a", "b", "c"])},
        {"x_train": x, "y_train": np.eye(3)[y], "x_val": x, "y_val": np.eye(3)[y], "files": names},
    ]  # fmt: skip
    seeds = []
    for variant in variants:
        for save in (np.savez, np.savez_compressed):
            save(out := io.BytesIO(), **variant)
            seeds.append(out.getvalue())
    idx = {
        "train_images": b"\0\0\x08\x03" + np.array(x.shape, ">i4").tobytes() + x.tobytes(),
        "train_labels": b"\0\0\x08\x01" + np.array([12], ">i4").tobytes() + y.astype(np.uint8).tobytes(),
    }
    idx |= {"test_images": idx["train_images"], "test_labels": idx["train_labels"]}

    def make(number: int, rng: random.Random) -> Feed:
        if rng.random() < 0.5:
            (folder / "d.npz").write_bytes(mutations.bytes_of(rng.choice(seeds), rng))
            return lambda: checked("d", read_npz(folder / "d.npz"))
        shutil.rmtree(folder / "idx", ignore_errors=True)
        (folder / "idx").mkdir()
        bad, packed, outer = rng.choice(list(IDX)), rng.random() < 0.5, rng.random() < 0.5
        for key, name in IDX.items():
            content = mutations.bytes_of(idx[key], rng) if key == bad and not outer else idx[key]
            content = gzip.compress(content, 1, mtime=0) if packed else content
            content = mutations.bytes_of(content, rng) if key == bad and outer else content
            (folder / "idx" / (name + ".gz" * packed)).write_bytes(content)
        return lambda: checked("idx", read_idx(folder / "idx"))

    return make


def checkpoints(folder: Path) -> Make:
    """Weights: safetensors, zipped and old .pt, wrapped, and pickles that would run code."""
    import pickle

    import torch
    from safetensors.torch import save

    from loreun_bench.classification.unlearning.checkpoints import read
    from loreun_bench.generation.scoring.classifiers import _Small, load_small
    from loreun_bench.generation.scoring.weights import read_state

    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    state = model.state_dict()
    ran = str(folder / "ran")

    class Code:
        def __reduce__(self) -> Any:
            return os.mkdir, (ran,)

    def saved(value: Any, new: bool = True) -> bytes:
        torch.save(value, out := io.BytesIO(), _use_new_zipfile_serialization=new)
        return out.getvalue()

    known = _Small(2, 8).state_dict()
    tagged = save(known, {"kind": "small", "classes": "cat\ndog"})
    seeds = [
        (save(state), "w.safetensors"), (tagged, "w.safetensors"), (saved(state), "w.pt"),
        (saved(state, False), "w.pt"), (saved({"model": state, "epoch": 3, "args": {"lr": 0.1}}), "w.pt"),
        (saved({"state_dict": {f"module.{k}": v for k, v in state.items()}}, False), "w.pt"), (saved({"w": Code()}), "w.pt"),
        (pickle.dumps({"w": Code()}), "w.pt"), (pickle.dumps({k: v.numpy() for k, v in state.items()}), "w.pt"),
    ]  # fmt: skip

    def make(number: int, rng: random.Random) -> Feed:
        content, name = rng.choice(seeds)
        (folder / name).write_bytes(mutations.bytes_of(content, rng))
        how = rng.randrange(4)

        def feed() -> None:
            try:
                if how == 0:
                    read_state(folder / name)
                elif how == 1 and name.endswith("rs"):
                    load_small(folder / name)
                else:
                    read(folder / name, model)
            finally:
                assert not os.path.exists(ran), "code of a checkpoint was run"

        return feed

    return make
