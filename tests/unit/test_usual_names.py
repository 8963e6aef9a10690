"""Data by the names that people give them: .npz, dicts, pairs, torchvision-style data sets; and what is called cifar10."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
from helpers import refused
from PIL import Image

from loreun_bench.classification.data import prepared
from loreun_bench.classification.data.arrays import Arrays, checked
from loreun_bench.classification.data.images import load_dataset
from loreun_bench.classification.data.prepared import prepare, resolve, table
from loreun_bench.classification.data.returned import as_arrays
from loreun_bench.classification.datasets.cifar20 import coarse
from loreun_bench.classification.datasets.cifar100 import NAMES, SUPERCLASSES
from loreun_bench.errors import UserError
from loreun_bench.generation.data.names import IMAGENETTE
from loreun_bench.harness.stage import digest
from loreun_bench.registry import load_plugin, registry

X = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1)).astype(np.uint8)
Y = np.arange(60) % 5
PARTS = {"train": slice(0, 40), "test": slice(40, 60)}
COARSE = [
    4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7, 6, 13, 15, 3, 15, 0, 11, 1, 10, 12,
    14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16, 12, 1,
    9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13,
]  # the published numbers of the super-classes, by class  # fmt: skip


def npz(path, **arrays):
    path.parent.mkdir(exist_ok=True)
    np.savez(path, **arrays)
    return path


def pixels(info):
    data = load_dataset(info.path, info.mean, info.std, info.classes, "cpu")
    return np.concatenate([data.train._pixels.numpy(), data.test._pixels.numpy()])


@pytest.mark.parametrize(
    "spelt",
    ["{part}_images {part}_labels", "x_{part} y_{part}", "X_{part} y_{part}", "{part}_x {part}_y", "{part}X {part}Y",
     "{part}_data {part}_labels", "x{part} y{part}", "images_{part} labels_{part}", "{part}-Images {part}-Targets"],
)  # fmt: skip
def test_an_npz_by_any_of_the_usual_names_is_a_data_set(tmp_path, spelt):
    images, labels = spelt.split()
    held = {name.format(part=p): of[i] for p, i in PARTS.items() for name, of in ((images, X), (labels, Y))}
    info = resolve(str(npz(tmp_path / "mine.npz", **held)))
    assert (info.name, sum(info.train), sum(info.test), info.names, info.note) == ("mine", 40, 20, tuple("01234"), "")
    assert (pixels(info) == X).all()
    with pytest.raises(UserError, match=r"image_size: the pictures of .* are 8×8 and stay so"):
        resolve(str(tmp_path / "mine.npz"), 16)


def test_arrays_that_are_tested_on_what_they_train_on_or_are_dark_say_so(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 40, (30, 6, 6, 1), np.uint8), np.arange(30) % 3
    note = resolve(str(npz(tmp_path / "same.npz", x_train=x, y_train=y, x_test=x[:9], y_test=y[:9]))).note
    assert "9 of 9 test pictures are training pictures, too" in note
    assert f"the brightest pixel is {x.max()} of 255" in note
    other = rng.integers(0, 256, (9, 6, 6, 1), np.uint8)
    note = resolve(str(npz(tmp_path / "other.npz", x_train=x * 6, y_train=y, x_test=other, y_test=y[:9]))).note
    assert note == ""


def test_medmnists_validation_part_is_left_out_and_said(tmp_path):
    held = {"train_images": X[:40], "train_labels": Y[:40, None], "val_images": X[:5], "val_labels": Y[:5, None],
            "test_images": X[40:], "test_labels": Y[40:, None]}  # fmt: skip
    info = resolve(str(npz(tmp_path / "bloodmnist.npz", **held)))
    assert (sum(info.train), sum(info.test), info.note) == (40, 20, "its validation part is left out")
    for name in ("test_images", "test_labels"):
        del held[name]
    info = resolve(str(npz(tmp_path / "less.npz", **held)))
    assert (sum(info.train), sum(info.test)) == (40, 5)
    assert "its validation part is the test part" in info.note


def test_an_npz_without_a_test_part_is_split_and_strange_arrays_are_named(tmp_path):
    names = np.array(["ant", "bee", "cow", "dog", "elk"])
    info = resolve(str(npz(tmp_path / "a.npz", x=X, y=names[Y], extra=np.ones(3))))
    assert (info.names, info.train, info.test) == (tuple(names), (9,) * 5, (3,) * 5)
    assert "not used: extra" in info.note
    assert "every fifth picture of a class" in info.note
    assert resolve(str(npz(tmp_path / "b.npz", x=X, y=Y, class_names=names))).names == tuple(names)


@pytest.mark.parametrize(
    ("held", "says"),
    [
        ({"x_train": X, "X_train": X, "y_train": Y}, "'x_train' and 'X_train' may both be meant"),
        ({"x_train": X}, r"train_labels is missing \(or x_train, y_train\); it has x_train"),
        ({"x_train": X, "y_train": Y, "x_test": X}, "test_labels is missing"),
        ({"arr_0": X, "arr_1": Y}, "train_images is missing"),
        ({"x": X, "y": np.array([{}] * 60, object)}, "plain arrays"),
    ],
)
def test_an_npz_that_is_unclear_is_one_line(tmp_path, held, says):
    with pytest.raises(UserError, match=says):
        resolve(str(npz(tmp_path / "a.npz", **held)))


def test_the_same_pictures_under_other_class_names_are_other_data(tmp_path):
    words = (np.array(["ant", "bee", "cow", "dog", last])[Y] for last in ("elk", "fox"))
    infos = [resolve(str(npz(tmp_path / str(i) / "a.npz", x=X, y=y))) for i, y in enumerate(words)]
    assert infos[0].name == infos[1].name
    assert infos[0].sha256 != infos[1].sha256
    assert infos[0].file != infos[1].file


class Pairs:
    """A data set like torchvision's."""

    def __init__(self, part, form, classes=()):
        self.part, self.form = part, form
        if classes:
            self.classes = list(classes)

    def __len__(self):
        return len(X[self.part])

    def __getitem__(self, index):
        return self.form(X[self.part][index]), int(Y[self.part][index])


FORMS = {
    "pil": lambda x: Image.fromarray(x[..., 0]), "array": lambda x: x,
    "tensor": lambda x: torch.tensor(x).permute(2, 0, 1) / 255,
}  # fmt: skip
ANIMALS = ("ant", "bee", "cow", "dog", "elk")


@pytest.mark.parametrize("form", FORMS)
def test_a_pair_of_torchvision_style_data_sets(form):
    train, test = (Pairs(part, FORMS[form], ANIMALS) for part in PARTS.values())
    for value in ((train, test), [train, test], {"train": train, "test": test}, {"train": train, "validation": test}):
        found = checked("own", as_arrays("own", value))
        assert (found.names, len(found.train_labels)) == (ANIMALS, 40)
        assert (np.concatenate([found.train_images, found.test_images]) == X).all()
        assert (np.concatenate([found.train_labels, found.test_labels]) == Y).all()
    subset = torch.utils.data.Subset(train, range(20))
    assert checked("own", as_arrays("own", subset)).names == ANIMALS
    rows = [{"image": x, "label": y} for x, y in zip(X, Y, strict=True)]
    assert len(checked("own", as_arrays("own", (torch.utils.data.Subset(rows, range(60)),) * 2)).train_labels) == 60


def test_data_sets_whose_classes_differ_are_refused_and_pil_pictures_are_resized():
    train, test = Pairs(PARTS["train"], FORMS["pil"], ANIMALS), Pairs(PARTS["test"], FORMS["pil"], ANIMALS[1:])
    with pytest.raises(UserError, match="training and test have the classes"):
        as_arrays("own", (train, test))
    assert checked("own", as_arrays("own", train, 4)).train_images.shape[1:] == (4, 4, 1)
    with pytest.raises(UserError, match=r"gives int, expected .picture, label"):
        as_arrays("own", Pairs.__new__(type("One", (), {"__len__": lambda s: 3, "__getitem__": lambda s, i: 3})))


def test_an_image_folder_of_torchvision_gives_its_names_and_files(tmp_path):
    from torchvision.datasets import ImageFolder

    for part in PARTS:
        for name in ANIMALS[:2]:
            for i in range(3):
                path = tmp_path / part / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(X[i, ..., 0]).save(path)
    found = checked("own", as_arrays("own", tuple(ImageFolder(str(tmp_path / part)) for part in PARTS)))
    assert found.names == ANIMALS[:2]
    assert found.test_files == tuple(f"{name}/{i}.png" for name in ANIMALS[:2] for i in range(3))


@pytest.mark.parametrize(
    "value",
    [
        (X[:40], Y[:40], X[40:], Y[40:]), [X[:40], Y[:40], X[40:], Y[40:]], ((X[:40], Y[:40]), (X[40:], Y[40:])),
        {"x_train": X[:40], "y_train": Y[:40], "x_test": X[40:], "y_test": Y[40:]},
        {"train": (X[:40], Y[:40]), "test": (X[40:], Y[40:])},
        {"train": {"x": X[:40], "y": Y[:40]}, "test": {"x": X[40:], "y": Y[40:]}},
        Arrays(X[:40], Y[:40], X[40:], Y[40:]),
    ],
)  # fmt: skip
def test_what_a_function_may_return(value):
    found = checked("own", as_arrays("own", value))
    assert (np.concatenate([found.train_images, found.test_images]) == X).all()
    assert (np.concatenate([found.train_labels, found.test_labels]) == Y).all()


@pytest.mark.parametrize("value", [3, None, X, (X, Y, X), "digits", torch.utils.data.DataLoader([1, 2]), {1, 2}, [], ()])
def test_what_a_function_may_not_return_is_one_line(value):
    with pytest.raises(UserError, match=r"own returned .*expected Arrays|is missing|no train images") as error:
        checked("own", as_arrays("own", value))
    assert "\n" not in str(error.value)


def test_five_hundred_random_pictures_are_not_cifar10(command, tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (500, 32, 32, 3)).astype(np.uint8), np.arange(500) % 10
    npz(tmp_path / "few.npz", train_images=x, train_labels=y, test_images=x[:100], test_labels=y[:100])
    says = f"these are not cifar10 (500 training images, not 50000): give it as dataset: {tmp_path / 'few.npz'}"
    refused(command("data", "prepare", "cifar10", "--from", tmp_path / "few.npz"), says)
    assert not list((tmp_path / "data").glob("cifar10*"))
    assert resolve(str(tmp_path / "few.npz")).name == "few"


def test_right_counts_of_other_pictures_or_classes_are_noticed():
    entry = registry("datasets").get("fashion-mnist")
    x, y = np.zeros((70000, 28, 28, 1), np.uint8), np.arange(70000) % 10
    arrays = checked("f", Arrays(x[:60000], y[:60000], x[60000:], y[60000:]), entry.info["names"])
    assert "mean 0.000, not 0.286" in prepared.difference(prepared.info_of("f", arrays), entry)
    odd = np.where(np.arange(70000) == 3, 4, y)
    arrays = checked("f", Arrays(x[:60000], odd[:60000], x[60000:], y[60000:]), entry.info["names"])
    assert prepared.difference(prepared.info_of("f", arrays), entry) == "5999 training images of class 'Dress', not 6000"


def test_what_was_prepared_as_another_data_set_by_older_code_is_refused(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (500, 32, 32, 3)).astype(np.uint8)
    arrays = checked("cifar10", Arrays(x, np.arange(500) % 10, x, np.arange(500) % 10))
    prepared._write("cifar10", arrays)
    with pytest.raises(UserError, match=r"not cifar10 \(500 training images, not 50000\); prepare it again"):
        resolve("cifar10")


def test_a_description_without_names_has_the_registrys_or_numbers(tmp_path):
    arrays = checked("fashion-mnist", Arrays(X, Y))
    prepared._write("fashion-mnist", arrays)
    path = tmp_path / "data" / "fashion-mnist.json"
    info = json.loads(path.read_text())["info"]
    for key in ("names", "subclasses", "note"):
        del info[key]
    path.write_text(json.dumps({"info": info, "digest": digest(info)}))
    assert prepared.verify("fashion-mnist").names[:2] == ("T-shirt/top", "Trouser")
    (tmp_path / "data" / "other.json").write_text(json.dumps({"info": info, "digest": digest(info)}))
    assert prepared.verify("other").names == tuple("01234")


def test_the_super_classes_are_the_published_ones():
    assert [list(SUPERCLASSES).index(next(k for k, v in SUPERCLASSES.items() if name in v)) for name in NAMES] == COARSE
    assert list(SUPERCLASSES) == sorted(SUPERCLASSES)
    assert len(set(NAMES)) == 100


def test_cifar20_has_super_classes_as_labels_and_the_classes_below(tmp_path, monkeypatch):
    entry = registry("datasets").get("cifar20")
    fine = np.concatenate([np.arange(300), np.arange(100)[::-1]]) % 100
    x = np.random.default_rng(0).integers(0, 256, (400, 32, 32, 3)).astype(np.uint8)
    npz(tmp_path / "c.npz", x_train=x[:300], y_train=fine[:300, None], x_test=x[300:], y_test=fine[300:, None])
    with pytest.raises(UserError, match=r"not cifar20 \(300 training images, not 50000\)"):
        prepare("cifar20", tmp_path / "c.npz")
    monkeypatch.setitem(entry.info, "counts", None)
    monkeypatch.setitem(entry.info, "mean", None)
    info = prepare("cifar20", tmp_path / "c.npz")
    assert (info.names, info.subclasses, info.classes) == (tuple(SUPERCLASSES), NAMES, 20)
    data = load_dataset(info.path, info.mean, info.std, info.classes, "cpu")
    assert data.train_labels.tolist() == [COARSE[i] for i in fine[:300]]
    assert data.test_labels.tolist() == [COARSE[i] for i in fine[300:]]
    assert table(info, "test")["subclass"].tolist() == [NAMES[i] for i in fine[300:]]
    already = Arrays(x[:300], fine[:300] % 20, x[300:], fine[300:] % 20)
    assert coarse(already) is already
    assert resolve("cifar20") == info


def test_a_function_that_shuffles_or_augments_gives_the_same_data_again(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import random\nimport numpy as np\nimport torch\nfrom loreun_bench import dataset\n"
        "@dataset('mine', embedded=True)\n"
        "def registered(folder, download):\n    'Noise.'\n    return mine()\n"
        "def mine():\n"
        "    y = np.random.permutation(np.arange(30) % 3)\n"
        "    return torch.rand(30, 1, 6, 6) * (1 - random.random() / 2), y\n"
    )
    load_plugin(tmp_path / "mine.py")
    for name in (f"{tmp_path / 'mine.py'}:mine", "mine"):
        found = set()
        for _ in range(2):
            for reseeded in (random.seed, np.random.seed, torch.seed):  # as in another process
                reseeded()
            found.add(resolve(name).sha256)
        assert len(found) == 1


def test_an_embedded_data_set_of_a_plug_in_follows_its_code(tmp_path):
    infos = []
    for level in (100, 200):
        plugin = tmp_path / f"{level}.py"
        plugin.write_text(
            "import numpy as np\nfrom loreun_bench import dataset\n"
            f"@dataset('own-{level}', embedded=True, names=('ant', 'bee'))\ndef own(root, download):\n    'Greys.'\n"
            f"    y = np.arange(40) % 2\n    x = np.zeros((40, 4, 4), np.uint8) + {level}\n    x[y == 1] = 0\n"
            "    return x, y, x[:9], y[:9]\n"
        )
        load_plugin(plugin)
        infos.append(resolve(f"own-{level}"))
    assert [info.names for info in infos] == [("ant", "bee")] * 2
    entry = registry("datasets").get("own-100")
    registry("datasets")._entries["own-100"] = type(entry)("own-100", registry("datasets").get("own-200").item, entry.info)
    assert resolve("own-100").sha256 == infos[1].sha256 != infos[0].sha256


def test_a_few_photographs_are_not_imagenette(command, tmp_path):
    for part in ("train", "val"):
        for wnid in IMAGENETTE:
            path = tmp_path / "few" / part / wnid / "0.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(X[0, ..., 0]).save(path)
    refused(command("data", "prepare", "imagenette", "--from", tmp_path / "few"), "(10 training photographs, not 9469)")
    assert not (tmp_path / "data" / "imagenette2-320").exists()


def test_data_ls_shows_names_and_notes(command, tmp_path):
    npz(tmp_path / "a.npz", x=X, y=np.array(ANIMALS)[Y])
    resolve(str(tmp_path / "a.npz"))
    code, out, _ = command("data", "ls")
    assert code == 0
    assert "45 training and 15 test images, 8×8×1, 5 classes (ant, bee, cow, dog, elk)" in out
