"""Metrics of pictures on real pictures: digits and scikit-learn's two photographs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from PIL import Image, ImageFile

from loreun_bench.errors import UserError
from loreun_bench.generation.datasets.digits import digits
from loreun_bench.generation.scene import Scene
from loreun_bench.generation.scoring import classifiers, distances, images
from loreun_bench.generation.scoring.classifiers import Classifier, load_small, save_small, small, train_small
from loreun_bench.generation.scoring.images import Images, checked, decode, resized, to_float, to_uint8
from loreun_bench.generation.scoring.intervals import drawn
from loreun_bench.generation.scoring.pictures import Pictures
from loreun_bench.harness.shares import clopper_pearson
from loreun_bench.registry import registry

EMPTY = Path()
MEAN = Classifier(  # tells dark, middle and bright pictures apart
    "mean", ("dark", "middle", "bright"),
    lambda x: (x.mean((2, 3)), torch.stack([-(x.mean((1, 2, 3)) - m).abs() for m in (0.0, 0.5, 1.0)], 1)), torch.arange(3),
)  # fmt: skip


def write(folder, name, array):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)
    return path


def grey(level, size=8):
    return np.full((size, size, 3), level)


def noise(n, size=8, seed=0, low=0, high=256):
    return np.random.default_rng(seed).integers(low, high, (n, size, size, 3))


def folder_of(where, arrays, name="{:03}.png"):
    for i, array in enumerate(arrays):
        write(where, name.format(i), array)
    return where


def score(name, scene):
    return registry("metrics", "generation").get(name).item(scene)


@pytest.fixture(scope="module")
def digit_network():
    """A small classifier of digits at 8 pixels, trained for a second."""
    return small(digits(EMPTY, "train").classes, train_small(digits(EMPTY, "train"), 8, seed=0, steps=120))


@pytest.fixture(scope="module")
def photographs():
    from sklearn.datasets import load_sample_images

    return load_sample_images().images


# --- pictures in a folder


def test_every_picture_comes_once_in_order_with_its_own_pixels(tmp_path):
    arrays = noise(7)
    found = Images.open(folder_of(tmp_path, arrays))
    parts = list(found.batches(3))
    assert [len(part) for part in parts] == [3, 3, 1]
    pixels = torch.cat(parts)
    assert torch.equal(to_uint8(pixels), torch.from_numpy(arrays.astype(np.uint8)).permute(0, 3, 1, 2))
    assert float(pixels.min()) >= 0
    assert float(pixels.max()) <= 1
    assert [p.name for p in found.paths] == sorted(p.name for p in found.paths)
    assert Images.of(list(reversed(found.paths)), torch.arange(7)).labels.tolist() == list(range(6, -1, -1))


def test_only_a_batch_is_decoded_at_a_time(tmp_path, monkeypatch):
    found, asked = Images.open(folder_of(tmp_path, noise(9))), []
    monkeypatch.setattr(images, "decode", lambda path: (asked.append(path), decode(path))[1])
    stream = found.batches(2)
    next(stream)
    assert len(asked) <= 3
    monkeypatch.setattr(images, "_VALUES", 8 * 8 * 3)
    assert [len(batch) for batch in found.batches(4)] == [1] * 9


def test_broken_files_are_named_and_the_others_scored_with_their_own_labels(tmp_path):
    for label, level in enumerate((0, 128, 255)):
        folder_of(tmp_path / MEAN.classes[label], [grey(level, 32)] * 4)
    whole = write(tmp_path, "x.png", noise(1, 32)[0])
    cut = tmp_path / "dark" / "001.png"
    cut.write_bytes(whole.read_bytes()[: len(whole.read_bytes()) // 2])
    flipped = bytearray(whole.read_bytes())
    flipped[len(flipped) // 2] ^= 0x10
    (tmp_path / "dark" / "002.png").write_bytes(flipped)
    (tmp_path / "middle" / "000.png").write_bytes(b"")
    (tmp_path / "middle" / "001.jpg").write_text("no picture")
    whole.unlink()
    scene = Scene(Images.open(tmp_path, MEAN.classes), MEAN.classes, forget=(0,), classifier=MEAN)
    assert score("ua", scene) == {"forget_ua": 100.0, "kept_acc": 100.0}
    assert [path.name for path, _ in scene.images.bad] == ["001.png", "002.png", "000.png", "001.jpg"]
    assert "truncated" in scene.images.bad[0][1]
    assert scene.details["ua"]["forget_ua"]["n"] == 2
    assert scene.details["ua"]["kept_acc"]["n"] == 7


def test_a_truncated_picture_is_bad_whatever_another_library_set(tmp_path, monkeypatch):
    path = write(tmp_path, "a.png", noise(1, 32)[0])
    path.write_bytes(path.read_bytes()[:1000])
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    found = Images.open(tmp_path)
    assert list(found.batches(1)) == []
    assert len(found.bad) == 1
    assert len(list(found.batches(1))) == 0
    assert len(found.bad) == 1


def test_unlike_sizes_come_in_batches_of_equal_size_or_are_made_one(tmp_path):
    for i, size in enumerate((8, 8, 12, 8)):
        write(tmp_path, f"{i}.png", grey(100, size))
    write(tmp_path, "4.png", np.zeros((8, 20, 3)))
    found = Images.open(tmp_path)
    assert [tuple(part.shape) for part in found.batches(8)] == [(2, 3, 8, 8), (1, 3, 12, 12), (1, 3, 8, 8), (1, 3, 8, 20)]
    assert [tuple(part.shape) for part in found.batches(8, 6)] == [(5, 3, 6, 6)]


def test_resizing_is_antialiased_and_keeps_the_middle():
    stripes = torch.zeros(1, 3, 64, 64)
    stripes[..., ::4] = 1
    assert (resized(stripes, 8)[..., 1:-1] - 0.25).abs().max() < 0.05
    wide = torch.zeros(1, 3, 8, 24)
    wide[..., 8:16] = 1
    assert torch.equal(resized(wide, 8), torch.ones(1, 3, 8, 8))


def test_sixteen_bit_grey_palette_alpha_and_rotated_pictures(tmp_path):
    Image.fromarray(np.full((4, 4), 32896, np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(np.dstack([grey(7, 4), grey(0, 4)[..., :1]]).astype(np.uint8)).save(tmp_path / "clear.png")
    Image.fromarray(grey(9, 4).astype(np.uint8)).convert("P").save(tmp_path / "few.png")
    side = Image.fromarray(np.zeros((4, 6, 3), np.uint8))
    exif = side.getexif()
    exif[0x0112] = 6
    side.save(tmp_path / "turned.jpg", exif=exif)
    assert decode(tmp_path / "deep.png").unique().tolist() == [128]
    assert decode(tmp_path / "clear.png").unique().tolist() == [7]
    assert decode(tmp_path / "few.png").shape == (3, 4, 4)
    assert decode(tmp_path / "turned.jpg").shape == (3, 6, 4)


def test_labels_come_from_the_index_else_from_folders(tmp_path):
    folder_of(tmp_path / "run", noise(3))
    index = {"000": {"label": 2}, "001": {"label": None, "concept": "nudity"}, "009": {"label": 0}}
    (tmp_path / "run" / "index.json").write_text(json.dumps(index))
    found = Images.open(tmp_path / "run", MEAN.classes)
    assert found.labels.tolist() == [2, -1, -1]
    assert [(p.name, "lacks" in why) for p, why in found.bad] == [("009.png", True)]
    folder_of(tmp_path / "tree" / "Middle", noise(2))
    folder_of(tmp_path / "tree" / "elsewhere", noise(1))
    folder_of(tmp_path / "tree" / ".hidden", noise(1))
    assert Images.open(tmp_path / "tree", MEAN.classes).labels.tolist() == [1, 1, -1]
    assert Images.open(tmp_path / "tree").labels is None


@pytest.mark.parametrize(("text", "says"), [("{", "no JSON"), ("[1]", "must map"), ('{"000": {"label": 3}}', "label"),
                                            ('{"000": {"label": true}}', "label")])  # fmt: skip
def test_a_wrong_index_is_told(tmp_path, text, says):
    folder_of(tmp_path, noise(1))
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(UserError, match=says):
        Images.open(tmp_path, MEAN.classes)


# --- pixels: normalised floats cast to bytes become 0, 1 and 255 (the published code's FID)


def test_bytes_are_what_the_file_holds_and_anything_but_0_to_1_is_refused(photographs):
    photograph = torch.from_numpy(np.array(photographs[0])).permute(2, 0, 1)[None]
    assert torch.equal(to_uint8(to_float(photograph)), photograph)
    assert len(to_uint8(to_float(photograph)).unique()) > 200
    for wrong in (to_float(photograph) * 2 - 1, photograph.float(), to_float(photograph) * torch.nan):
        with pytest.raises(UserError, match="must be floats in"):
            to_uint8(wrong)
    with pytest.raises(UserError, match="uint8"):
        checked(photograph)
    with pytest.raises(UserError, match="height"):
        checked(to_float(photograph)[0])


def test_no_network_is_given_normalised_pixels(digit_network, photographs):
    from loreun_bench.generation.scoring.inception import Inception

    seen = []
    network = Inception("fake", lambda x: (seen.append(x), (x.float().mean((2, 3)),))[1], "cpu")
    photograph = to_float(torch.from_numpy(np.array(photographs[1])).permute(2, 0, 1)[None])
    assert network.features(photograph)[0].tolist() == pytest.approx((255 * photograph).mean((0, 2, 3)).tolist(), rel=1e-4)
    assert seen[0].dtype == torch.uint8
    for extractor in (network, digit_network):
        with pytest.raises(UserError, match="undo their normalisation"):
            extractor.features(2 * photograph - 1)


def test_pictures_of_a_data_set_are_brought_to_0_1(tmp_path):
    real = digits(EMPTY, "test")
    scene = Scene(Images.open(folder_of(tmp_path, noise(2))), reference=real)
    pixels = torch.cat([pixels for _, pixels in scene.stream("reference", torch.arange(40), "")])
    assert torch.allclose(pixels, (real.load(torch.arange(40), 8) + 1) / 2)
    off = Scene(scene.images, reference=Pictures(real.classes, real.labels, lambda p, size: 2 * real.load(p, size)))
    with pytest.raises(UserError, match="span"):
        list(off.stream("reference", torch.arange(40), ""))


# --- UA and kept


def test_ua_is_the_share_still_recognised_and_kept_that_of_the_others(tmp_path):
    folder_of(tmp_path / "dark", [grey(0)] * 3 + [grey(255)] * 5)
    folder_of(tmp_path / "middle", [grey(128)] * 3 + [grey(0)])
    folder_of(tmp_path / "bright", [grey(255)] * 4)
    scene = Scene(Images.open(tmp_path, MEAN.classes), MEAN.classes, (0,), MEAN)
    assert score("ua", scene) == {"forget_ua": 37.5, "kept_acc": 87.5}
    about = scene.details["ua"]
    assert (about["forget_ua"]["hits"], about["forget_ua"]["n"], about["kept_acc"]["n"]) == (3, 8, 8)
    assert about["classifier"] == "mean"
    one = Scene(Images.open(tmp_path / "dark"), MEAN.classes, (2,), MEAN)
    assert score("ua", one) == {"forget_ua": 62.5}
    assert "taken for 'bright'" in one.details["ua"]["notes"][0]


def test_exact_intervals_of_shares():
    assert clopper_pearson(0, 500) == pytest.approx([0, 0.7351], abs=1e-3)
    assert clopper_pearson(500, 500)[1] == 100
    low, high = clopper_pearson(3, 10)
    assert [scipy.stats.binom.sf(2, 10, low / 100), scipy.stats.binom.cdf(3, 10, high / 100)] == pytest.approx(
        [0.025] * 2, 1e-3
    )
    assert clopper_pearson(0, 0) == [0, 100]


LACKS = [
    ("ua", {"forget": (0,)}, "--classifier"),
    ("ua", {"classifier": MEAN}, "--class"),
    ("fd", {}, "--classifier"),
    ("fd", {"classifier": MEAN}, "--reference"),
    ("kid", {"classifier": MEAN}, "--reference"),
]


@pytest.mark.parametrize(("name", "scene", "says"), LACKS)
def test_what_a_metric_lacks_is_told(tmp_path, name, scene, says):
    with pytest.raises(UserError, match=says):
        score(name, Scene(Images.open(folder_of(tmp_path, noise(12))), MEAN.classes, **scene))


# --- classifiers


def test_the_small_network_knows_digits_and_is_the_same_for_the_same_seed(tmp_path):
    train, test = digits(EMPTY, "train"), digits(EMPTY, "test")
    state = train_small(train, 16, seed=0)
    network = small(train.classes, state)
    assert classifiers.accuracy(network, test, 16) > 95
    assert classifiers.accuracy(network, test, 32) > 95  # resized to its own size
    save_small(tmp_path / "a.safetensors", train.classes, state)
    again = load_small(tmp_path / "a.safetensors")
    assert (again.name, again.classes) == (network.name, network.classes)
    pixels = torch.rand(5, 3, 16, 16)
    assert torch.equal(again.features(pixels), network.features(pixels))
    short = []
    for seed in (0, 0, 1):
        torch.rand(1)  # whatever was drawn before
        short.append(train_small(train, 8, seed, steps=5))
    assert all(torch.equal(short[0][k], short[1][k]) for k in short[0])
    assert not torch.equal(short[0]["head.weight"], short[2]["head.weight"])


def test_training_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    train_small(digits(EMPTY, "train"), 8, seed=3, steps=2)
    assert torch.equal(before, torch.get_rng_state())


@pytest.fixture(scope="module")
def resnet_file(tmp_path_factory):
    import torchvision

    torch.manual_seed(0)
    state = torchvision.models.resnet50().state_dict()
    state["fc.bias"][497] += 100
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(state, path)
    return path


def test_resnet50_uses_torchvisions_transforms_and_all_1000_classes(resnet_file, photographs):
    import torchvision
    from torchvision.models import ResNet50_Weights

    network = classifiers.resnet50(resnet_file)
    assert network.classes[4] == "church"
    assert "sha256" in network.name
    pixels = to_float(torch.from_numpy(np.array(photographs[0])).permute(2, 0, 1)[None])
    assert network.predict(pixels).tolist() == [4]
    plain = torchvision.models.resnet50()
    plain.load_state_dict(torch.load(resnet_file, weights_only=True))
    plain.fc = torch.nn.Identity()
    with torch.inference_mode():
        wanted = plain.eval()(ResNet50_Weights.IMAGENET1K_V2.transforms()(Image.fromarray(photographs[0]))[None])
    assert torch.allclose(network.features(pixels), wanted, rtol=0.02, atol=0.02 * float(wanted.max()))
    other = torch.zeros(1, 1000)
    other[0, 498] = 1  # outside Imagenette
    assert Classifier("x", network.classes, lambda x: (x, other), network.meaning).predict(pixels).tolist() == [-1]
    names = ResNet50_Weights.IMAGENET1K_V2.meta["categories"]
    assert [names[i] for i in classifiers.IMAGENETTE.values()] == list(classifiers.IMAGENETTE)


# --- distances


def by_the_book(x, y):
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(a @ b).real
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * root)


def test_frechet_is_the_closed_form():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6)) + 1
    y = rng.normal(size=(150, 6)) @ rng.normal(size=(6, 6))
    assert distances.frechet(torch.tensor(x), torch.tensor(y)) == pytest.approx(by_the_book(x, y), rel=1e-9)
    line = torch.linspace(0, 1, 11, dtype=torch.float64)[:, None]
    assert distances.frechet(line, 3 * line + 1) == pytest.approx(4 + 4 * float(line.var()), rel=1e-12)


def test_frechet_of_few_pictures_and_of_a_set_with_itself():
    fid = pytest.importorskip("torch_fidelity.metric_fid", reason="torch-fidelity is not installed (extra fid)")
    rng = np.random.default_rng(1)
    x, y = torch.tensor(rng.normal(size=(20, 50))), torch.tensor(rng.normal(size=(30, 50)) + 0.5)
    sides = [fid.fid_features_to_statistics(side) for side in (x, y)]
    wanted = fid.fid_statistics_to_metric(*sides, verbose=False)[fid.KEY_METRIC_FID]
    assert distances.frechet(x, y) == pytest.approx(wanted, rel=1e-5)
    for side in (x, torch.tensor(rng.normal(size=(90, 5)))):
        assert distances.frechet(side, side) == pytest.approx(0, abs=1e-9)


def test_a_row_counted_twice_is_a_row_given_twice():
    x, y = torch.randn(12, 4, dtype=torch.float64), torch.randn(9, 4, dtype=torch.float64)
    counts = drawn(12, 1, 0, "pictures")[0]
    assert counts.sum() == 12
    assert counts.max() > 1
    ones = torch.ones(9, dtype=torch.float64)
    wanted = distances.frechet(x.repeat_interleave(counts.long(), 0), y)
    assert distances.frechet(x, y, counts, ones) == pytest.approx(wanted, rel=1e-9)


def halves(tmp_path, n=100):
    """Two halves of the test digits, as files."""
    data = digits(EMPTY, "test")
    pixels = to_uint8((data.load(torch.arange(2 * n), 8) + 1) / 2).permute(0, 2, 3, 1).numpy()
    return folder_of(tmp_path / "a", pixels[::2]), folder_of(tmp_path / "b", pixels[1::2])


def test_distances_are_small_between_halves_and_large_to_noise(tmp_path, digit_network):
    pytest.importorskip("torch_fidelity", reason="torch-fidelity is not installed (extra fid)")
    a, b = map(Images.open, halves(tmp_path))
    far = Images.open(folder_of(tmp_path / "far", noise(100)))
    near, wide, same = (Scene(a, classifier=digit_network, reference=r, settings={"resamples": 50}) for r in (b, far, a))
    values = [score("fd", scene)["fd"] for scene in (same, near, wide)]
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert values[1] < values[2] / 5
    kid = [score("kid", scene)["kid"] for scene in (near, wide)]
    assert abs(kid[0]) < kid[1] / 20
    low, high = near.details["kid"]["interval"]
    assert low < 0 < high
    low, high = wide.details["kid"]["interval"]
    assert 0 < low < kid[1] < high
    low, high = wide.details["fd"]["interval"]
    assert low < values[2] < high
    about = near.details["fd"]
    assert (about["n"], about["n_reference"], about["dimension"], about["resamples"]) == (100, 100, classifiers.WIDTH, 50)
    assert about["extractor"] == digit_network.name
    again = Scene(a, classifier=digit_network, reference=b, settings={"resamples": 50})
    score("fd", again)
    assert again.details["fd"]["interval"] == about["interval"]


def test_kid_is_torch_fidelitys_and_its_resamples_mean_the_same():
    kid = pytest.importorskip("torch_fidelity.metric_kid", reason="torch-fidelity is not installed (extra fid)")
    x, y = torch.randn(40, 8, dtype=torch.float64), torch.randn(40, 8, dtype=torch.float64) + 0.4
    ours = distances.mmd(x, y, torch.ones(1, 40, dtype=torch.float64), torch.ones(1, 40, dtype=torch.float64))
    theirs = kid.kid_features_to_metric(x, y, kid_subsets=1, kid_subset_size=40, rng_seed=0, verbose=False)
    assert float(ours) == pytest.approx(theirs[kid.KEY_METRIC_KID_MEAN], rel=1e-9)
    values = distances.mmd(x, y, drawn(40, 2000, 0, "pictures"), drawn(40, 2000, 0, "reference"))
    assert abs(float(values.mean() - ours)) < 0.1 * float(values.std())


def test_as_many_pictures_of_each_class_as_of_the_others_do_not_lower_kid():
    """Both sides from one distribution of four classes far apart: the distance is zero on average, either way of drawing."""
    generator = torch.Generator().manual_seed(0)
    places = 3 * torch.randn(4, 8, generator=generator, dtype=torch.float64)

    def drawn_side(n):
        classes = torch.arange(n) % 4
        return places[classes] + torch.randn(n, 8, generator=generator, dtype=torch.float64), classes

    found = []
    for _ in range(60):
        (x, left), (y, right) = drawn_side(24), drawn_side(80)
        counts = torch.ones(1, 24, dtype=torch.float64), torch.ones(1, 80, dtype=torch.float64)
        found.append([float(distances.mmd(x, y, *counts, given)) for given in ((left, right), None)])
    right, wrong = torch.tensor(found).T
    assert abs(float(right.mean())) < 3 * float(right.std()) / 60**0.5
    assert float(wrong.mean()) < -10 * float(wrong.std()) / 60**0.5
    compared = distances.Compared(x.float(), y.float(), {}, (torch.arange(24) % 4, torch.arange(80) % 4))
    assert distances.kernel_value(compared) == pytest.approx(found[-1][0], rel=1e-4)
    low, high = distances.kernel_about(compared, {}, lambda share: None)["interval"]
    assert low < 0 < high


def test_the_interval_of_a_frechet_distance_holds_the_distance_of_other_pictures():
    """Plain percentiles would not: every resample is further away than the set it is drawn from."""
    generator = torch.Generator().manual_seed(0)

    def pair():
        return [torch.randn(60, 16, generator=generator), torch.randn(60, 16, generator=generator) + 0.3]

    expected = np.mean([distances.frechet(*pair()) for _ in range(100)])
    moved = plain = 0
    for _ in range(20):
        x, y = pair()
        compared = distances.Compared(x, y, {"dimension": 16, "notes": []})
        about = distances.frechet_about(compared, distances.frechet(x, y), {"resamples": 60}, lambda share: None)
        moved += about["interval"][0] <= expected <= about["interval"][1]
        plain += about["percentiles"][0] <= expected <= about["percentiles"][1]
    assert moved >= 17
    assert plain <= 5


def test_the_forgotten_class_is_left_out_of_both_sides(tmp_path):
    for side in ("a", "b"):
        for name, level in zip(MEAN.classes, (0, 120, 250), strict=True):
            folder_of(tmp_path / side / name, noise(12, low=level, high=level + 5, seed=len(side + name)))
    a, b = (Images.open(tmp_path / side, MEAN.classes) for side in ("a", "b"))
    scene = Scene(a, MEAN.classes, forget=(0,), classifier=MEAN, reference=b, settings={"resamples": 2})
    wanted = [
        torch.cat([MEAN.features(p) for p in side.subset((side.labels != 0).nonzero()[:, 0]).batches(8)]) for side in (a, b)
    ]
    assert score("fd", scene)["fd"] == pytest.approx(distances.frechet(*wanted), rel=1e-9)
    assert scene.details["fd"]["n"] == 24
    assert "24 of 36 images" in scene.details["fd"]["of"]


def test_too_few_pictures_are_an_error_and_few_a_note(tmp_path, digit_network):
    nine = Images.open(folder_of(tmp_path / "nine", noise(9)))
    twelve = Images.open(folder_of(tmp_path / "twelve", noise(12)))
    with pytest.raises(UserError, match="the reference has 9 readable pictures, at least 10"):
        score("fd", Scene(twelve, classifier=digit_network, reference=nine))
    with pytest.raises(UserError, match="there are 9 readable pictures, at least 10"):
        score("fd", Scene(nine, classifier=digit_network, reference=twelve))
    scene = Scene(twelve, classifier=digit_network, reference=twelve, settings={"resamples": 0})
    score("fd", scene)
    assert "12 pictures for 32 features" in scene.details["fd"]["notes"][0]
    assert "interval" not in scene.details["fd"]


def test_features_are_computed_once_in_a_scene_and_again_in_the_next(tmp_path):
    calls = []
    network = Classifier(
        "counting", ("x",), lambda p: (calls.append(len(p)), (p.mean((2, 3)), p.mean((2, 3))))[1], torch.arange(1)
    )
    both = Images.open(folder_of(tmp_path, noise(12)))
    for _ in range(2):
        scene = Scene(both, classifier=network, reference=both, settings={"resamples": 2})
        for name in ("fd", "fd"):
            score(name, scene)
    assert sum(calls) == 2 * 24


def rounded(found):
    """With floats of eight digits: another batch size is rounded otherwise, as the processor likes it."""
    if isinstance(found, dict):
        return {key: rounded(value) for key, value in found.items()}
    return [rounded(each) for each in found] if isinstance(found, (list, tuple)) else (
        float(f"{found:.8g}") if isinstance(found, float) else found
    )


def test_features_that_are_known_give_the_same_distance_and_are_not_computed(tmp_path, digit_network):
    test = digits(EMPTY, "test")
    pictures = Images.of(Images.open(folder_of(tmp_path, noise(40))).paths, torch.arange(40) % 10)
    given = {"classes": test.classes, "forget": (3,), "classifier": digit_network, "reference": test}
    settings = {"resamples": 3}
    scene = Scene(pictures, settings=settings, **given)
    wanted = score("fd", scene)
    whole = Scene(Images(()), reference=test, classifier=digit_network, settings={"size": 8})
    features = whole.features(digit_network, "reference")
    assert len(features) == len(test)
    known = {digit_network.name: features}
    seen = []
    again = Scene(pictures, settings=settings, known=known, listen=lambda what, share: seen.append(what), **given)
    assert score("fd", again) == pytest.approx(wanted, rel=1e-9)
    assert rounded(again.details) == rounded(scene.details)
    assert not [what for what in seen if "reference" in what]
