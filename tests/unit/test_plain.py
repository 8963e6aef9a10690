"""Pictures and labels of a plain meaning are taken as it, and never as something else; the rest is one line."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from loreun_bench.classification.data.arrays import Arrays, checked
from loreun_bench.errors import UserError

X = np.random.default_rng(0).integers(0, 256, (40, 8, 7, 3)).astype(np.uint8)
Y = np.arange(40) % 4


def made(x=X, y=Y, **options):
    return checked("own", Arrays(x[:30], y[:30], x[30:], y[30:], **options))


def same(found):
    assert found.train_images.dtype == found.test_images.dtype == np.uint8
    assert found.train_labels.dtype == found.test_labels.dtype == np.int64
    assert (np.concatenate([found.train_images, found.test_images]) == X).all()
    return np.concatenate([found.train_labels, found.test_labels])


@pytest.mark.parametrize(
    "images",
    [
        X, X.transpose(0, 3, 1, 2), X.astype(np.int64), X.astype(np.float64), X / 255, (X / 255).astype(np.float32),
        (X / 255).astype(np.float16), X.astype(np.uint16) * 257, torch.tensor(X), torch.tensor(X).permute(0, 3, 1, 2) / 255,
        (torch.tensor(X) / 255).bfloat16(), (torch.tensor(X) / 255).requires_grad_(),
        [Image.fromarray(x) for x in X], [torch.tensor(x).permute(2, 0, 1) for x in X], list(X),
    ],
)  # fmt: skip
def test_the_same_pictures_in_every_plain_form(images):
    assert (same(made(images)) == Y).all()


def test_truth_values_are_black_and_white_and_grey_needs_no_channel():
    assert set(made(X[..., 0] > 100).train_images.ravel().tolist()) == {0, 255}
    assert made(X[..., 0]).train_images.shape == (30, 8, 7, 1)
    assert made([Image.fromarray(x[..., 0]) for x in X]).train_images.shape == (30, 8, 7, 1)
    deep = made([Image.fromarray(x[..., 0].astype(np.uint16) * 257) for x in X])
    assert (deep.train_images[..., 0] == X[:30, ..., 0]).all()


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (X / 127.5 - 1, "undo their normalisation"),
        (X / 2, "scale them to uint8"),
        (X.astype(np.uint16) * 16, "uint16 images from 0 to 4080 have no range that is plain"),
        (X.astype(np.int64) * 300, "no range that is plain"),
        (np.where(X > 250, np.nan, X / 255), "NaN or infinite"),
        (np.zeros(X.shape), "0 everywhere, of no range: give uint8"),
        (X.reshape(40, -1), "flat ones their height and width"),
        (np.zeros((40, 8, 8, 5), np.uint8), "1 to 4 channels"),
        (np.zeros((40, 3, 8, 3), np.uint8), "channels first or last"),
        (X.astype(complex), "must be numbers"),
        (X.astype(str), "must be numbers"),
        ([X[0], X[1][:3], *X[2:]], "pictures of one size"),
        ([Image.fromarray(X[0]), Image.fromarray(X[1][:3])] * 20, "have 2 sizes.*image_size"),
    ],
)  # fmt: skip
def test_pictures_that_may_mean_several_things_are_refused_in_one_line(images, says):
    with pytest.raises(UserError, match=f"data set 'own'.*{says}"):
        made(images)


def test_both_parts_are_read_by_one_rule():
    with pytest.raises(UserError, match="train images are uint8, test images float64: make both uint8"):
        checked("own", Arrays(X[:30], Y[:30], X[30:] / 255, Y[30:]))
    with pytest.raises(UserError, match="differ from test"):
        checked("own", Arrays(X[:30], Y[:30], X[30:, :4], Y[30:]))
    dark = checked("own", Arrays(X[:30] / 255, Y[:30], X[30:] * 0.0, Y[30:]))  # decided by both together
    assert dark.test_images.max() == 0


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (Y + 1, ("1", "2", "3", "4")),
        (np.array([0, 45, 90, 100])[Y], ("0", "45", "90", "100")),
        (Y[:, None], ("0", "1", "2", "3")),
        (np.eye(4)[Y], ("0", "1", "2", "3")),
        (np.eye(4, dtype=bool)[Y], ("0", "1", "2", "3")),
        (Y.astype(float), ("0", "1", "2", "3")),
        (Y.astype(object), ("0", "1", "2", "3")),
        (Y.astype(np.uint8), ("0", "1", "2", "3")),
        (torch.tensor(Y), ("0", "1", "2", "3")),
        ([torch.tensor(y) for y in Y], ("0", "1", "2", "3")),
        (np.array(["ant", "bee", "cow", "dog"])[Y], ("ant", "bee", "cow", "dog")),
        (np.array(["ant", "bee", "cow", "dog"], object)[Y], ("ant", "bee", "cow", "dog")),
        (np.array([b"ant", b"bee", b"cow", b"dog"])[Y], ("ant", "bee", "cow", "dog")),
        (np.array(["10", "2", "30", "4"])[Y], ("10", "2", "30", "4")),
    ],
)  # fmt: skip
def test_labels_in_every_plain_form_are_numbered_and_named_by_their_values(labels, names):
    found = made(y=labels)
    assert found.names == names
    assert (same(found) == Y).all()


def test_labels_one_to_ten_are_ten_classes():
    y = np.arange(40) % 10 + 1
    found = made(y=y)
    assert len(found.names) == 10
    assert (same(found) == y - 1).all()
    assert found.names[found.train_labels[0]] == "1"


def test_text_labels_are_classes_by_name_and_two_signs_are_two():
    found = made(y=np.array(["dog", "ant"])[Y % 2])
    assert (found.names, same(found)[:3].tolist()) == (("ant", "dog"), [1, 0, 1])
    assert made(y=np.where(Y > 1, 1, -1)).names == ("-1", "1")


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (Y[:35], r"test labels must be one whole number or text a picture, \[10\], got int64 \(5,\)"),
        (Y / 2, "whole numbers or text, some are such as 0.5"),
        (np.ones((40, 4)), "not one-hot"),
        (np.full((40, 4), 0.25), "not one-hot"),
        (Y * 0, "2 classes or more"),
        (Y - 1, "label -1 is below 0"),
        (np.array([None, "a", "b", "c"], object)[Y], "one whole number or text"),
        (np.where(Y == 0, np.nan, Y), "whole numbers"),
        (np.array(["", "a", "b", "c"])[Y], "without a name"),
    ],
)  # fmt: skip
def test_what_is_no_label_is_refused_in_one_line(labels, says):
    with pytest.raises(UserError, match=says):
        made(y=labels)


def test_a_test_label_that_training_lacks_is_named():
    with pytest.raises(UserError, match="test label '45' does not occur in training"):
        checked("own", Arrays(X[:30], Y[:30], X[30:], np.where(Y[30:] == 2, 45, Y[30:])))


def test_given_names_are_meant_by_number_else_by_order():
    animals = ("ant", "bee", "cow", "dog")
    assert made(names=animals).names == animals
    assert made(y=Y + 1, names=animals).names == animals
    gap = made(y=np.where(Y == 2, 0, Y), names=animals)
    assert (gap.names, set(same(gap).tolist())) == (("ant", "bee", "dog"), {0, 1, 2})
    assert made(y=np.array(animals)[Y], names=animals[::-1]).names == animals[::-1]
    for names, says in ((("ant", "bee"), "2 names do not fit the labels"), (("ant",) * 4, "called 'ant'")):
        with pytest.raises(UserError, match=says):
            made(names=names)
    usual = checked("own", Arrays(X[:30], Y[:30], X[30:], Y[30:]), animals)
    assert usual.names == animals
    assert checked("own", Arrays(X[:30], Y[:30] * 9, X[30:], Y[30:] * 9), animals[:3]).names == ("0", "9", "18", "27")


def test_without_a_test_part_every_fifth_of_a_class_is_it_with_all_that_belongs_to_it():
    order = np.random.default_rng(1).permutation(40)
    files = tuple(f"{i}.png" for i in order)
    found = checked("own", Arrays(X[order], Y[order], train_files=files, train_subclasses=order // 20))
    assert np.bincount(found.train_labels).tolist() == [8] * 4
    assert np.bincount(found.test_labels).tolist() == [2] * 4
    assert "every fifth picture of a class is kept for it, 8 of 40" in found.note
    for part in ("train", "test"):
        index = [int(name.removesuffix(".png")) for name in getattr(found, f"{part}_files")]
        assert (getattr(found, f"{part}_images") == X[index]).all()
        assert (getattr(found, f"{part}_labels") == Y[index]).all()
        assert (getattr(found, f"{part}_subclasses") == np.array(index) // 20).all()
    again = checked("own", Arrays(X[order], Y[order], train_files=files))
    assert again.test_files == found.test_files
    with pytest.raises(UserError, match="class '7' has one picture"):
        checked("own", Arrays(X, np.where(np.arange(40) == 5, 7, Y)))


def test_subclasses_and_files_belong_to_pictures():
    words = np.array(["p", "q", "r", "s"])[Y]
    found = made(y=Y // 2, train_subclasses=words[:30], test_subclasses=words[30:])
    assert found.subclass_names == ("p", "q", "r", "s")
    assert (found.train_subclasses == Y[:30]).all()
    for options, says in (
        ({"train_files": ("a",)}, "1 train files are named, of 30"),
        ({"train_files": ("a\nb",) * 30}, "line break"),
        ({"train_subclasses": Y[:30]}, "test part has no subclasses"),
        ({"train_subclasses": Y[:9], "test_subclasses": Y[30:]}, "train subclasses must be one"),
    ):
        with pytest.raises(UserError, match=says):
            made(**options)
