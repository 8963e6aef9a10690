"""The one picture reader: every mode becomes upright 8-bit RGB, and a folder's pictures are found as people keep them."""

from __future__ import annotations

import logging
import os

import numpy as np
import pytest
from PIL import Image

from loreun_bench import pictures
from loreun_bench.errors import UserError
from loreun_bench.generation.datasets.folder import folder as generation
from loreun_bench.generation.scoring.images import Images
from loreun_bench.pictures import BAD, counted, decode, folders_in, part_of, pictures_in

DEEP = np.linspace(0, 65535, 24).astype(np.uint16).reshape(4, 6)


def put(path, colour=(200, 0, 0), mode="RGB", size=(6, 4), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tif", "big.tif", "a.pgm"])
def test_sixteen_bits_are_scaled_to_eight_in_every_form_pil_gives_them(tmp_path, name):
    path = tmp_path / name
    if name == "a.pgm":
        path.write_bytes(b"P5 6 4 65535\n" + DEEP.astype(">u2").tobytes())
    else:
        Image.fromarray(DEEP.astype(">u2") if name == "big.tif" else DEEP).save(path)
    with Image.open(path) as image:
        assert image.mode == {"a.pgm": "I", "big.tif": "I;16B"}.get(name, "I;16")
    found = decode(path)
    assert found.dtype == np.uint8
    assert (found == (DEEP // 257)[..., None]).all()
    assert len(np.unique(found)) == 24


@pytest.mark.parametrize(("dtype", "says"), [(np.int32, "32-bit"), (np.float32, "floating-point")])
def test_pixels_of_no_known_range_are_bad_with_the_reason(tmp_path, dtype, says):
    Image.fromarray(np.full((4, 4), 200, dtype)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=says):
        decode(tmp_path / "a.tif")


@pytest.mark.parametrize("deep", [False, True])
def test_exif_six_is_turned_at_eight_and_sixteen_bits(tmp_path, deep):
    pixels = DEEP if deep else (DEEP // 257).astype(np.uint8)
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    assert (decode(tmp_path / "a.png")[..., 0] == np.rot90(DEEP // 257, -1)).all()


def test_cmyk_palette_one_bit_grey_with_alpha_and_the_first_of_an_animation(tmp_path):
    assert decode(put(tmp_path / "c.tif", (0, 255, 255, 0), "CMYK"))[0, 0].tolist() == [255, 0, 0]
    assert decode(put(tmp_path / "c.jpg", (0, 255, 255, 0), "CMYK"))[0, 0].tolist() == pytest.approx([255, 0, 0], abs=3)
    assert decode(put(tmp_path / "1.png", 1, "1"))[0, 0].tolist() == [255] * 3
    assert decode(put(tmp_path / "la.png", (9, 255), "LA"))[0, 0].tolist() == [9] * 3
    few = Image.new("P", (4, 4), 1)
    few.putpalette([0, 0, 0, 10, 20, 30])
    few.save(tmp_path / "p.png")
    assert decode(tmp_path / "p.png")[0, 0].tolist() == [10, 20, 30]
    frames = [Image.new("L", (4, 4), grey) for grey in (40, 200)]
    frames[0].save(tmp_path / "g.gif", save_all=True, append_images=frames[1:])
    assert decode(tmp_path / "g.gif").shape == (4, 4, 3)
    assert decode(tmp_path / "g.gif")[0, 0].tolist() == [40] * 3


def test_what_is_transparent_shows_white_but_in_a_picture_that_is_transparent_all_over(tmp_path):
    """An icon whose shape is in its alpha alone would be black all over, as every other icon."""
    icon = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    icon.paste((0, 0, 0, 255), (0, 0, 2, 4))
    icon.save(tmp_path / "icon.png")
    assert decode(tmp_path / "icon.png")[0, :, 0].tolist() == [0, 0, 255, 255]
    half = decode(put(tmp_path / "half.png", (200, 0, 0, 51), "RGBA"))
    assert half[0, 0].tolist() == pytest.approx([244, 204, 204], abs=1)
    assert decode(put(tmp_path / "clear.png", (200, 0, 0, 0), "RGBA"))[0, 0].tolist() == [200, 0, 0]
    few = Image.new("P", (4, 4), 0)
    few.putpalette([255, 0, 0, 0, 255, 0])
    few.putpixel((0, 0), 1)
    few.save(tmp_path / "few.png", transparency=0)
    assert decode(tmp_path / "few.png")[0, :2].tolist() == [[0, 255, 0], [255, 255, 255]]


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", b"\xff\xd8\xff\xe0 no jpeg"])
def test_what_is_no_picture_raises_one_of_bad(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(BAD):
        decode(tmp_path / "a.png")
    with pytest.raises(BAD):
        decode(tmp_path / "none.png")


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "gif", "webp", "ppm"])
def test_broken_bytes_raise_nothing_but_bad(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, **({} if ending in ("gif", "ppm") else {"exif": exif}))
    whole, rng = path.read_bytes(), np.random.default_rng(1)
    for _ in range(150):
        broken = bytearray(whole)
        for at in rng.integers(0, min(len(whole), 400), 3):
            broken[at] = rng.integers(256)
        path.write_bytes(broken)
        try:
            assert decode(path).dtype == np.uint8
        except BAD:
            continue


def test_links_to_files_and_folders_are_followed_and_circles_survived(tmp_path):
    put(tmp_path / "far" / "a.png")
    put(tmp_path / "far" / "inner" / "b.PNG")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "one.png").symlink_to(tmp_path / "far" / "a.png")
    (mine / "folder").symlink_to(tmp_path / "far", target_is_directory=True)
    (mine / "again").symlink_to(mine, target_is_directory=True)
    (tmp_path / "far" / "back").symlink_to(mine, target_is_directory=True)
    (mine / "self.png").symlink_to(mine / "self.png")
    (mine / "nowhere.png").symlink_to(tmp_path / "gone.png")
    names = [path.relative_to(mine).as_posix() for path in pictures_in(mine)]
    assert names == ["folder/a.png", "folder/inner/b.PNG", "nowhere.png", "one.png", "self.png"]
    (tmp_path / "linked").symlink_to(mine, target_is_directory=True)
    assert len(pictures_in(tmp_path / "linked")) == 5


def test_what_other_systems_leave_behind_is_passed_over(tmp_path):
    put(tmp_path / "cat" / "a.png")
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._a.png", "notes.txt"):
        (tmp_path / "cat" / name).write_bytes(b"\0")
    for name in ("__MACOSX", ".ipynb_checkpoints", "@eaDir", "$RECYCLE.BIN"):
        put(tmp_path / name / "b.png")
        put(tmp_path / "cat" / name / "b.png")
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    assert [path.name for path in pictures_in(tmp_path / "cat")] == ["a.png"]
    assert [path.name for path in folders_in(tmp_path)] == ["cat"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty holds no picture \(.*\.png.*\): fill"):
        pictures_in(tmp_path / "empty")


@pytest.mark.parametrize("name", ["test", "val", "valid", "validation", "Testing", "VAL"])
def test_a_part_goes_by_many_names(tmp_path, name):
    put(tmp_path / "Training" / "a" / "0.png")
    put(tmp_path / name / "a" / "0.png")
    assert part_of(tmp_path, "train") == tmp_path / "Training"
    assert part_of(tmp_path, "test") == tmp_path / name


def test_test_is_meant_before_val(tmp_path):
    for name in ("val", "test", "train"):
        (tmp_path / name).mkdir()
    assert part_of(tmp_path, "test") == tmp_path / "test"


def test_scoring_and_the_generation_track_find_and_read_the_same_pictures(tmp_path):
    for part in ("training", "valid"):
        for name, colour in (("ant", 60000), ("bee", 20000)):
            Image.fromarray(np.full((8, 8), colour, np.uint16)).save(put(tmp_path / part / name / "0.png"))
            put(tmp_path / part / "__MACOSX" / name / "._0.png")
    far = tmp_path / "far.png"
    Image.fromarray(np.full((8, 8), 60000, np.uint16)).save(far)
    (tmp_path / "training" / "ant" / "1.png").symlink_to(far)
    found = generation(tmp_path, "train")
    assert found.classes == ("ant", "bee")
    levels = ((found.load(found.of(0), 4) + 1) * 127.5).round().unique().tolist()
    assert levels == [60000 // 257]
    scored = Images.open(tmp_path / "training")
    assert len(scored) == 3
    assert {round(float(x) * 255) for batch in scored.batches(1) for x in batch.unique()} == {60000 // 257, 20000 // 257}


def test_classes_of_both_parts_are_numbered_alike_in_the_generation_track(tmp_path):
    for name in ("ant", "bee", "cow"):
        put(tmp_path / "train" / name / "0.png")
    for name in ("bee", "cow"):
        put(tmp_path / "test" / name / "0.png")
    with pytest.raises(UserError, match=r"test lacks the class 'ant' of train/"):
        generation(tmp_path, "test")
    for name in ("ant", "dog"):
        put(tmp_path / "test" / name / "0.png")
    with pytest.raises(UserError, match=r"train lacks the class 'dog' of test/"):
        generation(tmp_path, "train")


def test_reading_that_takes_long_says_how_far_it_is(monkeypatch, caplog):
    now = iter(range(0, 100, 4))
    monkeypatch.setattr(pictures.time, "monotonic", lambda: next(now))
    with caplog.at_level(logging.WARNING):
        assert list(counted("abcdef", 6, "letters")) == list("abcdef")
    assert [record.message for record in caplog.records] == [f"note: read {n} of 6 letters" for n in (2, 5)]
