"""A user's folder of pictures as classification data: names, parts, subclasses, files, and what is said of them."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from helpers import refused
from PIL import Image

import loreun_bench
from loreun_bench import config as configuration
from loreun_bench.classification.data import folders
from loreun_bench.classification.data.images import load_dataset
from loreun_bench.classification.data.prepared import resolve, table
from loreun_bench.errors import UserError
from loreun_bench.harness.plan import build


def put(path, level=0, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, level, level)).save(path)


def fill(root, classes, count=5, first=0):
    """Pictures whose brightness tells the class (tens) and the picture (ones)."""
    for label, name in enumerate(classes):
        for i in range(count):
            put(root / name / f"{i:02}.png", 20 * (first + label) + i)
    return root


def pixels(info, part="train"):
    data = load_dataset(info.path, info.mean, info.std, info.classes, "cpu")
    return getattr(data, part)._pixels[:, 0, 0, 0].tolist(), getattr(data, f"{part}_labels").tolist()


def test_classes_are_called_as_their_folders_whatever_their_order(tmp_path):
    """Folder 11 is the third of 1, 10, 11, 12, 2, …: a class is meant by its name."""
    names = [str(n) for n in range(1, 13)]
    fill(tmp_path / "train", names)
    fill(tmp_path / "test", names, 2)
    info = resolve(str(tmp_path), 8)
    assert info.names == tuple(sorted(names))
    found = pixels(info)
    level = {int(name): 20 * i for i, name in enumerate(names)}
    assert [found[0][found[1].index(info.names.index(str(n)))] for n in level] == list(level.values())
    assert info.identity()["names"] == sorted(names)


@pytest.mark.parametrize("test", ["test", "val", "Validation"])
def test_both_parts_are_read_whole_and_files_keep_their_names(tmp_path, test):
    fill(tmp_path / "train", ("bee", "ant"), first=5)
    fill(tmp_path / test, ("bee", "ant"), 2, first=9)
    info = resolve(str(tmp_path), 8)
    assert (info.names, info.train, info.test, info.note) == (("ant", "bee"), (5, 5), (2, 2), "")
    assert pixels(info) == ([120, 121, 122, 123, 124, 100, 101, 102, 103, 104], [0] * 5 + [1] * 5)
    assert table(info, "test")["file"].tolist() == [f"{test}/{c}/0{i}.png" for c in ("ant", "bee") for i in range(2)]
    assert "subclass" not in table(info, "train")


@pytest.mark.parametrize("inside", ["", "train"])
def test_a_folder_without_a_test_part_is_split_by_class_and_says_so(tmp_path, inside):
    fill(tmp_path / "set" / inside, ("ant", "bee"), 10)
    info = resolve(str(tmp_path / "set"), 8)
    assert (info.train, info.test) == ((8, 8), (2, 2))
    assert pixels(info, "test") == ([0, 5, 20, 25], [0, 0, 1, 1])
    files = table(info, "test")["file"].tolist()
    assert [name.rpartition("/")[2] for name in files] == ["00.png", "05.png"] * 2
    assert "no test part is given: every fifth picture of a class is kept for it, 4 of 20" in info.note
    config = configuration.load({"dataset": str(tmp_path / "set"), "image_size": 8, "seeds": 1, "name": "own",
        "methods": {"Retrain": {}}, "weightings": ["none"], "scenarios": [{"kind": "random", "fraction": 0.3}]})  # fmt: skip
    assert f"set: {info.note}" in build(config).notes


def test_test_classes_must_be_in_training_and_a_class_without_a_test_is_said(tmp_path):
    fill(tmp_path / "train", ("ant", "bee", "cow"))
    fill(tmp_path / "test", ("ant", "Bee"))
    with pytest.raises(UserError, match=r"class 'Bee' of test/ is not in training; did you mean 'bee'"):
        resolve(str(tmp_path), 8)
    shutil.rmtree(tmp_path / "test" / "Bee")
    info = resolve(str(tmp_path), 8)
    assert (info.names, info.test) == (("ant", "bee", "cow"), (5, 0, 0))
    assert "no test pictures of: bee, cow" in info.note


def test_the_inner_folder_is_the_subclass(tmp_path):
    for part in ("train", "test"):
        for inner in ("animal/cat", "animal/dog", "toy/dog", "toy/ball"):
            fill(tmp_path / part, (inner,), 2)
        put(tmp_path / part / "toy" / "9.png")
    info = resolve(str(tmp_path), 8)
    assert info.names == ("animal", "toy")
    assert info.subclasses == ("animal/dog", "ball", "cat", "toy", "toy/dog")
    assert table(info, "train")["subclass"].tolist() == ["cat", "cat", "animal/dog", "animal/dog", "toy", "ball", "ball",
                                                         "toy/dog", "toy/dog"]  # fmt: skip
    assert table(info, "train")["file"][4] == "train/toy/9.png"


def test_one_inner_folder_everywhere_is_no_subclass(tmp_path):
    """As in Tiny ImageNet, whose classes hold one folder called images."""
    fill(tmp_path, ("ant/images", "bee/images"))
    assert resolve(str(tmp_path), 8).subclasses == ()


def test_links_and_other_systems_droppings(tmp_path):
    real = fill(tmp_path / "real", ("ant", "bee"))
    mine = tmp_path / "mine"
    for name in ("ant", "bee"):
        (mine / name).mkdir(parents=True)
        for path in sorted((real / name).iterdir()):
            (mine / name / path.name).symlink_to(path)
        (mine / name / "._00.png").write_bytes(b"\0\5\x16\7")
        (mine / name / ".DS_Store").write_bytes(b"\0")
    fill(mine / "__MACOSX", ("ant", "bee"))
    info = resolve(str(mine), 8)
    assert (info.names, info.train, info.test) == (("ant", "bee"), (4, 4), (1, 1))
    assert pixels(info) == pixels(resolve(str(real), 8))


def test_broken_pictures_are_named_all_at_once(tmp_path):
    fill(tmp_path, ("ant", "bee"), 8)
    for i in range(4):
        (tmp_path / "bee" / f"0{i}.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"picture .*bee/00\.png \(.*bee/02\.png \(.*\) and 1 more cannot be read: replace"):
        resolve(str(tmp_path), 8)
    (tmp_path / "ant" / "x.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(UserError, match=r"ant/x\.png \(FileNotFoundError"):
        resolve(str(tmp_path), 8)
    assert not list((tmp_path / "data").glob("*.safetensors"))


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("pictures", "train picture HERE/p/bee/00.png cannot be read (UnidentifiedImageError"),
        ("strange", "train picture 3 cannot be read (KeyError: 'no such', own.py:14): replace it or take it away"),
    ],
)
def test_a_picture_that_a_data_set_of_the_users_cannot_give_is_named_by_the_plan(command, tmp_path, function, says):
    fill(tmp_path / "p", ("ant", "bee"))
    (tmp_path / "p" / "bee" / "00.png").write_bytes(b"no picture")
    (tmp_path / "own.py").write_text(
        "from pathlib import Path\nfrom torchvision.datasets import ImageFolder\n\n\n"
        "def pictures():\n    whole = ImageFolder(Path(__file__).parent / 'p')\n    return whole, whole\n\n\n"
        "class Strange:\n    def __len__(self):\n        return 5\n    def __getitem__(self, i):\n"
        "        return {0: ([[0]], 0), 1: ([[0]], 1), 2: ([[1]], 1)}[i] if i < 3 else {}['no such']\n\n\n"
        "def strange():\n    return Strange(), Strange()\n"
    )
    what = ("--set", f"dataset={tmp_path / 'own.py'}:{function}", "--set", "image_size=8")
    refused(command("plan", *what), says.replace("HERE", str(tmp_path)))


@pytest.mark.parametrize(("size", "says"), [((28, 28), "image_size: 28 .most are 28×28"), ((400, 300), "image_size: 64")])
def test_a_missing_image_size_is_suggested(tmp_path, size, says):
    for name in ("ant", "bee"):
        for i in range(3):
            put(tmp_path / name / f"{i}.png", i, size)
    with pytest.raises(UserError, match=f"set image_size, to which its pictures are resized, such as {says}"):
        resolve(str(tmp_path))


def test_what_a_folder_lacks_is_one_line(tmp_path):
    with pytest.raises(UserError, match="is not there"):
        resolve(str(tmp_path / "none"), 8)
    (tmp_path / "a").mkdir()
    with pytest.raises(UserError, match="no folders in it"):
        resolve(str(tmp_path / "a"), 8)
    fill(tmp_path / "b" / "flowers", ("ant", "bee"))
    with pytest.raises(UserError, match=r"has one class, 'flowers': did you mean .*flowers"):
        resolve(str(tmp_path / "b"), 8)
    fill(tmp_path / "c" / "val", ("ant", "bee"))
    with pytest.raises(UserError, match="has val/ but no train/"):
        resolve(str(tmp_path / "c"), 8)
    (tmp_path / "b" / "flowers" / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no picture"):
        resolve(str(tmp_path / "b" / "flowers"), 8)
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(UserError, match=r"text\.txt is no \.npz"):
        resolve(str(tmp_path / "text.txt"))


def test_what_is_not_read_or_read_twice_is_said(tmp_path):
    fill(tmp_path / "train", ("ant", "bee"))
    fill(tmp_path / "test", ("ant", "bee"), 1)  # the same bytes as a training picture
    fill(tmp_path / "val", ("ant", "bee"))
    put(tmp_path / "train" / "loose.png")
    note = resolve(str(tmp_path), 8).note
    assert "left out: val/" in note
    assert "1 pictures lie in no class's folder and are left out, such as loose.png" in note
    assert "2 of 2 test pictures are training pictures, too" in note
    for name in ("ant", "bee"):
        for i in range(3):
            path = tmp_path / "deep" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8), 4095 - i, np.uint16)).save(path)
    assert "brightest pixel is 15 of 255" in resolve(str(tmp_path / "deep"), 8).note


def test_other_pictures_names_or_sizes_are_other_data_and_the_same_are_not_read_again(tmp_path, monkeypatch):
    root = fill(tmp_path / "load", ("ant", "bee"))
    first, small = resolve(str(root), 8), resolve(str(root), 4)
    other = resolve(str(fill(tmp_path / "far" / "load", ("ant", "bee"), first=2)), 8)
    renamed = resolve(str(fill(tmp_path / "again" / "load", ("ant", "cow"))), 8)
    assert {i.name for i in (first, small, other, renamed)} == {"load"}
    assert len({i.sha256 for i in (first, small, other, renamed)}) == 4
    assert len({i.file for i in (first, small, other, renamed)}) == 4
    with monkeypatch.context() as patch:
        patch.setattr(folders, "read", lambda *a: pytest.fail("the pictures were read again"))
        assert resolve(str(root), 8) == first
    put(root / "ant" / "03.png", 250)
    assert resolve(str(root), 8).sha256 != first.sha256
    put(root / "ant" / "03.png", 3)
    first.path.write_bytes(first.path.read_bytes()[:-9])
    assert resolve(str(root), 8) == first
    assert pixels(first)[0][2] == 3


def test_a_sweep_over_a_folder_of_sixteen_bit_pictures_learns_its_classes(tmp_path):
    """Read as white, three classes are alike and no model is above a third."""
    rng = np.random.default_rng(0)
    for label in range(3):
        for i in range(40):
            path = tmp_path / "tissue" / f"kind{label}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            grey = rng.integers(0, 8000, (8, 8)) + 20000 * label
            Image.fromarray(grey.astype(np.uint16)).save(path)
    records = loreun_bench.sweep(
        {
            "name": "deep", "dataset": str(tmp_path / "tissue"), "image_size": 8, "seeds": 1, "noise_floor": False,
            "train": {"epochs": 8, "batch_size": 16}, "scenarios": [{"kind": "random", "fraction": 0.2}],
            "methods": {"Retrain": {}}, "weightings": ["none"], "metrics": ["accuracy"],
        },
        tmp_path / "run", workers=0,
    )  # fmt: skip
    assert [record.status for record in records] == ["ok"] * len(records)
    assert min(record.metrics["test_acc"] for record in records) > 90
