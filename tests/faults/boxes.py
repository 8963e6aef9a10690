"""Sweeps by the command line, each a process of its own, inside a mount namespace that a test can fill, shrink or take away.

All are forked from one process that has imported what a sweep needs: that takes seconds, a tiny sweep a fraction of one.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

NEWUSER, NEWNS = 0x10000000, 0x00020000  # of unshare
RDONLY, REMOUNT, BIND, REC, PRIVATE = 1, 32, 4096, 16384, 1 << 18  # of mount
LIMIT = 120  # seconds for one command


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """What the user is told went wrong: one line, never a traceback."""
        assert "Traceback" not in self.err, self.err
        lines = [line for line in self.err.splitlines() if line.startswith(("error: ", "failed: ", "oom: ", "timeout: "))]
        assert len(lines) == 1, self.err
        return lines[0]

CONFIG = """
dataset: digits
model_settings: {width: 2}
seeds: 1
train: {epochs: 1}
scenarios: [{kind: random, fraction: 0.2}]
methods: {Retrain: , RL: {epochs: 1}}
weightings: [none, w_f]
metrics: [accuracy, loss]
noise_floor: false
limit_images: 100
device: cpu
"""


class Box:
    """A process with mounts of its own, which runs commands one after another."""

    def __init__(self, channel: Connection, folder: Path) -> None:
        self._channel, self.folder = channel, folder
        self.env: dict[str, str] = {}
        self.pid = self._ask("pid")

    def _ask(self, *words: object) -> object:
        self._channel.send(words)
        found = self._channel.recv()
        if isinstance(found, Exception):
            raise found
        return found

    def mount(self, path: Path, size: str, *, again: bool = False) -> None:
        """Put a file system of a `size`, such as "4k", at `path`, or change the size of the one there."""
        path.mkdir(parents=True, exist_ok=True)
        self._ask("mount", "tmpfs", str(path), "tmpfs", REMOUNT if again else 0, f"size={size}")

    def freeze(self, path: Path, frozen: bool = True) -> None:
        """Make what is at `path` read-only, or writable again."""
        path.mkdir(parents=True, exist_ok=True)
        self._ask("mount", str(path), str(path), "", BIND, None)
        self._ask("mount", "", str(path), "", REMOUNT | BIND | (RDONLY if frozen else 0), None)

    def inside(self, path: Path) -> Path:
        """Where what is at `path` inside is seen from outside."""
        return Path(f"/proc/{self.pid}/root{path}")

    def start(self, *words: object) -> int:
        """Start a command; its process."""
        (self.folder / "out").touch()
        return self._ask("start", [str(word) for word in words], self.env, str(self.folder))

    def ended(self, pid: int) -> Ended:
        """How it ended, once it has."""
        code = self._ask("wait", pid)
        return Ended(code, *((self.folder / name).read_text() for name in ("out", "err")))

    def run(self, *words: object) -> Ended:
        """Run a command to its end."""
        return self.ended(self.start(*words))

    def close(self) -> None:
        """End the process, and with it its mounts."""
        self._channel.close()


class Warm:
    """The process that boxes are forked from."""

    def __init__(self, config: Path, data: Path) -> None:
        ours, theirs = socket.socketpair()
        self._socket = ours
        words = [sys.executable, __file__, str(theirs.fileno()), str(config)]
        path = os.pathsep.join(map(str, sys.path))
        env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path, "LOREUN_DATA": str(data)}
        self._process = subprocess.Popen(words, pass_fds=[theirs.fileno()], env=env, start_new_session=True)
        theirs.close()

    def box(self, folder: Path) -> Box:
        """A new box."""
        ours, theirs = socket.socketpair()
        socket.send_fds(self._socket, [b"x"], [theirs.fileno()])
        theirs.close()
        box = Box(Connection(os.dup(ours.fileno())), folder)
        ours.close()
        return box

    def close(self) -> None:
        """End it."""
        self._socket.close()
        self._process.wait(timeout=LIMIT)


def _serve(end: socket.socket) -> None:
    """Fork a box for each socket that comes."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, fds, _, _ = socket.recv_fds(end, 1, 1)
        if not message:
            return
        if os.fork() == 0:
            end.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _be_a_box(Connection(fds[0]))
            os._exit(0)
        os.close(fds[0])


def _be_a_box(channel: Connection) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    while True:
        try:
            verb, *words = channel.recv()
        except EOFError:
            return
        try:
            channel.send(_done(libc, verb, words))
        except OSError as error:
            channel.send(error)


def _done(libc: ctypes.CDLL, verb: str, words: list) -> object:
    if verb == "pid":
        _own_namespace(libc)
        return os.getpid()
    if verb == "mount":
        source, target, kind, flags, data = words
        encoded = [each.encode() if each else None for each in (source, target, kind, data)]
        _must(libc.mount(*encoded[:3], ctypes.c_ulong(flags), encoded[3]))
        return None
    if verb == "start":
        if (pid := os.fork()) == 0:
            _command(*words)
        return pid
    return os.waitstatus_to_exitcode(os.waitpid(words[0], 0)[1])


def _own_namespace(libc: ctypes.CDLL) -> None:
    user, group = os.getuid(), os.getgid()
    _must(libc.unshare(NEWUSER | NEWNS))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _must(libc.mount(None, b"/", None, ctypes.c_ulong(REC | PRIVATE), None))


def _must(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _command(words: list[str], env: dict[str, str], folder: str) -> None:
    """Be `python -m loreun_bench` with these words."""
    os.setsid()
    os.chdir(folder)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    os.environ.update(env)
    tempfile.tempdir = None
    code = _main(words)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _main(words: list[str]) -> int:
    sys.argv = ["loreun-bench", *words]
    try:
        importlib.import_module("loreun_bench.cli").main()
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _warm_up(config: str) -> None:
    """Import and read what a sweep does, but compute nothing: torch then starts threads, with which nothing is forked."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        assert _main(["plan", config]) == 0
    for name in ("harness.engines.preload", "harness.engines.inline", "report.leaderboard", "cli.progress", "cli.tables"):
        importlib.import_module(f"loreun_bench.{name}")
    app = importlib.import_module("loreun_bench.cli").app
    app.registered_commands.clear()
    app.registered_groups.clear()


if __name__ == "__main__":
    _, descriptor, config = sys.argv
    _warm_up(config)
    _serve(socket.socket(fileno=int(descriptor)))
