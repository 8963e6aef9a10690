"""Real pictures in folders: Imagenette's layout and a user's own, read when they are asked for."""

from __future__ import annotations

import builtins
import json
from itertools import product

import numpy as np
import pytest
import torch
from helpers import generation_config, refused
from PIL import Image

from loreun_bench import api
from loreun_bench.errors import UserError
from loreun_bench.generation import stages
from loreun_bench.generation.data import concepts
from loreun_bench.generation.data.names import IMAGENETTE as CLASSES
from loreun_bench.generation.datasets.folder import folder
from loreun_bench.generation.datasets.imagenette import fetch, imagenette
from loreun_bench.pictures import square
from loreun_bench.registry import load_plugin, registry


def put(path, colour=(255, 0, 0), size=(40, 30)):
    """A picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def fill(root, classes=("cat", "dog"), count=5):
    for label, name in enumerate(classes):
        for i in range(count):
            put(root / name / f"{i}.png", (100 * label, 10 * i, 0))
    return root


@pytest.fixture
def nette(tmp_path):
    """Imagenette's layout with one training and two test pictures a class; a class's red is its number times 20."""
    root = tmp_path / "imagenette2-320"
    for label, wnid in enumerate(CLASSES):
        put(root / "train" / wnid / f"{wnid}_1.JPEG", (20 * label, 0, 0))
        for i in range(2):
            put(root / "val" / wnid / f"ILSVRC_{i}.JPEG", (20 * label, 0, 255))
    return root


def test_imagenette_is_read_in_its_own_order_with_the_papers_names(nette):
    for root in (nette, nette.parent):
        train, test = imagenette(root, "train"), imagenette(root, "test")
        assert train.classes == (
            "tench", "English springer", "cassette player", "chain saw", "church", "French horn", "garbage truck",
            "gas pump", "golf ball", "parachute",
        )  # fmt: skip
        assert train.labels.tolist() == list(range(10))
        assert test.labels.tolist() == [i // 2 for i in range(20)]
        pixels = train.load(torch.tensor([9, 0]), 16)
        assert pixels.shape == (2, 3, 16, 16)
        assert pixels[0, 0].mean() == pytest.approx(180 / 127.5 - 1, abs=0.03)
        assert pixels[1].mean() == pytest.approx(-1, abs=0.03)
        assert test.load(torch.tensor([0]), 8)[0, 2].mean() == pytest.approx(1, abs=0.03)


def test_imagenette_agrees_with_torchvisions_reading(nette):
    from torchvision.datasets import Imagenette

    theirs = Imagenette(nette.parent, split="val", size="320px")
    ours = imagenette(nette.parent, "test")
    assert ours.labels.tolist() == [label for _, label in theirs._samples]
    assert ours.classes == tuple(names[0] for names in theirs.classes)
    picture, _ = theirs[7]
    expected = torch.from_numpy(np.array(square(picture, 30))).permute(2, 0, 1) / 127.5 - 1
    assert torch.allclose(ours.load(torch.tensor([7]), 30)[0], expected)


def test_imagenette_is_registered_for_this_track():
    entry = registry("datasets", "generation").get("imagenette")
    assert (entry.item, entry.info["classes"], entry.info["embedded"]) == (imagenette, 10, False)


def test_imagenette_that_is_not_there_is_said_and_not_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.Imagenette", lambda *a, **k: pytest.fail("it reached for the network"))
    with pytest.raises(UserError, match=r"data prepare imagenette.*train/n01440764") as error:
        imagenette(tmp_path, "train")
    assert "\n" not in str(error.value)


def test_imagenette_that_lacks_a_class_or_a_split_says_which(nette):
    for path in (nette / "val" / "n03888257").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="n03888257 holds no picture"):
        imagenette(nette, "test")
    (nette / "val" / "n03888257").rmdir()
    with pytest.raises(UserError, match=r"lacks n03888257 \(parachute\)"):
        imagenette(nette, "test")
    assert len(imagenette(nette, "train")) == 10
    with pytest.raises(UserError, match="did you mean 'train'"):
        imagenette(nette, "trian")


def test_a_download_goes_through_torchvision_only_when_asked_and_is_checked(nette, tmp_path, monkeypatch):
    calls = []

    def fake(root, size, download):
        calls.append((root, size, download))
        nette.rename(root / "imagenette2-160")

    monkeypatch.setattr("torchvision.datasets.Imagenette", fake)
    assert fetch(tmp_path / "data", "160px") == tmp_path / "data" / "imagenette2-160"
    assert calls == [(tmp_path / "data", "160px", True)]
    fetch(tmp_path / "data", "160px")
    assert len(calls) == 1
    with pytest.raises(UserError, match="did you mean '160px'"):
        fetch(tmp_path, "160")

    def broken(*args, **kwargs):
        raise RuntimeError("no network")

    monkeypatch.setattr("torchvision.datasets.Imagenette", broken)
    with pytest.raises(UserError, match=r"could not be downloaded \(no network\): unpack a copy as .*imagenette2-320"):
        fetch(tmp_path)
    (tmp_path / "imagenette2-320").mkdir()
    with pytest.raises(UserError, match="lacks n01440764"):
        fetch(tmp_path)


def test_a_folder_of_classes_keeps_a_fifth_of_each_for_the_test(tmp_path):
    root = fill(tmp_path / "pets", ("big_cat", "dog"), 10)
    train, test = folder(root, "train"), folder(root, "test")
    assert train.classes == test.classes == ("big cat", "dog")
    assert train.labels.bincount().tolist() == [8, 8]
    assert test.labels.bincount().tolist() == [2, 2]
    greens = {
        name: sorted(round(float((x[1, 0, 0] + 1) * 127.5)) for x in part.load(part.of(1), 4))
        for name, part in (("train", train), ("test", test))
    }
    assert greens == {"train": [10, 20, 30, 40, 60, 70, 80, 90], "test": [0, 50]}


@pytest.mark.parametrize("test", ["test", "val"])
def test_a_folder_with_splits_is_read_by_them_whole(tmp_path, test):
    fill(tmp_path / "train", count=7)
    fill(tmp_path / test, count=3)
    assert len(folder(tmp_path, "train")) == len(folder(tmp_path / "train", "train")) == 14
    with pytest.raises(UserError, match="is a train split alone: give the folder that it is in"):
        folder(tmp_path / "train", "test")
    assert len(folder(tmp_path, "test")) == len(folder(tmp_path / test, "test")) == 6
    assert folder(tmp_path, "test").classes == ("cat", "dog")


def test_what_a_folder_lacks_is_said(tmp_path):
    with pytest.raises(UserError, match="is not there"):
        folder(tmp_path / "none", "train")
    with pytest.raises(UserError, match="no folders in it"):
        folder(tmp_path, "train")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    with pytest.raises(UserError, match=r"cat holds no picture"):
        folder(tmp_path, "train")
    put(tmp_path / "cat" / "0.png")
    with pytest.raises(UserError, match="class 'cat' has too few pictures"):
        folder(tmp_path, "train")
    fill(tmp_path / "other" / "train")
    with pytest.raises(UserError, match=r"has train/ but no test/ or val/"):
        folder(tmp_path / "other", "test")
    fill(tmp_path / "twice", ("a_b", "a b"))
    with pytest.raises(UserError, match="two folders for the class 'a b'"):
        folder(tmp_path / "twice", "train")
    with pytest.raises(UserError, match="unknown split 'validate'"):
        folder(tmp_path / "other", "validate")


def test_hidden_and_other_files_are_passed_over_and_inner_folders_read(tmp_path):
    root = fill(tmp_path / "train", count=2)
    put(root / "cat" / "inner" / "9.JPG")
    put(root / "cat" / ".cache" / "8.png")
    put(root / ".trash" / "1.png")
    (root / "cat" / "Thumbs.db").write_bytes(b"")
    found = folder(root, "train")
    assert (found.classes, found.labels.tolist()) == (("cat", "dog"), [0, 0, 0, 1, 1])


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0 no jpeg", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"])
def test_a_picture_that_cannot_be_read_is_named_when_it_is_asked_for(tmp_path, content):
    root = fill(tmp_path / "train")
    (root / "dog" / "3.png").write_bytes(content)
    found = folder(root, "train")
    assert len(found.load(found.of(0), 8)) == 5
    with pytest.raises(UserError, match=r"dog/3\.png cannot be read"):
        found.load(found.of(1), 8)


def test_a_truncated_photo_is_an_error_and_not_half_grey(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "train" / "cat" / "0.jpg"
    path.parent.mkdir(parents=True)
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(UserError, match=r"0\.jpg cannot be read"):
        folder(tmp_path, "train").load(torch.tensor([0]), 64)


@pytest.mark.parametrize(("size", "wide"), [((90, 30), True), ((30, 90), False)])
def test_the_shorter_side_is_resized_and_the_middle_kept(size, wide):
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    if wide:
        pixels[:, 30:60, 1] = 255
    else:
        pixels[30:60, :, 1] = 255
    for side in (10, 30, 60):
        cut = np.asarray(square(Image.fromarray(pixels), side))
        assert cut.shape == (side, side, 3)
        edge = max(1, side // 8)
        assert (cut[edge:-edge, edge:-edge, 1] > 250).all()


def test_grey_palette_transparent_and_rotated_pictures_become_upright_rgb(tmp_path):
    root = tmp_path / "train" / "cat"
    root.mkdir(parents=True)
    Image.new("L", (8, 8), 255).save(root / "0.png")
    Image.new("P", (8, 8), 0).save(root / "1.png")
    Image.new("RGBA", (8, 8), (255, 255, 255, 0)).save(root / "2.png")
    half = np.zeros((16, 16, 3), np.uint8)
    half[:8] = 255
    turned = Image.fromarray(half)
    exif = turned.getexif()
    exif[0x0112] = 3  # upside down
    turned.save(root / "3.jpg", exif=exif, quality=100)
    found = folder(tmp_path, "train").load(torch.arange(4), 16)
    assert found.shape == (4, 3, 16, 16)
    assert found[3, :, :4].max() < -0.9
    assert found[3, :, -4:].min() > 0.9
    assert found.min() >= -1
    assert found.max() <= 1


def test_nothing_is_decoded_before_it_is_asked_for(tmp_path, monkeypatch):
    root = fill(tmp_path / "train")
    opened = []
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda path, *a: opened.append(path) or real(path, *a))
    monkeypatch.setattr(builtins, "open", lambda *a, **k: pytest.fail(f"{a[0]} was opened"))
    found = folder(root, "train")
    assert not opened
    monkeypatch.undo()
    monkeypatch.setattr(Image, "open", lambda path, *a: opened.append(path) or real(path, *a))
    found.load(torch.tensor([6]), 8)
    assert [path.name for path in opened] == ["1.png"]
    assert found.load(torch.tensor([], dtype=torch.int64), 8).shape == (0, 3, 8, 8)


def test_the_identity_of_a_folder_is_its_contents(tmp_path):
    own = fill(tmp_path / "own")
    before = concepts.identity(str(own))
    put(own / "cat" / "0.png", (0, 1, 0))
    assert concepts.identity(str(own)) != before
    put(own / "cat" / "0.png", (0, 0, 0))
    assert concepts.identity(str(own)) == before
    (own / "cat").rename(own / "ant")
    assert concepts.identity(str(own)) != before


OWN = """
import torch
from pathlib import Path
from loreun_bench import dataset
from loreun_bench.generation import Pictures

{decorator}
def {name}(root, split):
    "Greys, as bright as a file says."
    level = float((Path(__file__).parent / "level.txt").read_text())
    labels = {labels}
    def load(positions, size):
        x = torch.full((len(positions), 3, size, size), level, dtype=torch.{dtype})
        x[0, 0, -1, -1] += {odd}
        return x
    return Pictures({classes}, labels, load)
"""


def own(folder, name, **change):
    """A data set of a plug-in file, loaded: its name."""
    values = {"labels": "torch.arange(40) % 2", "classes": "('a', 'b')", "odd": 0, "decorator": "", "dtype": "float32"}
    values |= change
    if not values["decorator"]:
        values["decorator"] = f"@dataset('{name}', classes=2, embedded=True, track='generation')"
    (folder / f"{name}.py").write_text(OWN.format(name=name, **values))
    load_plugin(folder / f"{name}.py")
    return name


def test_the_identity_of_others_data_is_their_pixels_whatever_they_are_called(tmp_path):
    level = tmp_path / "level.txt"
    level.write_text("0.5")
    before = concepts.identity(own(tmp_path, "one"))
    assert concepts.identity(own(tmp_path, "two")) == before
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "level.txt").write_text("0.5")
    assert concepts.identity(f"{tmp_path / 'elsewhere' / own(tmp_path / 'elsewhere', 'three')}.py:three") == before
    assert concepts.identity("one", 16) != before
    changes = [{"odd": 0.001}, {"labels": "torch.arange(40) // 20"}, {"classes": "('a', 'c')"}]
    found = [concepts.identity(own(tmp_path, f"other{n}", **change)) for n, change in enumerate(changes)]
    level.write_text("0.6")
    found.append(concepts.identity("one"))
    assert len({str(each) for each in [before, *found]}) == 5


def test_a_stage_refuses_pictures_that_are_others_than_when_its_sweep_was_planned(tmp_path):
    mine, level = fill(tmp_path / "mine"), tmp_path / "level.txt"
    level.write_text("0.5")
    written = f"{tmp_path / own(tmp_path, 'four')}.py:four"
    plans = [{"data": name, "data_identity": concepts.identity(name, 16)} for name in (str(mine), written)]
    for config in plans:
        for split in ("train", "test"):
            assert len(concepts.planned(config, split)) == len(concepts.dataset(config["data"], split))
    put(mine / "cat" / "0.png", (0, 1, 0))  # in the process that found them as they were
    with pytest.raises(UserError, match="mine' changed since this sweep was planned: run the command again"):
        [concepts.planned(plans[0], split) for split in ("train", "test")]
    level.write_text("0.6")
    concepts._same.cache_clear()  # another process
    with pytest.raises(UserError, match="four' changed since this sweep was planned"):
        concepts.planned(plans[1], "test")


@pytest.mark.parametrize("stage", [stages.evaluate, stages.real_features])
def test_a_stage_refuses_a_classifier_whose_file_is_another_by_now(stage, tmp_path):
    file = tmp_path / "mine.safetensors"
    file.write_bytes(b"another")
    with pytest.raises(UserError, match=r"mine.safetensors changed since this sweep was planned"):
        stage({"files": {str(file): "0" * 64}}, {}, "cpu")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"labels": "torch.zeros(40)"}, "labels are torch.float32 [40], expected whole numbers [N]"),
        ({"labels": "torch.arange(40) % 3"}, "label 2 is none of 2 classes"),
        ({"labels": "torch.zeros(40).long()"}, "class 'b' has no picture"),
        ({"classes": "('a', 'a')"}, "two classes, or one without a name, are called 'a'"),
        ({"classes": "('a', ' ')"}, "two classes, or one without a name, are called ' '"),
        ({"classes": "'ab'"}, "classes are 'ab', expected the name of each"),
        ({"classes": "(0, 1)"}, "classes are (0, 1), expected the name of each"),
        ({"classes": "('a', 'b', 'c')", "labels": "torch.arange(40) % 3"}, "3 classes (a, b, c), but it declares 2"),
        ({"odd": 3}, "pictures must be floats in [-1, 1], these span 0.5 to 3.5"),
        ({"odd": "float('nan')"}, "these span nan to nan"),
        ({"odd": "1 / 0"}, "own.py:14 raised ZeroDivisionError"),
        ({"classes": "('a', 'b')[::1 if split == 'train' else -1]"}, "classes of the test split are others than of train"),
        (
            {"decorator": "@dataset('own', classes=2, names=('a', 'c'), track='generation')"},
            "a class is called 'b', but it declares 'c' in that place",
        ),
    ],
)
def test_data_of_others_that_do_not_hang_together_are_refused_by_the_plan_and_by_check(command, tmp_path, change, says):
    (tmp_path / "level.txt").write_text("0.5")
    own(tmp_path, "own", **change)
    plugin = tmp_path / "own.py"
    what = ["--set", "track=generation", "--set", "dataset=own", "--set", "scenarios=[{kind: class, forget_class: a}]"]
    refused(command("plan", "digits-diffusion", *what, "--plugin", plugin), says)
    if "split ==" not in str(change) and "1 / 0" not in str(change):
        code, out, _ = command("check", plugin)
        assert (code, says in out) == (2, True), out


def test_check_notices_data_that_are_drawn_anew_each_time(command, tmp_path):
    (tmp_path / "level.txt").write_text("0.5")
    own(tmp_path, "own", odd="0.1 * torch.rand(())")
    code, out, _ = command("check", tmp_path / "own.py")
    assert (code, "load gave other pixels the second time" in out) == (2, True)


def test_pictures_of_a_folder_too_few_for_a_distance_are_refused_at_planning(random_pipeline, command, tmp_path):
    own = fill(tmp_path / "own", classes=("seven", "two"))
    small = generation_config(random_pipeline, dataset=str(own), metrics=["fd"])
    small["sampling"] |= {"images": 20}
    (tmp_path / "small.yaml").write_text(json.dumps(small))
    says = "fd needs at least 10 pictures of kept classes, the data set's test split has "
    refused(command("plan", tmp_path / "small.yaml"), says)


def test_a_function_of_a_file_is_a_data_set(random_pipeline, classifier_file, tmp_path):
    (tmp_path / "level.txt").write_text("0.5")
    name = f"{tmp_path / own(tmp_path, 'greys', classes=('seven', 'two'), dtype='float64')}.py:greys"
    values = generation_config(random_pipeline, classifier_file, dataset=name)
    values |= {"methods": {"FMN": {"steps": 1}}, "metrics": ["ua"]}
    assert concepts.dataset(name, "train").load(torch.arange(2), 8).dtype == torch.float32  # wider floats, too
    records = api.sweep(values, tmp_path / "run", workers=0)
    assert [(r.reason, r.dataset) for r in records] == [("", "greys")] * 2


def broken(folder, *names):
    """Pictures cut in half, so that only decoding shows it."""
    for name in names:
        (folder / name).write_bytes((folder / name).read_bytes()[:-40])


def test_broken_pictures_are_named_by_the_plan_before_anything_runs(command, tmp_path):
    root = tmp_path / "own"
    rng = np.random.default_rng(0)
    for part, name, number in product(("train", "test"), ("cat", "dog"), range(3)):
        path = root / part / name / f"{number}.{'jpg' if number else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    what = ("digits-diffusion", "--set", f"dataset={root}", "--set", "scenarios=[{kind: class, forget_class: cat}]", "--set",
            "metrics=[ua]")  # fmt: skip
    assert command("plan", *what)[0] == 0
    broken(root / "train" / "dog", "0.png", "1.jpg")
    refused(command("plan", *what), f"picture {root}/train/dog/0.png (")
    (root / "train" / "dog" / "0.png").unlink()
    refused(command("plan", *what), f"picture {root}/train/dog/1.jpg (")
    (root / "train" / "dog" / "1.jpg").unlink()
    (root / "test" / "cat" / "3.png").symlink_to("nowhere.png")
    refused(command("sweep", *what, "--out", tmp_path / "run"), f"picture {root}/test/cat/3.png (FileNotFoundError")
    assert not (tmp_path / "run").exists()


def test_pictures_are_decoded_once_however_often_they_are_planned_with(tmp_path, monkeypatch):
    root, opened = fill(tmp_path / "own"), []
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda path, *a: opened.append(path) or real(path, *a))
    concepts.identity(str(root))
    concepts.identity(str(root.rename(tmp_path / "moved")))
    assert len(opened) == 10
    put(tmp_path / "moved" / "cat" / "0.png", (1, 2, 3))
    concepts.identity(str(tmp_path / "moved"))
    assert len(opened) == 11


def test_a_data_set_is_meant_before_a_folder_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "digits")
    assert len(concepts.dataset("digits", "train").classes) == 10
    assert concepts.dataset("./digits", "train").classes == ("cat", "dog")


def test_a_training_picture_of_a_concept_that_cannot_be_read_is_named(tmp_path):
    for name, content in (("0-0", b""), ("1-0", b"no picture")):
        put(tmp_path / f"{name}.png")
        if content:
            (tmp_path / f"{name}.png").write_bytes(content)
    index = {"0-0": {"label": 0, "concept": "a"}, "1-0": {"label": 1, "concept": "b"}}
    (tmp_path / "index.json").write_text(json.dumps(index))
    pictures = concepts.generated(tmp_path, ("a", "b"))
    assert pictures.load(torch.tensor([0]), 8).shape == (1, 3, 30, 40)  # as the pipeline made it
    for positions in ([0, 1], [1]):
        with pytest.raises(UserError, match=rf"a training picture in {tmp_path} cannot be read: 1-0.png"):
            pictures.load(torch.tensor(positions), 8)
