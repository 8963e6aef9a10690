"""Figures: the right pictures beside one another, nothing explicit shown by default, bars and curves that hold the data."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from PIL import Image

from loreun_bench.errors import UserError
from loreun_bench.report.figures import bars, curves, grid, style
from loreun_bench.report.figures.blur import hidden

pytest.importorskip("matplotlib", reason="the extra `plots` is not installed")

RED, SIZE = (200, 30, 30), 32


@pytest.fixture
def folder(tmp_path):
    """Makes a folder of one-coloured pictures with their index."""

    def make(name, colour=RED, count=4, **about):
        where = tmp_path / name
        where.mkdir()
        index = {}
        for i in range(count):
            pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
            pixels[: SIZE // 2] = colour
            Image.fromarray(pixels).save(where / f"p{i}.png")
            index[f"p{i}"] = {
                "prompt": f"an image of {i % 2}",
                "seed": i,
                "guidance": 7.5,
                "label": i % 2,
                "concept": "",
            } | about
        (where / "index.json").write_text(json.dumps(index))
        return where

    return make


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    seen = []
    real = style.save

    def save(figure, path):
        seen.append(figure)
        return real(figure, path)

    for module in (bars, curves, grid):
        monkeypatch.setattr(module, "save", save)
    return seen


def shown(figure):
    """The pictures of a grid, and all its text."""
    return [axes.images[0].get_array() for axes in figure.axes], [text.get_text() for text in figure.texts]


def test_a_grid_has_a_row_a_method_original_first_and_a_column_a_prompt(folder, drawn, tmp_path):
    rows = [("RL", folder("a", (0, 0, 250))), ("Original", folder("b", (0, 250, 0)))]
    path = grid.picture_grid(rows, tmp_path / "out" / "grid.png", columns=2)
    assert Image.open(path).size[0] > Image.open(path).size[1]
    pictures, texts = shown(drawn[0])
    assert [tuple(p[0, 0].tolist()) for p in pictures] == [(0, 250, 0)] * 2 + [(0, 0, 250)] * 2
    assert texts == ["Original", "RL", "an image of 0", "an image of 1"]


def test_the_default_pictures_take_turns_of_the_classes_and_only_those_that_all_have(folder, drawn, tmp_path):
    few = folder("b", count=3)
    grid.picture_grid([("A", folder("a")), ("B", few)], tmp_path / "g.png", columns=3)
    assert shown(drawn[0])[1][2:] == ["an image of 0", "an image of 1", "an image of 0"]
    grid.picture_grid([("A", tmp_path / "a")], tmp_path / "g.png", names=["p3"])
    assert shown(drawn[1])[1] == ["A", "an image of 1"]


@pytest.mark.parametrize("key", ["prompt", "seed", "guidance"])
def test_pictures_of_another_prompt_seed_or_guidance_do_not_stand_side_by_side(folder, tmp_path, key):
    first, second = folder("a"), folder("b")
    index = json.loads((second / "index.json").read_text())
    index["p1"][key] = 99
    (second / "index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=f"'p1' was made with another {key}"):
        grid.picture_grid([("A", first), ("B", second)], tmp_path / "g.png")
    grid.picture_grid([("A", first), ("B", second)], tmp_path / "g.png", names=["p0"])


@pytest.mark.parametrize(
    ("about", "hide"),
    [
        ({"label": 3}, False), ({"label": 0, "concept": "van-gogh"}, False), ({"label": 0, "concept": "nudity"}, True),
        ({"label": 1, "concept": "NSFW"}, True), ({"label": None, "concept": "class-church"}, True),
        ({"label": 0, "prompt": "a photo of a nude person"}, True), ({"label": 0, "prompt": "Essex"}, False),
    ],
)  # fmt: skip
def test_what_may_be_explicit_is_blurred_whole_unless_one_says_otherwise(folder, drawn, tmp_path, about, hide):
    rows = [("Original", folder("a", **about))]
    for blur, expected in ((None, hide), (True, True), (False, False)):
        grid.picture_grid(rows, tmp_path / "g.png", blur=blur)
        pictures, texts = shown(drawn[-1])
        sharp = all(len(np.unique(p[..., 0])) == 2 for p in pictures)
        assert sharp is not expected
        assert ("pictures blurred: no detector" in texts) is expected


def test_a_detector_decides_what_is_blurred_and_gets_rgb(folder, drawn, tmp_path):
    asked = []

    def boxes(pixels):
        asked.append(pixels[0, 0].tolist())
        return [(0, 10, 12, 22)]

    grid.picture_grid([("Original", folder("a", concept="nudity"))], tmp_path / "g.png", boxes=boxes, columns=1)
    ((picture,), texts) = shown(drawn[0])
    assert asked == [list(RED)]
    assert len(np.unique(picture[:, 20:, 0])) == 2
    assert len(np.unique(picture[:, :12, 0])) > 2
    assert "faces and nudity blurred" in texts


def test_nothing_can_be_read_from_what_is_hidden():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 2, (60, 40, 3), dtype=np.uint8) * 255
    blurred = hidden(pixels, None)
    assert np.ptp(blurred.astype(int)) < 128
    assert np.abs(np.corrcoef(pixels.ravel(), blurred.ravel())[0, 1]) < 0.2
    text = np.zeros((100, 100, 3), np.uint8)
    text[::2] = 255
    part = hidden(text, lambda p: [(40, 40, 60, 60)])
    assert (part[:35] == text[:35]).all()
    assert np.ptp(part[40:60, 40:60].astype(int)) < 60
    assert np.ptp(part[38:62, 38:62].astype(int)) < 60  # a box is widened: detectors cut close
    assert (hidden(text, lambda p: []) == text).all()
    assert (hidden(text, lambda p: [(200, 200, 220, 220), (50, 50, 50, 50)])[:40] == text[:40]).all()


def test_what_is_wrong_with_a_folder_is_said(folder, tmp_path):
    good = folder("a")
    with pytest.raises(UserError, match=r"index of pictures .*index\.json cannot be read"):
        grid.picture_grid([("A", tmp_path / "none")], tmp_path / "g.png")
    with pytest.raises(UserError, match="did you mean 'p1'"):
        grid.picture_grid([("A", good)], tmp_path / "g.png", names=["p11"])
    with pytest.raises(UserError, match="no folder of pictures"):
        grid.picture_grid([], tmp_path / "g.png")
    with pytest.raises(UserError, match="no picture in common"):
        grid.picture_grid([("A", good), ("B", folder("b", count=0))], tmp_path / "g.png")
    (good / "p0.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(UserError, match=r"p0\.png cannot be read"):
        grid.picture_grid([("A", good)], tmp_path / "g.png")
    (good / "index.json").write_text('{"p0": {"prompt": "x"}}')
    with pytest.raises(UserError, match="lacks its prompt or seed"):
        grid.picture_grid([("A", good)], tmp_path / "g.png")


def test_bars_hold_the_counts_in_order_of_the_largest(drawn, tmp_path):
    counts = {
        "SalUn": {"BELLY_EXPOSED": 3},
        "Original": {"FEMALE_BREAST_EXPOSED": 90, "BELLY_EXPOSED": 40, "FEET_COVERED": 0},
    }
    bars.label_counts(counts, tmp_path / "b.svg")
    (axes,) = drawn[0].axes
    assert [t.get_text() for t in axes.get_yticklabels()] == ["Female breast", "Belly"]
    widths = {c.get_label(): [bar.get_width() for bar in c] for c in axes.containers}
    assert widths == {"Original": [90, 40], "SalUn": [0, 3]}
    assert [t.get_text() for t in axes.texts] == ["90", "40", "0", "3"]
    assert "<svg" in (tmp_path / "b.svg").read_text()
    assert bars.readable("FACE_FEMALE") == "Face female"
    assert bars.readable("BELLY_COVERED") == "Belly covered"
    with pytest.raises(UserError, match="nothing to draw"):
        bars.label_counts({"RL": {"BELLY_EXPOSED": 0}}, tmp_path / "b.png")


def test_bars_of_many_methods_can_be_told_apart_and_the_legend_reads_in_lines(drawn, tmp_path):
    names = [f"method {i}" for i in range(9)] + ["Original"]
    bars.label_counts({name: {"BELLY_EXPOSED": i + 1} for i, name in enumerate(names)}, tmp_path / "b.png")
    looks = style.looks(names)
    assert len(set(looks.values())) == 10
    assert looks["Original"] == (style.REFERENCE, "")
    (legend,) = drawn[0].legends
    entries = [text.get_text() for text in legend.get_texts()]
    assert (legend._ncols, len(entries)) == (7, 10)
    columns = [entries[0:2], entries[2:4], entries[4:6], *([entry] for entry in entries[6:])]  # filled one by one
    assert [column[0] for column in columns] + [column[1] for column in columns[:3]] == ["Original", *names[:-1]]


def test_a_curve_shows_its_points_its_fit_and_the_formula(drawn, tmp_path):
    found = curves.LossCurve("digits", [0, 500], [0.2, 0.01], (0.19, -0.01, 0.005))
    curves.loss_curves([found], tmp_path / "c.pdf", end=1000)
    (axes,) = drawn[0].axes
    fit, points = axes.lines
    assert points.get_xydata().tolist() == [[0, 0.2], [500, 0.01]]
    assert fit.get_xydata()[0].tolist() == [0, pytest.approx(0.195)]
    assert fit.get_xydata()[200].tolist() == [500, pytest.approx(0.19 * np.exp(-5) + 0.005)]
    assert axes.get_yscale() == "log"
    assert axes.get_legend().get_texts()[0].get_text() == "0.19·exp(−0.01·t) + 0.005"
    assert (tmp_path / "c.pdf").read_bytes().startswith(b"%PDF")
    assert curves.formula(2, -0.5, -0.25) == "2·exp(−0.5·t) − 0.25"


def test_a_curve_that_hardly_falls_has_a_linear_axis_from_zero(drawn, tmp_path):
    curves.loss_curves([curves.LossCurve("a", [0, 1], [0.5, 0.4]), curves.LossCurve("b", [0], [0.3])], tmp_path / "c.png")
    (axes,) = drawn[0].axes
    assert (axes.get_yscale(), axes.get_ylim()[0]) == ("linear", 0)
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["a: measured", "b: measured"]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([], "no loss curve"), ([curves.LossCurve("a", [0, 1], [0.5])], "2 timesteps, 1 losses"),
        ([curves.LossCurve("a", [0], [float("nan")])], "not finite"),
    ],
)  # fmt: skip
def test_curves_that_cannot_be_drawn_are_refused(tmp_path, found, said):
    with pytest.raises(UserError, match=said):
        curves.loss_curves(found, tmp_path / "c.png")


def test_without_matplotlib_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r"loreun-bench\[plots\]"):
        curves.loss_curves([curves.LossCurve("a", [0], [0.5])], tmp_path / "c.png")


def test_another_ending_and_a_folder_that_cannot_be_written_are_errors(tmp_path):
    found = [curves.LossCurve("a", [0], [0.5])]
    with pytest.raises(UserError, match="did you mean 'png'"):
        curves.loss_curves(found, tmp_path / "c.pngg")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        curves.loss_curves(found, tmp_path / "file" / "c.png")
