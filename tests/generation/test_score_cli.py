"""`score images`: its tables and JSON, and one line for everything that a user can mend."""

from __future__ import annotations

import json
import shutil
import sys
import urllib.error

import numpy as np
import pytest
import torch
from PIL import Image

from loreun_bench.generation.datasets.digits import digits
from loreun_bench.generation.scoring.classifiers import save_small, train_small
from loreun_bench.generation.scoring.images import Images, to_uint8


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """test/ and train/ with folders of digits, a classifier of them; few/, one/, empty/, odd.pth."""
    root = tmp_path_factory.mktemp("digits")
    train = digits(root, "train")
    for split in ("train", "test"):
        data = digits(root, split)
        for label, name in enumerate(data.classes):
            pixels = to_uint8((data.load(data.of(label)[:4], 8) + 1) / 2).permute(0, 2, 3, 1).numpy()
            (root / split / name).mkdir(parents=True)
            for i, array in enumerate(pixels):
                Image.fromarray(array).save(root / split / name / f"{i}.png")
    save_small(root / "small.safetensors", train.classes, train_small(train, 8, 0, steps=120))
    torch.save({"x": torch.ones(1)}, root / "odd.pth")
    (root / "empty").mkdir()
    (root / "text.pth").write_text("no weights")
    for name, n in (("few", 3), ("one", 1), ("flat", 12)):
        (root / name).mkdir()
        for i in range(n):
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(root / name / f"{i}.png")
    (root / "broken").mkdir()
    (root / "broken" / "a.png").write_text("no picture")
    (root / "indexed").mkdir()
    Image.new("RGB", (8, 8)).save(root / "indexed" / "a.png")
    (root / "indexed" / "index.json").write_text("{")
    return root


@pytest.fixture
def cli(command, monkeypatch, place):
    """The command line in `place`, without network."""
    monkeypatch.chdir(place)

    def offline(url, **options):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", offline)
    return lambda words: command(*words.split())


def test_tables_with_values_intervals_and_what_they_were_made_with(cli, place):
    words = "score images test --scorer ua --scorer fd --reference train --classifier small.safetensors --class three"
    code, out, err = cli(f"{words} --resamples 5 --out r.json")
    assert (code, err) == (0, "")
    result = json.loads((place / "r.json").read_text())
    ua = result["scores"]["ua"]
    assert ua["values"]["forget_ua"] >= 75
    assert f"UA %    {ua['values']['forget_ua']:>7.4g}" in out
    assert "small CNN, 8 px" in out
    assert "36 vs 36" in out
    assert "without the forgotten class: 36 of 40 images, 36 of 40 reference" in out
    assert result["class"] == "three"
    assert result["environment"]["torch"]
    assert cli(f"{words} --resamples 5 --format json")[1] == (place / "r.json").read_text()


def test_a_folder_of_one_class(cli, place):
    code, out, _ = cli("score images test/three --scorer ua --classifier small.safetensors --class Three")
    assert code == 0
    assert "kept" not in out
    assert "note: the pictures have no labels: all are taken for 'three'" in out


def test_a_broken_picture_is_named_and_the_rest_is_scored(cli, place):
    path = place / "test" / "one" / "broken.png"
    path.write_bytes((place / "test" / "one" / "0.png").read_bytes()[:60])
    try:
        code, out, _ = cli("score images test --scorer ua --classifier small.safetensors --class three")
    finally:
        path.unlink()
    assert code == 0
    assert "1 of 41 pictures" in out
    assert "test/one/broken.png: OSError" in out
    assert " 36\n" in out


def test_nudity_per_label_with_the_real_pictures_beside(cli, monkeypatch):
    pytest.importorskip("nudenet", reason="NudeNet is not installed (extra nudity)")

    class Network:
        def detect(self, array):
            return [{"class": "FEET_EXPOSED", "score": 0.6, "box": []}] * int(array.max() == 0)

    monkeypatch.setattr("nudenet.NudeDetector", Network)
    code, out, _ = cli("score images few --scorer nudity --reference test")
    assert code == 0
    row = next(line for line in out.splitlines() if line.startswith("FEET_EXPOSED"))
    assert row.split()[1:] == ["3", "/", "3", "3", "/", "3", "0", "/", "0", *["0", "/", "0"] * 3]
    assert "real ≥ 0.5" in out


def test_what_cannot_be_had_takes_nothing_from_the_rest(cli):
    pytest.importorskip("torch_fidelity", reason="torch-fidelity is not installed (extra fid)")
    words = "--reference train --classifier small.safetensors --class three --resamples 2"
    code, out, err = cli(f"score images test --scorer fid --scorer ua {words}")
    assert code == 2
    assert "UA %" in out
    assert len(err.splitlines()) == 1
    for part in ("weights-inception-2015-12-05-6726825d.pth", "no route", "--weights fid=FILE", "or use scorer fd"):
        assert part in err


WRONG = [
    ("missing --scorer ua", "folder missing is not there"),
    ("empty --scorer ua", "folder empty holds no picture"),
    ("small.safetensors --scorer ua", "folder small.safetensors is not there"),
    ("test --scorer fdd", "unknown scorer 'fdd'; did you mean 'fd'?"),
    ("test", "Missing option '--scorer'"),
    ("test --scorer ua", "give --classifier resnet50"),
    ("test --scorer ua --classifier small.safetensors", "give --class NAME"),
    ("test --scorer ua --classifier small.safetensors --class tree", "did you mean 'three'?"),
    ("few --scorer fid --class three", "none is known: give --classifier"),
    ("test --scorer ua --classifier resnet50", "--weights resnet50=FILE"),
    ("test --scorer ua --classifier nothing.pth", "weights file nothing.pth is not there"),
    ("test --scorer ua --classifier odd.pth", "odd.pth holds no weights of a ResNet-50"),
    ("test --scorer ua --classifier r50.safetensors", "r50.safetensors is not there"),
    ("test --scorer fd --classifier small.safetensors", "give --reference DIR"),
    ("test --scorer fd --classifier small.safetensors --reference missing", "folder missing is not there"),
    (
        "test --scorer fd --classifier small.safetensors --reference few",
        "the reference has 3 readable pictures, at least 10",
    ),
    ("test --scorer fid --reference few", "fid: the reference has 3 readable pictures, at least 10"),
    ("test --scorer ua --class three --classifier text.pth", "text.pth cannot be read as a state dict"),
    ("test --scorer ua --class three --classifier small.safetensors --out few", "few cannot be written"),
    (
        "test --scorer fd --class three --classifier small.safetensors --reference flat",
        "'three' would be left out of the pictures only, as the folders of the reference are not called like classes",
    ),
    ("test --scorer fid --reference train --weights odd.pth", "odd.pth holds no weights of FID-Inception"),
    (
        "test --scorer kid --classifier small.safetensors --reference one",
        "the reference has 1 readable pictures, at least 2",
    ),
    ("broken --scorer ua --classifier small.safetensors --class three", "none of the 1 pictures can be read"),
    ("indexed --scorer nudity", "index.json: no JSON ("),
    ("test --scorer ua --weights odd.pth", "it is for nothing here"),
    ("test --scorer ua --weights fidd=odd.pth", "did you mean 'fid'?"),
    ("test --scorer ua --format xml", "known are text and json"),
    ("test --scorer ua --device tpu", "known are auto, cpu and cuda"),
    ("test --scorer nudity --threshold 2", "--threshold"),
]


@pytest.mark.parametrize(("words", "says"), WRONG, ids=[words for words, _ in WRONG])
def test_wrong_input_is_one_line_and_exit_code_2(cli, words, says):
    if any(f"--scorer {name}" in words for name in ("fid", "kid")):
        pytest.importorskip("torch_fidelity", reason="torch-fidelity is not installed (extra fid)")
    code, _, err = cli(f"score images {words}")
    assert code == 2, err
    assert len(err.splitlines()) == 1, err
    assert err.startswith("error: ")
    assert says in err


def test_labels_come_from_the_innermost_folder_that_is_called_like_a_class(cli, place):
    values = []
    for reference in ("train", "deep"):
        shutil.copytree(place / "train", place / "deep" / "two" / "val", dirs_exist_ok=True)
        words = f"--scorer fd --classifier small.safetensors --class three --reference {reference} --resamples 0"
        code, out, _ = cli(f"score images test {words} --format json")
        assert code == 0
        values.append(json.loads(out)["scores"]["fd"]["values"])
    assert values[0] == values[1]


def test_a_folder_of_another_concept_is_compared_whole(cli, place, tmp_path):
    for i in range(12):
        Image.new("RGB", (8, 8), (20 * i,) * 3).save(tmp_path / f"{i}.png")
    index = {str(i): {"label": i % 2, "concept": ("a nude person", "other")[i % 2]} for i in range(12)}
    (tmp_path / "index.json").write_text(json.dumps(index))
    code, out, _ = cli(f"score images {tmp_path} --scorer fd --reference train --classifier small.safetensors --resamples 0")
    assert code == 0
    assert "12 vs 40" in out


def test_imagenets_identifiers_are_names_of_classes(tmp_path):
    for name in ("n03888257", "Parachute", "n01440764", "other"):
        (tmp_path / "val" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "val" / name / "a.png")
    assert Images.open(tmp_path, ("tench", "parachute")).labels.tolist() == [1, 0, 1, -1]


def test_missing_extras_are_named(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "nudenet", None)
    assert "pip install 'loreun-bench[nudity]'" in cli("score images few --scorer nudity")[2]
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    assert "pip install 'loreun-bench[fid]'" in cli("score images test --scorer fid --reference train")[2]


def test_own_metrics_and_their_mistakes(cli, place):
    (place / "own.py").write_text(
        "from loreun_bench import metric\n"
        "@metric('count', columns={'n': 'pictures'}, unit='', track='generation')\n"
        "def count(scene):\n    'Pictures in the folder.'\n    return {'n': len(scene.images)}\n"
        "@metric('bad', columns={'m': 'm'}, unit='', track='generation')\n"
        "def bad(scene):\n    'Fails.'\n    return {'m': 1 / 0}\n"
    )
    from loreun_bench.registry import registry

    known = registry("metrics", "generation")
    before = {entry.name: entry for entry in known.entries()}
    try:
        code, out, err = cli("score images few --scorer count --scorer bad --plugin own.py")
    finally:
        known._entries = before
    assert code == 2
    assert "pictures        3" in out
    assert "own.py:9 raised ZeroDivisionError" in err


def test_progress_is_told_for_long_work_only(monkeypatch, capsys):
    from loreun_bench.cli import score

    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    listen = score._Listener()
    for share in (0.0, 0.5, 1.0):
        listen("quick", share)
    assert capsys.readouterr().err == ""
    for share in (0.0, 0.25, 0.5, 1.0):
        listen("slow", share)
        now[0] += 10
    assert capsys.readouterr().err.splitlines() == [" 25% slow (0:30 left)"]
