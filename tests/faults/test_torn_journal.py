"""A journal that a crash cut short, or tore in the middle."""

from __future__ import annotations

import pytest

from loreun_bench import load_records
from loreun_bench.harness import records


def test_a_last_line_cut_at_any_byte_is_dropped_and_written_again(undisturbed, tmp_path):
    rows, whole = load_records(undisturbed.out), (undisturbed.out / "records.jsonl").read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    path = tmp_path / "records.jsonl"
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        assert load_records(path) == rows[:-1]
    for end in range(start, len(whole), 97):
        path.write_bytes(whole[:end])
        records.append(path, rows[-1:])
        assert path.read_bytes() == whole


TORN = {
    "a newline": lambda whole, at: whole[:at] + whole[at + 1 :],
    "the end of a line": lambda whole, at: whole[: at - 100] + whole[at:],
    "a block of zeros": lambda whole, at: whole[: at - 300] + bytes(512) + whole[at + 212 :],
}


@pytest.mark.parametrize("what", TORN)
def test_a_journal_torn_in_the_middle_is_made_whole(sweep, what, undisturbed):
    assert sweep.run().code == 0
    path = sweep.out / "records.jsonl"
    whole = path.read_bytes()
    path.write_bytes(TORN[what](whole, whole.index(b"\n", len(whole) // 3)))
    ended = sweep.run()
    assert ended.code == 0, ended.err
    assert "damaged line(s) of" in ended.err
    assert sweep.finished(undisturbed)
