"""Progress: a line for each cell, and a time left that is neither silly nor missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from loreun_bench.cli.progress import Progress, Shares
from loreun_bench.harness.plan import Cell, Plan
from loreun_bench.harness.records import Record
from loreun_bench.harness.scheduler import Event
from loreun_bench.harness.stage import Stage
from loreun_bench.harness.work import Outcome

SPLIT = Stage("m:split", {})
STAGES = [Stage("m:train", {"i": i}, {"split": SPLIT}, work=1000) for i in range(4)]
RECORD = Record(
    "classification", "digits", "small-cnn", "class-3", "RL", "w_f", {"unlearn": 7},
    metrics={"forget_acc": 1.5, "retain_acc": 99.0, "test_acc": 98.0}, cost={"rte_s": 0.25},
)  # fmt: skip


def lines(capsys, *events):
    plan = Plan(tuple(Cell(RECORD, stage, stage) for stage in STAGES), (SPLIT, *STAGES), ("a note",))
    with Progress(plan, Path("runs/x")) as progress:
        for event in events:
            progress(event)
    return capsys.readouterr().err.splitlines()


def finished(stage, seconds, status="ok", reason=""):
    return Event("finished", stage, Outcome(status, reason, seconds))


def test_notes_and_header_come_with_the_first_event_only(capsys):
    assert lines(capsys) == []
    shown = lines(capsys, Event("started", SPLIT), Event("started", STAGES[0]))
    assert shown == ["note: a note", "4 cells, 5 stages → runs/x"]


def test_a_cell_is_a_line_with_its_values_and_the_time_left(capsys):
    starts = [Event("started", stage) for stage in (SPLIT, STAGES[0])]
    shown = lines(capsys, *starts, finished(SPLIT, 1.0), finished(STAGES[0], 20.0), Event("record", record=RECORD))
    assert shown[-1].startswith("[1/4] class-3 seed 7 RL w_f ")
    assert "UA   1.50 RA  99.00 TA  98.00  0.25 s" in shown[-1]
    assert shown[-1].endswith("(0:30 left)")  # 3 stages of 20 s on 2 workers


def test_a_stage_without_samples_says_nothing_of_the_time_left(capsys):
    shown = lines(capsys, Event("started", SPLIT), finished(SPLIT, 9.0), Event("record", record=RECORD))
    assert shown[-1].endswith("(time left: ?)")


def test_a_failure_is_said_at_once(capsys):
    shown = lines(capsys, Event("started", STAGES[0]), finished(STAGES[0], 1.0, "diverged", "too fast"))
    assert shown[-1] == "diverged: : too fast"


def test_a_long_stage_says_how_far_it_is_and_the_time_left_comes_with_it(capsys, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def after(seconds, *events):
        now[0] += seconds
        return events[0]

    plan = Plan(tuple(Cell(RECORD, stage, stage) for stage in STAGES), (SPLIT, *STAGES))
    progress = Progress(plan, Path("runs/x"))
    for seconds, event in [
        (0, Event("started", STAGES[0])),
        (10, Event("running", STAGES[0], share=0.1)),  # too soon for a line
        (30, Event("running", STAGES[0], share=0.4)),
        (1, Event("running", STAGES[0], share=0.3)),  # a second piece of work in the stage; it does not go back
    ]:
        progress(after(seconds, event))
    assert capsys.readouterr().err.splitlines()[1:] == ["under way:  40%  (6:00 left)"]  # 3.6 stages of 100 s
    progress(after(59, finished(STAGES[0], 100.0)))
    progress(after(0, Event("record", record=RECORD)))
    assert capsys.readouterr().err.splitlines()[-1].endswith("(5:00 left)")


def test_kinds_of_stages_have_rates_of_their_own(capsys):
    other = Stage("m:sample", {}, work=1000)
    plan = Plan((Cell(RECORD, STAGES[0], STAGES[0]),), (*STAGES[:2], other, Stage("m:sample", {"i": 1}, work=500)))
    progress = Progress(plan, Path("runs/x"))
    events = [finished(STAGES[0], 10.0), finished(other, 100.0), Event("record", record=RECORD)]
    for event in [Event("started", STAGES[0]), *events]:
        progress(event)
    assert capsys.readouterr().err.splitlines()[-1].endswith("(1:00 left)")  # 10 s and half of 100 s


def test_a_cell_that_lacks_metrics_or_has_odd_ones_is_a_line_all_the_same(capsys):
    odd = replace(
        RECORD, metrics={"mia_confidence": 54.3, "test_acc": float("nan"), "fd": 1.0}, uninformative=["mia_confidence"],
        seeds={}, cost={}, scenario="a\x1b[31m",
    )  # fmt: skip
    shown = lines(capsys, Event("started", STAGES[0]), Event("record", record=odd))[-1]
    assert "MIA  54.30 ?" in shown
    assert "over seeds" in shown
    assert "\x1b" not in shown


def test_shares_of_one_work_say_now_and_then_where_it_stands(capsys, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    shares = Shares()
    for seconds, title, share in [
        (5, "autoencoder", 0.001),  # the first step, of which nothing can be foretold
        (5, "autoencoder", 0.01),  # too soon for a line
        (30, "autoencoder", 0.4),
        (20, "denoiser", 0.5),
        (60, "denoiser", 1.0),
    ]:
        now[0] += seconds
        shares(title, share)
    assert capsys.readouterr().err.splitlines() == [
        "  0% autoencoder (time left: ?)", " 40% autoencoder (1:00 left)", " 50% denoiser (1:00 left)",
        "100% denoiser (0:00 left)",
    ]  # fmt: skip
