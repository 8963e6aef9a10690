"""Data sets as people have them: idx files, plain and compressed, and torchvision's folder, read by torchvision itself."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from loreun_bench.classification.data.images import load_dataset
from loreun_bench.classification.data.prepared import prepare, resolve
from loreun_bench.classification.data.sources import IDX, read_any
from loreun_bench.errors import UserError

COUNT = {"train": 40, "test": 20}


def idx_folder(folder, compressed):
    """Four small idx files with Fashion-MNIST's shape."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    made = {}
    for key, name in IDX.items():
        count = COUNT[key.split("_")[0]]
        images = key.endswith("images")
        array = rng.integers(0, 256, (count, 28, 28)) if images else np.arange(count) % 10
        made[key] = array.astype(np.uint8)
        content = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + made[key].tobytes()
        path = folder / (name + ".gz" if compressed else name)
        path.write_bytes(gzip.compress(content) if compressed else content)
    return made


@pytest.mark.parametrize("compressed", [False, True])
def test_idx_files_are_read_to_the_byte_and_kept_as_uint8(tmp_path, compressed):
    made = idx_folder(tmp_path / "idx", compressed)
    info = resolve(str(tmp_path / "idx"))
    assert (info.name, info.shape, info.classes, sum(info.train), sum(info.test)) == ("idx", (28, 28, 1), 10, 40, 20)
    data = load_dataset(info.path, info.mean, info.std, info.classes, "cpu")
    assert (data.train._pixels.numpy()[..., 0] == made["train_images"]).all()
    assert (data.test_labels.numpy() == made["test_labels"]).all()
    assert resolve(str(tmp_path / "idx")) == info


def test_torchvisions_folder_gives_the_same_arrays(tmp_path):
    made = idx_folder(tmp_path / "FashionMNIST" / "raw", compressed=False)
    arrays = read_any("fashion-mnist", tmp_path)
    assert (arrays.train_images == made["train_images"]).all()
    assert (arrays.test_labels == made["test_labels"]).all()


def test_statistics_are_of_the_training_images(tmp_path):
    made = idx_folder(tmp_path / "idx", compressed=False)
    info = resolve(str(tmp_path / "idx"))
    assert info.mean == pytest.approx([made["train_images"].mean() / 255], abs=1e-5)
    assert info.std == pytest.approx([made["train_images"].std() / 255], abs=1e-5)


@pytest.mark.parametrize("name", list(IDX.values()))
@pytest.mark.parametrize("damage", ["missing", "cut", "junk"])
def test_a_missing_or_damaged_idx_file_is_named(tmp_path, name, damage):
    idx_folder(tmp_path / "idx", compressed=True)
    path = tmp_path / "idx" / f"{name}.gz"
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"junk" * 20)
    if damage == "missing" and name == IDX["train_images"]:
        with pytest.raises(UserError, match="no copy of fashion-mnist"):
            prepare("fashion-mnist", tmp_path / "idx")
        return
    with pytest.raises(UserError, match=name):
        prepare("fashion-mnist", tmp_path / "idx")


@pytest.mark.parametrize("name", ["cifar10", "cifar20", "cifar100", "svhn", "fashion-mnist"])
def test_an_empty_folder_holds_no_data_set(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=f"no copy of {name}"):
        prepare(name, tmp_path / "empty")
    with pytest.raises(UserError, match=f"data prepare {name}"):
        resolve(name)


def test_digits_prepare_themselves(tmp_path):
    info = resolve("digits")
    assert (sum(info.train), sum(info.test), info.classes, info.shape) == (1438, 359, 10, (8, 8, 1))
