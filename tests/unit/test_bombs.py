"""Small files that would become huge, and huge ones: refused in one line before memory goes."""

from __future__ import annotations

import gzip
import io
import os
import resource
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from loreun_bench import config, pictures, plain_yaml, reading
from loreun_bench.classification.data import folders, lists, sources
from loreun_bench.classification.unlearning import checkpoints
from loreun_bench.errors import UserError
from loreun_bench.generation.data import prompts
from loreun_bench.generation.scoring import weights
from loreun_bench.generation.scoring.images import Images
from loreun_bench.harness.records import load_records
from loreun_bench.report.audit import tables

ROOM = 200 << 20  # bytes that a refusal may take


@pytest.fixture(autouse=True)
def memory_stays():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10 < ROOM


def sparse(path, size, start=b""):
    """A file of that size that takes no room."""
    with open(path, "wb") as file:
        file.write(start)
        file.truncate(size)
    return path


def png(path, side):
    """A picture that says it has side × side pixels, and holds none."""
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    written = b"".join(struct.pack(">I", len(b)) + a + b + struct.pack(">I", zlib.crc32(a + b)) for a, b in parts)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + written)
    return path


@pytest.mark.parametrize("side", [12_000, 60_000])
def test_a_picture_of_too_many_pixels(side, tmp_path):
    with pytest.raises(pictures.BAD, match=r"pixels|limit"):
        pictures.upright(png(tmp_path / "p.png", side))
    for name in ("cat", "dog"):
        (tmp_path / "d" / name).mkdir(parents=True)
        png(tmp_path / "d" / name / "p.png", side)
    found = folders.find(tmp_path / "d")
    assert folders.suggestion(found) == "image_size: 64"
    with pytest.raises(UserError, match=r"p\.png .* cannot be read"):
        folders.read(found, 8)
    images = Images.open(tmp_path / "d")
    assert list(images.batches(2, 8)) == []
    assert len(images.bad) == 2


def zipped(path, name, size):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        header = io.BytesIO()
        about = {"descr": "|u1", "fortran_order": False, "shape": (size // 3072, 32, 32, 3)}
        np.lib.format.write_array_header_1_0(header, about)
        file.writestr(name, header.getvalue() + bytes(size // 3072 * 3072))
    return path


def test_an_npz_that_unpacks_to_much_more(tmp_path, monkeypatch):
    path = zipped(tmp_path / "d.npz", "x_train.npy", 30 << 20)
    with pytest.raises(UserError, match="y_train"):  # of this size it is read
        sources.read_npz(path)
    monkeypatch.setattr(reading, "LEAST", 20 << 20)
    with pytest.raises(UserError, match=r"would unpack from .* to 0\.0315 GB"):
        sources.read_npz(path)


def test_an_npz_or_npy_that_promises_more_than_it_holds(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**12,)})
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as file:
        file.writestr("x_train.npy", header.getvalue())
    with pytest.raises(UserError, match="promises uint8"):
        sources.read_npz(tmp_path / "d.npz")
    (tmp_path / "l.npy").write_bytes(header.getvalue())
    with pytest.raises(UserError, match=r"damaged or no plain \.npy"):
        lists.read_list(tmp_path / "l.npy", {}, 5)


@pytest.mark.parametrize("shape", [(60000, 60000, 4), (2**32 - 1,) * 3, (4000, 28, 28)])
def test_idx_files_that_promise_more_than_they_hold(shape, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "LEAST", 1 << 20)
    head = b"\0\0\x08" + bytes([len(shape)]) + np.array(shape, ">u4").tobytes()
    for name in sources.IDX.values():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(head + bytes(2000)))
    with pytest.raises(UserError, match=r"would unpack|this machine has"):
        sources.read_idx(tmp_path)


def test_weights_that_unpack_to_much_more(tmp_path, monkeypatch):
    torch.save({"w": torch.zeros(2 << 20)}, plain := tmp_path / "plain.pt")
    model = torch.nn.Linear(2, 2)
    with zipfile.ZipFile(plain) as one, zipfile.ZipFile(tmp_path / "w.pt", "w", zipfile.ZIP_DEFLATED) as other:
        for each in one.infolist():
            other.writestr(each.filename, one.read(each))
    monkeypatch.setattr(reading, "LEAST", 1 << 20)
    with pytest.raises(UserError, match="would unpack"):
        checkpoints.read(tmp_path / "w.pt", model)
    with pytest.raises(UserError, match="would unpack"):
        weights.read_state(tmp_path / "w.pt")


@pytest.mark.parametrize("length", [2**62, 2**40, 90_000_000])
def test_a_safetensors_header_of_a_huge_length(length, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}")
    with pytest.raises(UserError, match="damaged"):
        checkpoints.read(path, torch.nn.Linear(2, 2))
    with pytest.raises(UserError, match="cannot be read"):
        weights.read_tagged(path)


@pytest.mark.parametrize(
    ("name", "start", "read", "says"),
    [
        ("c.yaml", b"a: b\n", config.read_yaml, "more than 0.4 MB"),
        ("records.jsonl", b'{"schema": 1, "x": "', load_records, "records.jsonl:1: not a record"),
        ("t.json", b"[", tables.read, "more than 4 MB"),
        ("p.csv", b"prompt,seed\n", prompts.read, "more than 268 MB"),
        ("l.csv", b"file,person\n", lists.read_csv, "more than 268 MB"),
    ],
)
def test_files_of_gigabytes(name, start, read, says, tmp_path):
    with pytest.raises(UserError, match=says):
        read(sparse(tmp_path / name, 3 << 30, start))


def test_an_index_of_gigabytes(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    sparse(tmp_path / "index.json", 3 << 30, b"{")
    with pytest.raises(UserError, match="more than 67"):
        Images.open(tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000, "a: " + "[" * 41 + "]" * 41])
def test_yaml_that_is_nested_too_deep(text):
    with pytest.raises(UserError, match=r"nested deeper|expected"):
        plain_yaml.parsed(text, "here")


def test_an_override_that_is_nested_too_deep():
    with pytest.raises(UserError, match="expected key=value"):
        config.load("digits", [".".join("a" * 5000) + "=1"])


def test_json_that_is_nested_too_deep(tmp_path):
    (tmp_path / "t.json").write_text('{"a":' * 200_000)
    with pytest.raises(UserError, match="nested too deep"):
        tables.read(tmp_path / "t.json")


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="no device without an end")
def test_what_has_no_end_is_no_picture(tmp_path):
    (tmp_path / "a.png").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    assert [path.name for path in pictures.pictures_in(tmp_path)] == ["gone.png"]
    with pytest.raises(UserError, match="more than 4 MB"):
        reading.content(Path("/dev/zero"), "table")
