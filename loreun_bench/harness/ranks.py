"""One stage on several processes, its ranks: each runs it from the same seeds, and the first one's result counts.

The process that wants the result only waits, so that it can end them all whenever one of them fails, wherever the others
are. GPUs talk by nccl, CPUs by gloo, on this machine alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loreun_bench.errors import UserError

if TYPE_CHECKING:
    from loreun_bench.harness.stage import Output

PATIENCE = 1.0  # seconds in which a rank that has died is seen, if another misses it
ENDING = 30.0  # seconds in which ranks end by themselves


class Failed(Exception):
    """A rank failed. outcome: what its own process made of that."""

    def __init__(self, outcome: Any) -> None:
        super().__init__(outcome)
        self.outcome = outcome


@dataclass(frozen=True)
class _Rank:
    """What a process is told: which of how many it is, where they meet, what to run and how to tell what it raises."""

    number: int
    count: int
    device: str
    folder: Path
    threads: int
    function: Callable[[int], Any]
    failed: Callable[[BaseException], Any]


def run(
    count: int, device: str, folder: Path, function: Callable[[int], Any], failed: Callable[[BaseException], Any]
) -> Any:
    """What `function(0)` returns, which runs beside function(1) … function(count - 1), each in a process of its own.

    folder: where they meet, made and removed. Raises Failed with `failed(error)` of the first that raised, after all are
    ended; UserError if one has died.
    """
    import torch

    context, pairs = multiprocessing.get_context("spawn"), []
    folder.mkdir(parents=True)
    try:
        for number in range(count):
            ours, theirs = context.Pipe()
            about = _Rank(number, count, device, folder, torch.get_num_threads(), function, failed)
            process = context.Process(target=_serve, args=(about, theirs))
            with bare():
                process.start()
            theirs.close()
            pairs.append((process, ours))
        found = _answers(pairs)
        for _, pipe in pairs:
            with contextlib.suppress(OSError):
                pipe.send(None)
        for process, _ in pairs:
            process.join(ENDING)
        return found
    finally:
        for process, _ in pairs:
            process.kill()
            process.join()
        shutil.rmtree(folder, ignore_errors=True)


def _answers(pairs: list[tuple[Any, Connection]]) -> Any:
    """The first rank's, when all are done."""
    answers: dict[int, Any] = {}
    while len(answers) < len(pairs):
        waiting: dict[Any, int] = {pipe: number for number, (_, pipe) in enumerate(pairs) if number not in answers}
        pipe: Any
        for pipe in wait(list(waiting)):
            number = waiting[pipe]
            try:
                done, answers[number] = pipe.recv()
            except (EOFError, OSError):
                raise _died(number, len(pairs)) from None
            if not done:
                if wait([process.sentinel for process, _ in pairs], PATIENCE):  # a rank that misses another says so, too
                    raise _died(next(k for k, (process, _) in enumerate(pairs) if not process.is_alive()), len(pairs))
                raise Failed(answers[number])
    return answers[0]


def _died(number: int, count: int) -> UserError:
    why = "killed, perhaps for want of memory, or ended by the code it ran"
    return UserError(f"the process of rank {number} of {count} died: {why}")


def agreed(output: Output) -> Output:
    """This rank's output, with the largest peak memory of all. UserError, on all of them, if they came to different ones."""
    import torch
    import torch.distributed as dist

    digest = hashlib.sha256()
    for name, tensor in sorted(output.tensors.items()):
        plain = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(name.encode() + plain.view(torch.uint8).numpy().tobytes())
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, (digest.hexdigest(), output.cost.get("peak_mem_bytes", 0)))
    if len({tensors for tensors, _ in found}) > 1:
        raise UserError("the ranks came to different weights: something of this row differs by process; set ranks to 1")
    if "peak_mem_bytes" in output.cost:
        output.cost["peak_mem_bytes"] = max(peak for _, peak in found)
    return output


@contextlib.contextmanager
def bare() -> Iterator[None]:
    """Processes started inside do not import the script that runs this."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def follow_parent() -> None:
    """End this process when the one that started it has ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _serve(rank: _Rank, pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=follow_parent, daemon=True).start()
    try:
        _meet(rank)
        answer = True, rank.function(rank.number)
    except BaseException as error:
        answer = False, rank.failed(error)
    pipe.send(answer)
    with contextlib.suppress(EOFError, OSError):
        pipe.recv()  # who leaves breaks what the others are in: the parent says when
    os._exit(0)


def _meet(rank: _Rank) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(rank.threads)
    if rank.device == "cuda":
        torch.cuda.set_device(rank.number)
    elif sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # nobody else's business, and there without a network
    store = dist.FileStore(str(rank.folder / "meeting"), rank.count)  # type: ignore[attr-defined]
    backend = "nccl" if rank.device == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank.number, world_size=rank.count)
    dist.barrier()  # so that no clock has what the first collective makes ready
