"""Live progress: a bar with time left on a terminal, plain lines elsewhere; one line for every finished cell."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from loreun_bench.cli.says import say, say_again, shown
from loreun_bench.cli.tables import terminal
from loreun_bench.errors import plain
from loreun_bench.report.table import columns
from loreun_bench.report.text import wrapped

if TYPE_CHECKING:
    from loreun_bench.harness.plan import Plan
    from loreun_bench.harness.records import Record
    from loreun_bench.harness.scheduler import Event
    from loreun_bench.harness.stage import Stage

KEYS = (
    "forget_acc", "retain_acc", "test_acc", "mia_confidence", "forget_ua", "kept_acc", "fd", "fid", "rmia_auc",
    "klom_forget", "ulira_auc",
)  # fmt: skip
EVERY = 30.0  # seconds without a line before one says what is under way
LEAST = 0.002  # share of the work before which what is left is not foretold: the first step is much slower


class Progress:
    """A listener for the scheduler's events. Goes to stderr, so that stdout holds the table only."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan, self._folder = plan, folder
        self._start = time.monotonic()
        self._work = {stage.recipe: max(stage.work, 1) for stage in plan.stages}
        self._left: dict[str, float] = dict(self._work)
        self._left_of: dict[str, float] = defaultdict(float)  # by kind of stage
        for stage in plan.stages:
            self._left_of[stage.run] += self._work[stage.recipe]
        self._all = sum(self._work.values())
        self._done: dict[str, list[float]] = {}  # by kind of stage: work and seconds
        self._running: dict[str, tuple[Stage, float, float]] = {}  # the stage, when it started, the share done
        self._elsewhere: set[str] = set()  # those of them that another sweep makes
        self._workers = 0
        self._said = self._start
        self._cells = 0
        self._headings = {column.key: column.heading for column in columns(plan.cells[0].record.track)} if plan.cells else {}
        self._bar: Any = None
        self._begun = False

    def __enter__(self) -> Progress:
        return self

    def _begin(self) -> None:
        """The first lines, once something really runs."""
        for note in self._plan.notes:
            self._print(f"note: {note}")
        self._print(f"{len(self._plan.cells)} cells, {len(self._plan.stages)} stages → {self._folder}")
        if sys.stderr.isatty():
            self._bar = _bar(self._all)
            self._bar.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __call__(self, event: Event) -> None:
        """Take in one event."""
        if not self._begun:
            self._begun = True
            self._begin()
        if event.stage is not None:
            self._follow(event, event.stage)
        if event.stage is not None and event.outcome is not None and event.outcome.status != "ok":
            self._print(f"{event.outcome.status}: {event.stage.label}: {event.outcome.reason}{_trace(event.text)}")
        if event.kind == "note":
            self._print(f"note: {event.text}")
        if event.record is not None:
            self._cells += 1
            self._print(self._line(event.record))
        if self._bar is not None:
            completed = self._all - sum(self._left_of.values())
            self._bar.update(self._bar.task_ids[0], completed=completed, left=self._time_left(), what=self._under_way())
        elif self._running and time.monotonic() - self._said >= EVERY:
            self._print(f"under way: {self._under_way()}  ({self._time_left()})")

    def _under_way(self) -> str:
        theirs = dict.fromkeys(self._elsewhere, " (another sweep)")
        under_way = ((plain(s.label), share, theirs.get(key, "")) for key, (s, _, share) in self._running.items())
        return ", ".join(f"{label} {share:.0%}{whose}" for label, share, whose in under_way)

    def _follow(self, event: Event, stage: Stage) -> None:
        """Keep account of what is running, what is left, and how fast each kind of stage is."""
        now, work = time.monotonic(), self._work[stage.recipe]
        if event.kind != "running":
            (self._elsewhere.add if event.kind == "elsewhere" else self._elsewhere.discard)(stage.recipe)
        if event.kind in ("started", "elsewhere"):
            self._running[stage.recipe] = (stage, now, 0.0)
            self._workers = max(self._workers, len(self._running))
        elif event.kind == "running":
            share = max(event.share, self._running[stage.recipe][2])
            self._running[stage.recipe] = (stage, self._running[stage.recipe][1], share)
            self._leave(stage, work * (1 - share))
        elif event.kind == "again":
            self._running.pop(stage.recipe, None)
            self._leave(stage, work)
        else:
            self._running.pop(stage.recipe, None)
            self._leave(stage, 0)
            if event.outcome is not None and stage.work:  # a split takes no samples and says nothing of the rate
                done = self._done.setdefault(stage.run, [0.0, 0.0])
                done[0] += work
                done[1] += event.outcome.seconds

    def _leave(self, stage: Stage, work: float) -> None:
        """So much of a stage is left."""
        self._left_of[stage.run] += work - self._left[stage.recipe]
        self._left[stage.recipe] = work

    def stop(self, message: str) -> None:
        """End the display with a last line."""
        self.__exit__(None, None, None)
        self._print(message)

    def close(self, records: Sequence[Record]) -> None:
        """The summary: time taken, where the results are."""
        bad = sum(record.status != "ok" for record in records)
        failed = f", {bad} failed" if bad else ""
        self._print(f"{len(records)} cells{failed} in {time.monotonic() - self._start:.0f} s → {self._folder}")

    def _line(self, record: Record) -> str:
        name = f"{record.method} {record.weighting if record.weighting != 'none' else ''}".rstrip()
        seed = f"seed {record.seeds.get('unlearn', '?')}" if record.seeds else "over seeds"
        about = plain(f"{record.scenario} {seed} {name:15}")
        head = f"[{self._cells}/{len(self._plan.cells)}] {about}"
        if record.status != "ok":
            return f"{head} {record.status}: {record.reason}"
        values = " ".join(self._value(record, key) for key in KEYS if key in record.metrics)
        left = "" if self._bar is not None else f"  ({self._time_left()})"
        time = f"  {_seconds(record)}" if record.seeds else ""
        return f"{head} {values}{time}{left}"

    def _value(self, record: Record, key: str) -> str:
        """A metric in few words; "?" behind one that says nothing."""
        nothing = " ?" if key in record.uninformative else ""
        return f"{self._headings.get(key, key)} {record.metrics[key]:6.2f}{nothing}"

    def _time_left(self) -> str:
        """By each kind of stage's own rate, as far as it is known; by that of all else, and "?" if there is none."""
        done = {kind: list(pair) for kind, pair in self._done.items()}
        for stage, start, share in self._running.values():
            if share > 0 and stage.work:
                pair = done.setdefault(stage.run, [0.0, 0.0])
                pair[0] += share * stage.work
                pair[1] += time.monotonic() - start
        if not done:
            return "time left: ?"
        usual = sum(seconds for _, seconds in done.values()) / sum(work for work, _ in done.values())
        rates = {kind: seconds / work for kind, (work, seconds) in done.items()}
        seconds = sum(left * rates.get(kind, usual) for kind, left in self._left_of.items()) / max(self._workers, 1)
        return f"{_clock(seconds)} left"

    def _print(self, line: str) -> None:
        self._said = time.monotonic()
        if self._bar is not None:
            self._bar.console.print(shown(line), highlight=False, markup=False)
        else:
            say(wrapped(line, terminal(sys.stderr)), err=True)


class Shares:
    """What is under way and the time left, on stderr: one line that changes on a terminal; elsewhere a line a case, and one
    every EVERY seconds."""

    def __init__(self) -> None:
        self._start = self._said = time.monotonic()
        self._title = ""

    def __call__(self, title: str, share: float) -> None:
        """`share` of all the work is done, under way is `title`."""
        now = time.monotonic()
        left = f"{_clock((now - self._start) * (1 - share) / share)} left" if share > LEAST else "time left: ?"
        if sys.stderr.isatty():
            say_again(f"{share:4.0%} {title} ({left})", end="" if share < 1 else "\n")
        elif title != self._title or now - self._said > EVERY:
            self._said = now
            say(f"{share:4.0%} {title} ({left})", err=True)
        self._title = title


def _seconds(record: Record) -> str:
    return f"{record.cost['rte_s']:.3g} s" if "rte_s" in record.cost else "? s"


def _trace(name: str) -> str:
    return f" → {name}" if name else ""


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _bar(total: int) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    shown = (BarColumn(), TextColumn("{task.percentage:3.0f}%"), TimeElapsedColumn(), TextColumn("{task.fields[left]}"))
    what = TextColumn("{task.fields[what]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
    bar = Bar(*shown, what, console=Console(stderr=True), transient=True)
    bar.add_task("sweep", total=total, left="time left: ?", what="")
    return bar
