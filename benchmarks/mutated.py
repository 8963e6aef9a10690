"""Feeds everything that comes from others, damaged, to what reads it, and counts what is neither read nor refused in a line.

    python benchmarks/mutated.py [--kind NAME …] [--inputs 20000] [--seed 0]

Each input is a valid one with one to four changes (see `mutations`). It is read in this process by the functions of the
verbs, and either accepted, or refused: UserError in one printable line. All else is a fault: another exception, over SECONDS
of a processor, over MEMORY more than any before it, a file written outside the folder of the inputs.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

SECONDS, MEMORY = 10, 1 << 30
LIMIT = 24 << 30  # bytes of address space: what takes memory without end fails instead of the machine
WRITES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate", "shutil.rmtree")
HERE = Path(__file__).parent


class Slow(BaseException):
    """Raised into what takes longer than SECONDS."""


class Outside(BaseException):
    """Raised into what writes a file outside the folder."""


class Guard:
    """Sees what an input does: how long it takes, how much memory, and where it writes."""

    def __init__(self) -> None:
        self.folder, self.on, self.peak = "", False, 0
        sys.addaudithook(self._hear)  # it stays as long as the process

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, it watches."""
        self.peak = max(self.peak, _peak())
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        self.on = True
        try:
            yield
        finally:
            self.on = False
            signal.setitimer(signal.ITIMER_PROF, 0)
        if _peak() > self.peak + MEMORY:
            raise MemoryError(f"{(_peak() - self.peak) >> 20} MB more")

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        writes = event in WRITES or (event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR))
        if writes and isinstance(args[0], str | bytes | os.PathLike):
            place = os.path.realpath(os.fsdecode(args[0]))
            if not f"{place}/".startswith(self.folder + "/") and not place.startswith(("/dev/", "/proc/")):
                raise Outside(f"{event} {place}")


def _alarm(*_: Any) -> None:
    raise Slow


@cache
def _guard() -> Guard:
    return Guard()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def outcome(guard: Guard, feed: Callable[[], Any]) -> str:
    """ "accepted", "refused", or what is wrong."""
    from loreun_bench.errors import LONGEST, UserError

    try:
        with guard.watching():
            feed()
        return "accepted"
    except UserError as error:
        text = str(error)
        if text and text.isprintable() and len(text) <= LONGEST:
            return "refused"
        return f"UserError of {len(text)} characters: {text[:80]!r}"
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f"{os.sep}loreun_bench{os.sep}" in f.filename]
        places = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in frames[:-4:-1])
        return f"{type(error).__name__} at {places}: {str(error)[:80]!r}"


def tested(kind: str, inputs: int, seed: int, folder: Path) -> tuple[Counter[str], dict[str, int]]:
    """How often each outcome came, and the number of the first input of each."""
    from kinds import KINDS

    found: Counter[str] = Counter()
    first: dict[str, int] = {}
    (own := folder / kind).mkdir()
    made = KINDS[kind](own)
    guard = _guard()
    guard.folder = os.path.realpath(folder)
    before = signal.signal(signal.SIGPROF, _alarm)
    try:
        for number in range(inputs):
            said = outcome(guard, made(number, random.Random(f"{kind} {seed} {number}")))
            found[said] += 1
            first.setdefault(said, number)
    finally:
        signal.signal(signal.SIGPROF, before)
    return found, first


def main(words: list[str] | None = None) -> int:
    """Print a line a kind, and one a fault. Exit code 1 if there is any."""
    sys.path.insert(0, str(HERE))
    from kinds import KINDS

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kind", action="append", choices=KINDS, help="several are possible [default: every one]")
    parser.add_argument("--inputs", type=int, default=20_000, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(words)
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    warnings.simplefilter("ignore")
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"LOREUN_STORE": f"{folder}/store", "LOREUN_DATA": f"{folder}/data", "HF_HUB_OFFLINE": "1"}
        os.environ |= {"TMPDIR": folder, "TORCHINDUCTOR_CACHE_DIR": f"{folder}/torch"}
        os.chdir(folder)
        print("| kind | inputs | accepted | refused in one line | faults | s |\n|---|---|---|---|---|---|")
        for kind in given.kind or KINDS:
            start = time.monotonic()
            found, first = tested(kind, given.inputs, given.seed, Path(folder))
            bad = {said: times for said, times in found.items() if said not in ("accepted", "refused")}
            cells = kind, given.inputs, found["accepted"], found["refused"], sum(bad.values())
            print(f"| {' | '.join(map(str, cells))} | {time.monotonic() - start:.0f} |", flush=True)
            for said, times in sorted(bad.items(), key=lambda pair: -pair[1]):
                print(f"  {times} × {said} (first: {first[said]})", flush=True)
            faults += sum(bad.values())
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
