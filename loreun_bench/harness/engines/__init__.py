"""Engines run stages somewhere. Whether a stage is done is the store's word, never theirs."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Protocol

from loreun_bench.harness.work import Outcome, Task


class Engine(Protocol):
    """Where stages run."""

    def submit(self, task: Task) -> Future[Outcome]:
        """Start a task; at most `capacity()` run at a time."""
        ...

    def capacity(self) -> int:
        """How many tasks may run at once."""
        ...

    def close(self) -> None:
        """Stop everything at once; nothing half-done stays behind."""
        ...
