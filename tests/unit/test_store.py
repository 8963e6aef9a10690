"""Pins that the store gives back exactly what was put, or nothing: damage is found by hash, half an artifact never shows."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from loreun_bench.harness import store as module
from loreun_bench.harness.stage import SCHEMA, Output
from loreun_bench.harness.store import MANIFEST, TENSORS, VALUES, Artifact, Corrupt, Store

KEY = "ab" + "0" * 62
ABOUT = {"label": "toy", "seconds": 1.5}


def output(fill: float = 1.0, **cost: float) -> Output:
    """A small output with a strided tensor, an integer one and values."""
    tensors = {"weight": torch.full((3, 4), fill).t(), "steps": torch.arange(5)}
    return Output(tensors, {"accuracy": 12.5, "names": ["a", "ü"], "nothing": None}, cost)


def flip(path: Path, position: int = -1) -> None:
    """Change one byte of a file; its size stays."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def files_under(folder: Path) -> list[str]:
    """All files below a folder that may not exist."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def artifact(store: Store) -> Artifact:
    return store.put(KEY, output(rte_s=1.5), ABOUT)


def test_an_absent_key_is_missing(store: Store) -> None:
    assert store.find(KEY) is None
    assert store.verified(KEY) is None


@pytest.mark.parametrize("look", ["find", "verified"])
def test_what_was_put_comes_back_equal(store: Store, artifact: Artifact, look: str) -> None:
    found = getattr(store, look)(KEY)
    tensors = found.tensors()
    assert set(tensors) == {"weight", "steps"}
    assert torch.equal(tensors["weight"], output().tensors["weight"])
    assert torch.equal(tensors["steps"], torch.arange(5))
    assert tensors["steps"].dtype == torch.int64
    assert found.values() == output().values
    assert found.cost == {"rte_s": 1.5}
    assert found.manifest["label"] == "toy"
    assert found.digest == artifact.digest
    assert not files_under(store.root / "tmp")


def test_an_artifact_without_tensors_comes_back_and_has_no_tensor_file(store: Store) -> None:
    store.put(KEY, Output(values={"a": 1}), ABOUT)
    found = store.verified(KEY)
    assert found is not None
    assert found.values() == {"a": 1}
    assert set(os.listdir(found.folder)) == {VALUES, MANIFEST}


def test_nan_and_infinity_in_values_come_back(store: Store) -> None:
    values = store.put(KEY, Output(values={"a": float("nan"), "b": float("inf")}), ABOUT).values()
    assert values["a"] != values["a"]
    assert values["b"] == float("inf")


def test_the_digest_does_not_depend_on_cost_key_or_time(store: Store, artifact: Artifact) -> None:
    other = store.put("cd" + KEY[2:], output(rte_s=99.0, cpu_s=1.0), {"label": "other", "seconds": 7.0})
    assert other.cost != artifact.cost
    assert other.digest == artifact.digest


def test_the_digest_depends_on_tensors_and_on_values(store: Store, artifact: Artifact) -> None:
    tensor = store.put("cd" + KEY[2:], output(fill=2.0), ABOUT)
    changed = output()
    changed.values["accuracy"] = 12.6
    value = store.put("ef" + KEY[2:], changed, ABOUT)
    assert len({artifact.digest, tensor.digest, value.digest}) == 3


@pytest.mark.parametrize("name", [TENSORS, VALUES])
def test_a_flipped_byte_counts_as_missing_and_is_set_aside(store: Store, artifact: Artifact, name: str) -> None:
    flip(artifact.folder / name, position=5)
    assert store.verified(KEY) is None
    assert not artifact.folder.exists()
    (grave,) = (store.root / "corrupt").iterdir()
    assert grave.name.startswith(KEY)
    assert set(os.listdir(grave)) == {TENSORS, VALUES, MANIFEST}
    assert store.find(KEY) is None


def test_reading_a_flipped_byte_raises_even_without_verifying_first(store: Store, artifact: Artifact) -> None:
    flip(artifact.folder / TENSORS)
    flip(artifact.folder / VALUES)
    with pytest.raises(Corrupt, match=TENSORS):
        artifact.tensors()
    with pytest.raises(Corrupt, match=VALUES):
        artifact.values()


@pytest.mark.parametrize("look", [lambda found: found.values(), lambda found: found.tensors()], ids=["values", "tensors"])
def test_what_goes_while_it_is_read_is_lost(artifact: Artifact, monkeypatch: pytest.MonkeyPatch, look: Any) -> None:
    """Between two looks at a file anybody may delete the store: no error of the file's own, which would be the stage's."""

    def gone(*_: Any, **__: Any) -> None:
        raise FileNotFoundError

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", gone)
        with pytest.raises(Corrupt, match="run the sweep again"):
            look(artifact)


@pytest.mark.parametrize("name", [TENSORS, VALUES])
def test_a_lost_payload_file_counts_as_missing(store: Store, artifact: Artifact, name: str) -> None:
    (artifact.folder / name).unlink()
    assert store.verified(KEY) is None


@pytest.mark.parametrize("part", [0.0, 0.3, 0.9])
def test_a_truncated_manifest_counts_as_missing(store: Store, artifact: Artifact, part: float) -> None:
    path = artifact.folder / MANIFEST
    os.truncate(path, int(path.stat().st_size * part))
    assert store.find(KEY) is None
    assert store.verified(KEY) is None


@pytest.mark.parametrize("change", [{"schema": SCHEMA + 1}, {"schema": 0}, {"key": "cd" + KEY[2:]}])
def test_a_manifest_of_another_schema_or_key_counts_as_missing(
    store: Store, artifact: Artifact, change: dict[str, Any]
) -> None:
    path = artifact.folder / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert store.find(KEY) is None
    assert store.verified(KEY) is None


def test_a_second_put_of_a_key_keeps_the_first_valid_artifact(store: Store, artifact: Artifact) -> None:
    again = store.put(KEY, output(fill=2.0), {**ABOUT, "label": "late"})
    assert again.digest == artifact.digest
    assert again.manifest["label"] == "toy"
    assert torch.equal(again.tensors()["weight"], output().tensors["weight"])
    assert not files_under(store.root / "tmp")


@pytest.mark.parametrize("name", [TENSORS, MANIFEST])
def test_a_put_over_a_corrupt_artifact_replaces_it(store: Store, artifact: Artifact, name: str) -> None:
    flip(artifact.folder / name, position=0)
    store.put(KEY, output(fill=2.0), ABOUT)
    found = store.verified(KEY)
    assert found is not None
    assert torch.equal(found.tensors()["weight"], output(fill=2.0).tensors["weight"])


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["OSError", "Ctrl-C"])
@pytest.mark.parametrize("step", ["sha256_file", "sync", "digest"])
def test_a_put_that_fails_half_way_leaves_no_artifact_and_no_temporary_folder(
    store: Store, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(module, step, fail)
    with pytest.raises(type(error)):
        store.put(KEY, output(), ABOUT)
    monkeypatch.undo()
    assert files_under(store.root) == []
    assert list(store.tmp.iterdir()) == []
    assert store.find(KEY) is None
    assert store.put(KEY, output(), ABOUT).values() == output().values


def test_a_put_syncs_every_file_before_it_shows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(module, "sync", lambda _: seen.append(store.find(KEY) is None))
    store.put(KEY, output(), ABOUT)
    assert seen == [True, True, True]


def test_what_took_less_than_a_second_is_not_worth_the_wait_for_the_disk(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(module, "sync", seen.append)
    artifact = store.put(KEY, output(), {**ABOUT, "seconds": 0.9})
    assert seen == []
    for name in (TENSORS, VALUES, MANIFEST):
        os.truncate(artifact.folder / name, 0)  # what a power cut may leave of it
    assert store.verified(KEY) is None
    assert store.put(KEY, output(), ABOUT).values() == output().values
    assert store.verified(KEY) is not None


def test_a_file_is_hashed_once_as_long_as_it_is_the_same(
    store: Store, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RACY", 0.0)
    hashed: list[str] = []
    whole = module.sha256_file
    monkeypatch.setattr(module, "sha256_file", lambda path: (hashed.append(path), whole(path))[1])
    for _ in range(3):
        assert store.verified(KEY) is not None
    assert sorted(map(os.path.basename, hashed)) == [TENSORS, VALUES]
    flip(artifact.folder / TENSORS)
    assert store.verified(KEY) is None


def test_of_two_changes_at_once_the_second_is_seen(
    store: Store, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time_ns()
    monkeypatch.setattr(module, "signature", lambda _: (1, now, now, 1))  # a clock that is too coarse to tell
    for _ in range(3):
        flip(artifact.folder / TENSORS)
        with pytest.raises(Corrupt):
            artifact.tensors()
        flip(artifact.folder / TENSORS)
        artifact.tensors()


def test_a_manifest_whose_digest_was_changed_counts_as_missing(store: Store) -> None:
    artifact = store.put(KEY, Output(values={"a": 1}), {})
    path = artifact.folder / "manifest.json"
    path.write_text(path.read_text().replace(artifact.digest, "0" * 64))
    assert store.verified(KEY) is None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[]")
    assert store.find(KEY) is None


@pytest.mark.parametrize(
    "change", [{"files": 3}, {"files": {VALUES: float("nan")}}, {"cost": []}, {"used": "x"}, {"digest": 1}]
)
def test_a_manifest_of_other_kinds_counts_as_missing(store: Store, artifact: Artifact, change: dict[str, Any]) -> None:
    path = artifact.folder / MANIFEST
    known = json.loads(path.read_text())
    known.pop("check", None)  # as those of before have none
    path.write_text(json.dumps({**known, **change}))
    assert store.verified(KEY) is None
    assert store.put(KEY, output(), ABOUT).values() == output().values


def test_what_is_packed_comes_out_of_another_store_the_same(store: Store, artifact: Artifact, tmp_path: Path) -> None:
    key = artifact.manifest["key"]
    other = Store(tmp_path / "other")
    found = other.unpack(key, store.packed(artifact))
    assert found.manifest == artifact.manifest
    assert other.verified(key) is not None
    assert list(other.tmp.iterdir()) == []


@pytest.mark.parametrize("name", [TENSORS, VALUES, MANIFEST])
def test_what_arrives_damaged_or_in_part_is_refused(store: Store, artifact: Artifact, tmp_path: Path, name: str) -> None:
    key, other = artifact.manifest["key"], Store(tmp_path / "other")
    packed = store.packed(artifact)
    flipped = packed[name].replace(b'"digest": "', b'"digest": "0') if name == MANIFEST else packed[name][:-1] + b"\0"
    for files in (packed | {name: flipped}, {each: content for each, content in packed.items() if each != name}):
        with pytest.raises(Corrupt):
            other.unpack(key, files)
    with pytest.raises(Corrupt):
        other.unpack("0" * 64, packed)
    assert other.find(key) is None
    assert list(other.tmp.iterdir()) == []


def test_files_beside_an_artifact_are_packed_with_it_and_lie_nowhere_else(store: Store, tmp_path: Path) -> None:
    (folder := store.root / "pictures" / "drawn").mkdir(parents=True)
    (folder / "one.png").write_bytes(b"one")
    values = {"folder": "drawn", "files": {"one.png": hashlib.sha256(b"one").hexdigest()}}
    artifact = store.put(KEY, Output(values=values), {})
    other = Store(tmp_path / "other")
    other.unpack(KEY, store.packed(artifact))
    assert (other.root / "pictures" / "drawn" / "one.png").read_bytes() == b"one"
    (folder / "one.png").write_bytes(b"two")
    with pytest.raises(Corrupt):
        store.packed(artifact)
    assert store.find(KEY) is None


@pytest.mark.parametrize("given", [output(), Output(values={"a": 1})], ids=["tensors", "values"])
def test_a_folder_that_is_deleted_under_a_write_is_named(
    store: Store, given: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Store._new_folder

    def make_and_lose(store: Store) -> str:
        shutil.rmtree(folder := make(store))
        return folder

    monkeypatch.setattr(Store, "_new_folder", make_and_lose)
    with pytest.raises(FileNotFoundError) as caught:
        store.put(KEY, given, ABOUT)
    assert str(caught.value.filename).startswith(f"{store.root}/tmp/")
