"""Classes that are text are numbered as scikit-learn numbers them, by every reader of both tracks."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from sklearn.preprocessing import LabelEncoder

from loreun_bench.classification.data import folders
from loreun_bench.classification.data.arrays import Arrays, checked
from loreun_bench.classification.data.returned import as_arrays
from loreun_bench.classification.data.sources import read_npz
from loreun_bench.errors import UserError
from loreun_bench.generation.data import concepts

NAMES = ("b", "B", "10", "2", "ä", "a b", "a", "01")  # in no order
TEXTS = np.array(NAMES * 3)
X = np.random.default_rng(0).integers(0, 256, (24, 4, 4, 3)).astype(np.uint8)
ENCODER = LabelEncoder().fit(TEXTS)


class Pairs:
    def __init__(self, texts):
        self.texts = texts

    def __len__(self):
        return len(self.texts)

    def __getitem__(self, index):
        return X[index], self.texts[index]


def arrays(folder):
    return Arrays(X, TEXTS, X, TEXTS)


def bytes_and_columns(folder):
    return Arrays(X, np.char.encode(TEXTS, "utf-8")[:, None], X, TEXTS.astype(object))


def lists(folder):
    return as_arrays("own", (X, TEXTS.tolist(), X, TEXTS.tolist()))


def mapping(folder):
    return as_arrays("own", {"x_train": X, "y_train": TEXTS, "x_test": X, "y_test": TEXTS})


def pairs(folder):
    return as_arrays("own", (Pairs(TEXTS.tolist()), Pairs(TEXTS.tolist())))


def npz(folder):
    np.savez(folder / "own.npz", x_train=X, y_train=TEXTS, x_test=X, y_test=TEXTS)
    return read_npz(folder / "own.npz")


@pytest.mark.parametrize("reader", [arrays, bytes_and_columns, lists, mapping, pairs, npz], ids=lambda f: f.__name__)
def test_text_labels_are_numbered_as_scikit_learn_does(tmp_path, reader):
    found = checked("own", reader(tmp_path))
    assert found.names == tuple(ENCODER.classes_)
    assert (found.train_labels == ENCODER.transform(TEXTS)).all()


def test_folders_are_numbered_so_in_both_tracks(tmp_path):
    for name in NAMES:
        for number in range(2):
            path = tmp_path / name / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(X[number]).save(path)
    found = checked("own", folders.read(folders.find(tmp_path), 4))
    assert found.names == concepts.dataset(str(tmp_path), "train").classes == tuple(ENCODER.classes_)
    assert found.names.index("10") < found.names.index("2")


def test_numbers_stay_numbers_and_declared_names_keep_their_order():
    found = checked("own", Arrays(X, [10, 2, 1] * 8, X, [10, 2, 1] * 8))
    assert found.names == ("1", "2", "10")
    named = checked("own", Arrays(X, TEXTS, X, TEXTS, names=NAMES))
    assert named.names == NAMES
    assert named.train_labels.tolist() == [NAMES.index(text) for text in TEXTS]


@pytest.mark.parametrize("odd", [float("nan"), None, 3])
def test_what_is_no_text_among_text_is_no_class(odd):
    labels = [odd, *TEXTS[1:].tolist()]
    for given in (labels, np.array(labels, object)):
        with pytest.raises(UserError, match=r"train labels must be one whole number or text a picture; .* is among text"):
            checked("own", Arrays(X, given, X, TEXTS))
