"""Records that somebody's editor, disk or program has damaged: one line that names file, line and field, or a table."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from helpers import refused, usually

from loreun_bench.errors import UserError
from loreun_bench.harness.records import encode, load_records
from loreun_bench.registry import TRACKS
from loreun_bench.report import byclass, leaderboard, table

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
SOURCES = [RESULTS / name / "records.jsonl" for name in ("digits", "digits-diffusion")]
DEEP: list = []
for _ in range(500):
    DEEP = [DEEP]
ODD = [
    {"a": {"b": 1}}, [], [1, "x"], None, True, "", "text", "\ud800", "a|b\x1b[2J\n%_$\\", "x" * 5000, 0, -1, 3.5, 10**400,
    -(10**30), float("nan"), float("inf"), -float("inf"), 1e308, DEEP, {"\ud800": 1}, {"unlearn": 1}, [5, 3], [[1, 2]],
    {"forget_acc": [1, 2]}, {"forget_acc": 1e308}, {"forget_acc": float("nan"), "retain_acc": float("inf")},
]  # fmt: skip


def mutated(values, rng):
    """One to three changes: a field or a part of one gets another value, is taken out, or comes from nowhere."""
    values = json.loads(json.dumps(values))
    for _ in range(rng.randint(1, 3)):
        place = values
        inner = [v for v in values.values() if isinstance(v, dict) and v]
        if inner and rng.random() < 0.5:
            place = rng.choice(inner)
        key = rng.choice([*place, "surplus"])
        if rng.random() < 0.15:
            place.pop(key, None)
        else:
            place[key] = rng.choice(ODD)
    return values


def loaded(path):
    """The records, or the error."""
    try:
        return load_records(path), ""
    except UserError as error:
        return [], str(error)


@pytest.mark.parametrize("source", usually(SOURCES[1], of=SOURCES), ids=lambda path: path.parent.name)
def test_no_damage_is_a_crash(source, tmp_path):
    rng = random.Random(0)
    lines = [json.loads(line) for line in source.read_text().splitlines()[:14]]
    path = tmp_path / "records.jsonl"
    outcomes = {"read": 0, "refused": 0}
    for _ in range(300):
        damaged = rng.randrange(len(lines))
        text = [json.dumps(mutated(v, rng) if i == damaged else v) for i, v in enumerate(lines)]
        path.write_text("\n".join(text) + "\n")
        records, error = loaded(path)
        if error:
            assert f"records.jsonl:{damaged + 1}: " in error
            assert "\n" not in error
            outcomes["refused"] += 1
            continue
        outcomes["read"] += 1
        if {record.track for record in records} - TRACKS.keys():
            with pytest.raises(UserError, match="unknown track"):
                table.build([("run", records)])
            continue
        groups = table.build([("run", records)])
        for render in (leaderboard.render, byclass.render):
            for style in leaderboard.FORMATS:
                render(groups, style).encode()
        leaderboard.render(groups, width=80, notes=False).encode()
    assert min(outcomes.values()) > 30, outcomes


BASE = json.loads(SOURCES[0].read_text().splitlines()[0])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"method": {"a": 1}}, "method: expected text, found a dictionary"),
        ({"metrics": {"tow": True}}, "metrics.tow: expected a number"),
        ({"metrics": {"tow": 10**400}}, "metrics.tow: expected a number up to"),
        ({"cost": {"rte_s": "1"}}, "cost.rte_s: expected a number"),
        ({"seeds": {"unlearn": 0.5}}, "seeds.unlearn: expected a whole number"),
        ({"counts": {"forget_acc": [5, 3]}}, "counts.forget_acc: is no pair"),
        ({"reason": "\ud800"}, "reason: holds half a character"),
        ({"environment": {"os": {"a": DEEP}}}, "environment: is nested deeper"),
        ({"conditions": []}, "conditions: Input should be a valid dictionary"),
        ({"uninformative": "mia"}, "uninformative: Input should be a valid list"),
        ({"overlap": -0.3}, "overlap: is no share of two sizes"),
        ({"overlap": float("inf")}, "overlap: is no share of two sizes"),
        ({"status": "done"}, "status: is none of ok"),
        ({"surplus": 1}, "surplus: Unexpected"),
        ({"schema": "1"}, "not a record"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_field_is_named(change, says, tmp_path, command):
    path = tmp_path / "run" / "records.jsonl"
    path.parent.mkdir()
    path.write_text(json.dumps(BASE) + "\n" + json.dumps(BASE | change) + "\n")
    refused(command("leaderboard", path.parent), says)
    refused(command("leaderboard", path.parent, "--by-class", "--format", "json"), "records.jsonl:2: ")


@pytest.mark.parametrize("line", ['{"schema": 1, "x": ' + "[" * 100_000, '{"schema": 1, "x": ' + "9" * 5000 + "}"])
def test_what_json_itself_cannot_read_is_one_line_too(line, tmp_path, command):
    path = tmp_path / "run" / "records.jsonl"
    path.parent.mkdir()
    path.write_text(line + "\n")
    refused(command("leaderboard", path.parent), "records.jsonl:1: not a record")


def test_what_could_not_be_read_back_is_not_written(tmp_path):
    (record, *_) = load_records(SOURCES[0])
    with pytest.raises(ValueError, match=r"metrics\.loss"):
        encode(type(record)(**{**vars(record), "metrics": {"loss": 1e300}}))
    path = tmp_path / "records.jsonl"
    path.write_bytes(encode(type(record)(**{**vars(record), "status": "failed", "reason": "no file \udcff"})))
    assert load_records(path)[0].reason == "no file ?"


def test_all_results_of_before_still_load_and_render():
    for path in RESULTS.rglob("records.jsonl"):
        groups = table.build([("run", load_records(path))])
        for style in leaderboard.FORMATS:
            assert leaderboard.render(groups, style)
