"""The engine that runs every stage in this process: for debugging, tests and `--workers 0`."""

from __future__ import annotations

from concurrent.futures import Future

from loreun_bench.harness.work import Outcome, Task, execute


class InlineEngine:
    """One task at a time, in the caller's process: what the user's code does to it can reach the stages after it."""

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)  # as in a worker, so that results are the same to the bit

    def submit(self, task: Task) -> Future[Outcome]:
        """Run the task now."""
        future: Future[Outcome] = Future()
        future.set_result(execute(task))
        return future

    def capacity(self) -> int:
        """One."""
        return 1

    def close(self) -> None:
        """Nothing to stop."""
