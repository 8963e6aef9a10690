"""Pins the journal: what was appended is read back, a torn last line costs only itself, and any other damage is named."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from loreun_bench.errors import UserError
from loreun_bench.harness import records
from loreun_bench.harness.records import MAX_BYTES, SCHEMA, Record, append, load_records

BASE = Record("classification", "digits", "small-cnn", "random-20%", "RL", "none", {"split": 0, "train": 0, "unlearn": 0})


def record(method: str = "RL", **changes: Any) -> Record:
    """A record of one cell."""
    return replace(BASE, method=method, **changes)


def line(**changes: Any) -> str:
    """A journal line with some values changed."""
    return json.dumps({**asdict(BASE), **changes}) + "\n"


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "run" / "records.jsonl"


def test_appended_records_are_loaded_equal_from_the_folder_and_from_the_file(journal: Path) -> None:
    full = record("SalUn", metrics={"test_acc": 97.25}, cost={"rte_s": 0.5}, limits={"eval": 10}, environment={"os": "ü"})
    failed = record("GA", status="diverged", reason="loss is NaN")
    append(journal, [full])
    append(journal, [failed, record("FT")])
    assert load_records(journal.parent) == [full, failed, record("FT")]
    assert load_records(str(journal)) == [full, failed, record("FT")]


def test_the_newest_record_of_a_cell_wins_in_the_place_of_the_first(journal: Path) -> None:
    append(journal, [record("RL", status="failed", reason="x"), record("FT")])
    append(journal, [record("RL", metrics={"test_acc": 1.0})])
    assert load_records(journal) == [record("RL", metrics={"test_acc": 1.0}), record("FT")]


@pytest.mark.parametrize(
    "change",
    [
        {"method": "FT"}, {"weighting": "w_f"}, {"scenario": "class-3"}, {"dataset": "x"}, {"model": "x"}, {"track": "x"},
        {"protocol": "paper"}, {"seeds": {"split": 0, "train": 0, "unlearn": 1}},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_records_that_differ_in_what_names_a_cell_are_both_kept(journal: Path, change: dict[str, Any]) -> None:
    append(journal, [BASE, replace(BASE, **change)])
    assert len(load_records(journal)) == 2


def test_the_order_of_seeds_does_not_make_another_cell() -> None:
    assert replace(BASE, seeds={"unlearn": 0, "train": 0, "split": 0}).cell == BASE.cell


@pytest.mark.parametrize("keep", [1, 40, -1], ids=["first byte", "middle", "all but the newline"])
def test_a_torn_last_line_is_ignored_on_load_and_dropped_on_append(journal: Path, keep: int) -> None:
    append(journal, [record("RL"), record("FT")])
    whole = journal.read_bytes()
    torn = line(method="GA").encode()[:keep]
    journal.write_bytes(whole + torn)
    assert load_records(journal) == [record("RL"), record("FT")]
    append(journal, [record("SalUn")])
    assert load_records(journal) == [record("RL"), record("FT"), record("SalUn")]
    assert journal.read_bytes().startswith(whole)
    assert len(journal.read_bytes().splitlines()) == 3


def test_a_journal_that_is_only_a_torn_line_starts_afresh(journal: Path) -> None:
    journal.parent.mkdir()
    journal.write_text(line()[:60])
    assert load_records(journal) == []
    append(journal, [record("FT")])
    assert load_records(journal) == [record("FT")]


def test_a_torn_line_behind_a_long_journal_is_dropped_and_no_whole_line_with_it(journal: Path) -> None:
    many = [record(f"m{i}", reason="x" * 3000) for i in range(8)]
    append(journal, many)
    with open(journal, "ab") as file:
        file.write(line(reason="y" * 3000).encode()[:-1])
    append(journal, [record("FT")])
    assert load_records(journal) == [*many, record("FT")]


@pytest.mark.parametrize("broken", ["{\n", "[1]\n", "null\n", '{"schema": 1}\n', line(surplus=1), "\xff\n"])
def test_a_broken_line_that_is_not_the_last_is_an_error_naming_file_and_line(journal: Path, broken: str) -> None:
    journal.parent.mkdir()
    journal.write_bytes(line().encode() + broken.encode("latin-1") + line(method="FT").encode())
    with pytest.raises(UserError, match=r"records\.jsonl:2: not a record"):
        load_records(journal)


def test_a_whole_last_line_that_is_broken_is_an_error_too(journal: Path) -> None:
    journal.parent.mkdir()
    journal.write_text(line() + "{}\n")
    with pytest.raises(UserError, match=r"records\.jsonl:2"):
        load_records(journal)


def test_a_newer_schema_is_an_error_that_names_both_versions(journal: Path) -> None:
    journal.parent.mkdir()
    journal.write_text(line() + line(schema=SCHEMA + 1, unknown_field=1))
    with pytest.raises(UserError, match=rf"records\.jsonl:2: schema {SCHEMA + 1} is newer .*\({SCHEMA}\)"):
        load_records(journal)


def test_a_record_over_the_limit_is_refused_and_nothing_is_written(journal: Path) -> None:
    with pytest.raises(ValueError, match=str(MAX_BYTES)):
        append(journal, [record("FT"), record(reason="x" * MAX_BYTES)])
    assert not journal.exists()
    append(journal, [record("FT")])
    before = journal.read_bytes()
    with pytest.raises(ValueError, match=str(MAX_BYTES)):
        append(journal, [record(reason="é" * (MAX_BYTES // 6))])  # under the limit in characters, over it in bytes
    assert journal.read_bytes() == before


def test_a_record_of_exactly_the_limit_is_taken(journal: Path) -> None:
    append(journal, [record()])
    room = MAX_BYTES - journal.stat().st_size
    journal.unlink()
    append(journal, [record(reason="x" * room)])
    assert journal.stat().st_size == MAX_BYTES
    assert load_records(journal) == [record(reason="x" * room)]


def test_nan_and_infinite_metrics_survive_a_round_trip(journal: Path) -> None:
    append(journal, [record(metrics={"a": math.nan, "b": math.inf, "c": 0.1})])
    (loaded,) = load_records(journal)
    assert math.isnan(loaded.metrics["a"])
    assert loaded.metrics["b"] == math.inf
    assert loaded.metrics["c"] == 0.1


def test_a_line_break_in_a_reason_stays_in_one_line(journal: Path) -> None:
    append(journal, [record(reason="first\nsecond\u2028third")])
    assert len(journal.read_bytes().split(b"\n")) == 2
    assert load_records(journal) == [record(reason="first\nsecond\u2028third")]


def test_every_append_is_synced_before_it_returns(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(records, "sync", lambda _: sizes.append(journal.stat().st_size))
    append(journal, [record("RL")])
    append(journal, [record("FT")])
    assert len(sizes) == 2
    assert 0 < sizes[0] < sizes[1] == journal.stat().st_size


@pytest.mark.parametrize("name", ["absent", "absent/records.jsonl", "."])
def test_a_folder_without_records_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="no records in"):
        load_records(tmp_path / name)
