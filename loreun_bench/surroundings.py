"""What code may change of the process it runs in, remembered and put back.

Each thing is a pair: how to read it, and how to write it. What Python has no way to read is not here: threads that run on,
and what was done to files and other processes.
"""

from __future__ import annotations

import atexit
import contextlib
import csv
import gc
import locale
import logging
import os
import random
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from loreun_bench.errors import UserError
from loreun_bench.whose import is_users, users_place

Pair = tuple[Callable[[], Any], Callable[[Any], Any]]
Restore = Callable[[], None]

SYS = (
    "argv", "breakpointhook", "displayhook", "dont_write_bytecode", "excepthook", "meta_path", "path", "path_hooks",
    "stderr", "stdin", "stdout", "unraisablehook", "__stderr__", "__stdin__", "__stdout__",
)  # fmt: skip
STREAMS = (0, 1, 2)  # the descriptors that all children inherit
HOOKS = (("torch.nn.modules.module", "_global_"), ("torch.optim.optimizer", "_global_"))  # dictionaries of functions


def remember() -> Restore:
    """Remember this process's state; what is returned puts back what has changed since.

    That raises UserError if a limit of the process was lowered that cannot be raised again.
    """
    others = [_streams(), _handlers(), _exits()]
    before = [(write, read, read()) for read, write in _pairs()]

    def restore() -> None:
        for each in others:
            each()
        for write, read, value in before:
            if read() != value:
                write(value)

    return restore


def _pairs() -> Iterator[Pair]:
    import torch  # first: it changes some of the rest, and a plug-in may be the first to import it

    yield from _of_torch(torch)
    yield os.getcwd, os.chdir
    yield _umask, os.umask
    yield os.environ.copy, _set_environment
    yield random.getstate, random.setstate
    yield sys.getrecursionlimit, sys.setrecursionlimit
    yield sys.getswitchinterval, sys.setswitchinterval
    yield sys.gettrace, sys.settrace
    yield sys.getprofile, sys.setprofile
    yield from (_attribute(sys, name) for name in SYS)
    yield from (_contents(each) for each in (sys.argv, sys.path, sys.path_hooks))
    yield lambda: list(warnings.filters), _set_filters
    yield lambda: list(sys.meta_path), _set_finders
    yield gc.isenabled, lambda on: gc.enable() if on else gc.disable()
    yield gc.get_threshold, lambda value: gc.set_threshold(*value)
    yield csv.field_size_limit, csv.field_size_limit
    yield socket.getdefaulttimeout, socket.setdefaulttimeout
    yield lambda: locale.setlocale(locale.LC_ALL), lambda value: locale.setlocale(locale.LC_ALL, value)
    yield from (_attribute(warnings, name) for name in ("showwarning", "formatwarning"))
    yield from _of_logging()
    yield from _of_system()
    yield from _of_numpy()


def _attribute(owner: Any, name: str) -> Pair:
    return lambda: getattr(owner, name, None), lambda value: setattr(owner, name, value)


def _contents(values: Any) -> Pair:
    """A list that others hold, too."""

    def write(before: list[Any]) -> None:
        values[:] = before

    return lambda: list(values), write


def _entries(table: dict[Any, Any]) -> Pair:
    """A dictionary that others hold, too."""

    def write(before: dict[Any, Any]) -> None:
        table.clear()
        table.update(before)

    return lambda: dict(table), write


def _umask() -> int:
    mask = os.umask(0o77)
    os.umask(mask)
    return mask


def _set_environment(value: dict[str, str]) -> None:
    zone = os.environ.get("TZ")
    os.environ.clear()
    os.environ.update(value)
    if zone != value.get("TZ") and hasattr(time, "tzset"):
        time.tzset()


def _set_filters(before: list[Any]) -> None:
    warnings.resetwarnings()
    warnings.filters[:] = before  # type: ignore[index]


def _set_finders(before: list[Any]) -> None:
    """Finders of modules. Those of libraries that were imported meanwhile stay: their modules need them."""
    new = [finder for finder in sys.meta_path if finder not in before]
    kind = [finder if isinstance(finder, type) else type(finder) for finder in new]
    theirs = [f for f, cls in zip(new, kind, strict=True) if users_place(sys.modules.get(cls.__module__)) is None]
    sys.meta_path[:] = [*before, *theirs]


def _of_logging() -> Iterator[Pair]:
    yield from (_attribute(logging, name) for name in ("raiseExceptions", "lastResort"))
    yield _attribute(logging.root.manager, "disable")
    for logger in [logging.root, *logging.root.manager.loggerDict.values()]:
        if isinstance(logger, logging.Logger):
            yield from (_attribute(logger, name) for name in ("disabled", "propagate"))
            yield _attribute(logger, "level")[0], logger.setLevel
            yield from (_contents(each) for each in (logger.handlers, logger.filters))


def _of_system() -> Iterator[Pair]:
    """What children inherit, where the system has it."""
    if hasattr(os, "sched_getaffinity"):
        yield lambda: os.sched_getaffinity(0), lambda cores: os.sched_setaffinity(0, cores)
    with contextlib.suppress(ImportError):
        import resource

        for name in sorted(each for each in dir(resource) if each.startswith("RLIMIT_")):
            yield _limit(resource, name)
    if hasattr(signal, "pthread_sigmask"):
        yield (
            lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ()),
            lambda mask: signal.pthread_sigmask(signal.SIG_SETMASK, mask),
        )
    if hasattr(signal, "getitimer"):
        for clock in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
            yield _alarm(clock)


def _limit(resource: Any, name: str) -> Pair:
    number = getattr(resource, name)

    def write(value: tuple[int, int]) -> None:
        try:
            resource.setrlimit(number, value)
        except (ValueError, OSError) as error:
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(number, (value[0], resource.getrlimit(number)[1]))
                return
            raise UserError(
                f"a user's file has lowered {name} of the process that plans, which cannot be raised again: set it in the "
                "function that the stage runs"
            ) from error

    return lambda: resource.getrlimit(number), write


def _alarm(clock: int) -> Pair:
    """Whether an alarm is set, and how far off it is (which changes by itself)."""
    ahead = signal.getitimer(clock)
    return (
        lambda: signal.getitimer(clock)[0] > 0,
        lambda on: signal.setitimer(clock, *(ahead if on else (0.0, 0.0))),
    )


def _of_numpy() -> Iterator[Pair]:
    if (numpy := sys.modules.get("numpy")) is None:
        return
    yield numpy.geterr, lambda value: numpy.seterr(**value)
    yield numpy.get_printoptions, lambda value: numpy.set_printoptions(**value)
    yield lambda: [numpy.asarray(part).tolist() for part in numpy.random.get_state()], numpy.random.set_state


def _streams() -> Restore:
    """Standard input, output and errors, as descriptors: what they are, and whether they block."""
    kept: list[tuple[int, int, tuple[int, int], bool]] = []
    for number in STREAMS:
        with contextlib.suppress(OSError):
            kept.append((number, os.dup(number), _file_of(number), os.get_blocking(number)))

    def restore() -> None:
        for number, copy, file, blocks in kept:
            with contextlib.suppress(OSError):
                now = None
                with contextlib.suppress(OSError):
                    now = _file_of(number)
                if now != file:
                    _flush()
                    os.dup2(copy, number)
                if os.get_blocking(number) != blocks:
                    os.set_blocking(number, blocks)
            os.close(copy)

    return restore


def _file_of(number: int) -> tuple[int, int]:
    found = os.fstat(number)
    return found.st_dev, found.st_ino


def _flush() -> None:
    """What was printed goes where it was meant to."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _handlers() -> Restore:
    """What signals do. Only the main thread may set it, and so change it."""
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}

    def restore() -> None:
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) is not handler:
                with contextlib.suppress(ValueError, OSError):
                    signal.signal(number, handler)

    return restore


def _exits() -> Restore:
    """What the user's code has registered inside to be run at the end of this process is not."""
    usual, theirs = atexit.register, []

    def register(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if is_users(sys._getframe(1).f_code.co_filename):
            theirs.append(function)
        return usual(function, *args, **options)

    atexit.register = register  # type: ignore[assignment]

    def restore() -> None:
        atexit.register = usual
        for function in theirs:
            atexit.unregister(function)

    return restore


def _of_torch(torch: Any) -> Iterator[Pair]:
    """Modes, threads, random state, hooks of all modules, and what a checkpoint may hold."""
    yield _random_bytes, lambda state: torch.set_rng_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))
    yield from _hooks()
    yield torch.is_grad_enabled, torch.set_grad_enabled
    yield torch.get_num_threads, torch.set_num_threads
    yield torch.get_default_dtype, torch.set_default_dtype
    yield torch.get_default_device, lambda device: torch.set_default_device(None if device.type == "cpu" else device)
    yield torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    yield torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms
    yield torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly
    yield lambda: torch.is_autocast_enabled("cpu"), lambda on: torch.set_autocast_enabled("cpu", on)
    yield from (_attribute(torch.backends.cudnn, name) for name in ("enabled", "benchmark", "deterministic", "allow_tf32"))
    yield from (_attribute(torch.backends.mkldnn, name) for name in ("enabled",))
    safe = torch.serialization
    yield safe.get_safe_globals, lambda known: (safe.clear_safe_globals(), safe.add_safe_globals(known))


def _random_bytes() -> bytes:
    import torch

    return torch.get_rng_state().numpy().tobytes()


def _hooks() -> Iterator[Pair]:
    modules = [(sys.modules[name], start) for name, start in HOOKS if name in sys.modules]
    tables = [table for module, start in modules for name, table in vars(module).items() if name.startswith(start)]
    yield from (_entries(table) for table in tables if isinstance(table, dict))
