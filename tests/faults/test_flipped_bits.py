"""A bit that flips on the disk: what it damaged is noticed, set aside and made again."""

from __future__ import annotations

import contextlib
import random
import shutil

import pytest

from loreun_bench import config, load_records
from loreun_bench.api import claim
from loreun_bench.errors import UserError
from loreun_bench.harness.store import Store


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 1 << position % 8
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["tensors.safetensors", "values.json", "manifest.json"])
def test_every_artifact_loses_a_bit(sweep, name, undisturbed):
    assert sweep.run().code == 0
    draw = random.Random(name)
    for path in sorted(sweep.store.glob(f"artifacts/*/*/{name}")):
        flip(path, draw.randrange(10**6))
    ended = sweep.run()
    assert ended.code == 0, ended.err
    assert len(sweep.artifacts) == len(undisturbed.artifacts)
    assert sweep.finished(undisturbed)


def test_no_flipped_bit_of_a_manifest_is_believed(undisturbed, tmp_path):
    made = next(undisturbed.store.glob("artifacts/*/*/manifest.json")).parent
    path = tmp_path / "artifacts" / made.name[:2] / made.name / "manifest.json"
    shutil.copytree(made, path.parent)
    whole, manifest = path.read_bytes(), Store(tmp_path).find(made.name).manifest
    for position in range(len(whole)):
        path.write_bytes(whole)
        flip(path, position)
        found = Store(tmp_path).find(made.name)
        assert found is None or manifest.items() <= found.manifest.items()


def test_no_flipped_bit_of_a_row_is_taken_for_the_row(undisturbed, tmp_path):
    whole = (undisturbed.out / "records.jsonl").read_bytes().splitlines(keepends=True)[2]
    (tmp_path / "records.jsonl").write_bytes(whole)
    rows = load_records(tmp_path)
    for position in range(0, len(whole) - 1, 5):
        (tmp_path / "records.jsonl").write_bytes(whole)
        flip(tmp_path / "records.jsonl", position)
        with contextlib.suppress(UserError):
            assert load_records(tmp_path) == rows


@pytest.mark.parametrize("position", [3000, 0])
def test_a_damaged_row_is_set_aside_and_made_anew(sweep, position, undisturbed):
    assert sweep.run().code == 0
    flip(sweep.out / "records.jsonl", position)
    shown = sweep.box.run("leaderboard", sweep.out)
    assert shown.code == 2
    assert "its sweep, run again, sets the line aside and makes the row anew" in shown.error
    ended = sweep.run()
    assert ended.code == 0
    assert f"note: 1 damaged line(s) of {sweep.out}/records.jsonl set aside in damaged.jsonl" in ended.err
    assert (sweep.out / "damaged.jsonl").read_bytes().count(b"\n") == 1
    assert sweep.finished(undisturbed)


def test_no_flipped_bit_of_a_configuration_starts_another_sweep(undisturbed, tmp_path):
    wanted, path = config.load(undisturbed.config), tmp_path / "config.yaml"
    whole = (undisturbed.out / "config.yaml").read_bytes()
    for position in range(0, len(whole), 11):
        path.write_bytes(whole)
        flip(path, position)
        damaged = path.read_bytes()
        with contextlib.suppress(UserError):
            claim(tmp_path, wanted)
            assert config.dump(config.load(path)) == config.dump(wanted)
        assert path.read_bytes() == damaged
