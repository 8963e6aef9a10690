"""Live progress: a bar with time left on a terminal, plain lines elsewhere; one line for every finished cell."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from loreun_bench.report.table import columns

if TYPE_CHECKING:
    from loreun_bench.harness.plan import Plan
    from loreun_bench.harness.records import Record
    from loreun_bench.harness.scheduler import Event

KEYS = ("forget_acc", "retain_acc", "test_acc", "mia_confidence")


class Progress:
    """A listener for the scheduler's events. Goes to stderr, so that stdout holds the table only."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan, self._folder = plan, folder
        self._start = time.monotonic()
        self._work = {stage.recipe: max(stage.work, 1) for stage in plan.stages}
        self._left = sum(self._work.values())
        self._done_work, self._done_seconds = 0, 0.0
        self._running = self._workers = 0
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
            self._bar = _bar(self._left)
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
        if event.stage is not None and event.kind in ("cached", "finished"):
            work = self._work[event.stage.recipe]
            self._left -= work
            if event.outcome is not None and event.stage.work:  # a split takes no samples and says nothing of the rate
                self._done_work, self._done_seconds = self._done_work + work, self._done_seconds + event.outcome.seconds
        self._running += {"started": 1, "finished": -1}.get(event.kind, 0)
        self._workers = max(self._workers, self._running)
        if event.stage is not None and event.outcome is not None and event.outcome.status != "ok":
            self._print(f"{event.outcome.status}: {event.stage.label}: {event.outcome.reason}")
        if event.record is not None:
            self._cells += 1
            self._print(self._line(event.record))
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=sum(self._work.values()) - self._left, left=self._time_left())

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
        head = f"[{self._cells}/{len(self._plan.cells)}] {record.scenario} seed {record.seeds['unlearn']} {name:15}"
        if record.status != "ok":
            return f"{head} {record.status}: {record.reason}"
        values = " ".join(f"{self._headings[k]} {record.metrics[k]:6.2f}" for k in KEYS if k in record.metrics)
        left = "" if self._bar is not None else f"  ({self._time_left()})"
        return f"{head} {values}  {record.cost.get('rte_s', 0):.3g} s{left}"

    def _time_left(self) -> str:
        if not self._done_work:
            return "time left: ?"
        seconds = self._left * self._done_seconds / self._done_work / max(self._workers, 1)
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d} left"

    def _print(self, line: str) -> None:
        if self._bar is not None:
            self._bar.console.print(line, highlight=False, markup=False)
        else:
            print(line, file=sys.stderr, flush=True)


class Shares:
    """What is under way and the time left, on stderr: one line that changes on a terminal, a line a case elsewhere."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._title = ""

    def __call__(self, title: str, share: float) -> None:
        """`share` of the work, under way as `title`, is done."""
        spent = time.monotonic() - self._start
        left = f"{_clock(spent * (1 - share) / share)} left" if share > 0 else "time left: ?"
        if sys.stderr.isatty():
            end = "" if share < 1 else "\n"
            print(f"\r\x1b[K{share:4.0%} {title} ({left})", end=end, file=sys.stderr, flush=True)
        elif title != self._title:
            print(f"{share:4.0%} {title} ({left})", file=sys.stderr, flush=True)
        self._title = title


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _bar(total: int) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    shown = (BarColumn(), TextColumn("{task.percentage:3.0f}%"), TimeElapsedColumn(), TextColumn("{task.fields[left]}"))
    bar = Bar(*shown, console=Console(stderr=True), transient=True)
    bar.add_task("sweep", total=total, left="time left: ?")
    return bar
