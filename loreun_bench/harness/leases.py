"""Who makes a stage: of all the sweeps on a store, on one machine or several, one at a time.

A lease is a file that names its holder, a sweep; a sweep that lives holds a lock on a file of its own and changes it every
few seconds. Nobody's clock is compared with another's: whoever watches counts for how long it has not changed. A lease saves
work and no more: two that make the same do no harm, as the store keeps what was there first.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import threading
import time
import uuid
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO

from loreun_bench.harness.files import in_folder, locked
from loreun_bench.harness.store import Store

BEAT, EXPIRES = 5.0, 60.0  # seconds between two signs of life, and without one until a sweep counts as dead
ALIVE, RUN = "alive", "run"  # files of a sweep: its sign of life, and the name of the list of what it uses


class Leases:
    """The leases of one sweep: entered when it begins, all given back when it ends. `store` is its own view of the store."""

    def __init__(self, store: Store) -> None:
        self.store = Store(store.root, uuid.uuid4().hex[:12])
        self._held: set[str] = set()
        self._folder = f"{store.root}/leases"
        self._sweeps = Sweeps(store)
        self._stop = threading.Event()
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Leases:
        self._sweeps.clean()
        new = self.store.tmp.with_name(f".{self.store.sweep}")  # until it can be seen to live
        alive = in_folder(new, lambda: os.open(new / ALIVE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        self._file = open(alive, "wb", buffering=0)
        _lock(self._file)
        self._beat(0)
        new.rename(self.store.tmp)
        threading.Thread(target=self._live, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        for key in list(self._held):
            self.give_back(key)
        if self._file is not None:
            self._file.close()
        shutil.rmtree(self.store.tmp, ignore_errors=True)
        self._sweeps.clean()  # of what lived elsewhere when this sweep began, and has not shown it since

    def take(self, key: str) -> bool:
        """Whether this sweep may make the stage with this key: nobody else does, or who did is dead."""
        if self._write(key):
            return True
        holder = self.holder(key)
        if holder is not None and self._sweeps.live(holder):
            return holder == self.store.sweep
        if holder is not None:
            self._clear(key, holder)
        return self._write(key)

    def holder(self, key: str) -> str | None:
        """The sweep that has the lease; None if nobody has."""
        try:
            with open(f"{self._folder}/{key}", "rb", buffering=0) as file:
                return file.read().decode(errors="replace")
        except FileNotFoundError:
            return None

    def progress_file(self, key: str) -> str:
        """Where who makes the stage says how far it is."""
        return Store(self.store.root, self.holder(key) or self.store.sweep).progress_file(key)

    def give_back(self, key: str) -> None:
        """The stage is made, or has failed."""
        self._held.discard(key)
        if self.holder(key) == self.store.sweep:  # else it was taken over
            self._remove(key)

    def _write(self, key: str) -> bool:
        """Whether nobody had the lease, so that this sweep has it now."""
        try:
            with in_folder(self._folder, lambda: open(f"{self._folder}/{key}", "xb")) as file:
                file.write(self.store.sweep.encode())
        except FileExistsError:
            return False
        except OSError:  # a full disk: a lease that names nobody would keep others waiting
            self._remove(key)
            raise
        self._held.add(key)
        return True

    def _clear(self, key: str, dead: str) -> None:
        """Take away the lease of a sweep that is dead, unless somebody has taken it over meanwhile."""
        with locked(Path(self._folder, ".lock")):
            if self.holder(key) == dead:
                self._remove(key)

    def _remove(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self._folder}/{key}")

    def _live(self) -> None:
        number = 0
        while not self._stop.wait(BEAT):
            number += 1
            with contextlib.suppress(OSError, ValueError):  # a full disk does not end a sweep; it may have just ended
                self._beat(number)

    def _beat(self, number: int) -> None:
        assert self._file is not None
        self._file.seek(0)
        self._file.write(f"{machine()} {number:012d}\n".encode())


class Sweeps:
    """The sweeps on a store, as one of them, or `store`, sees them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: dict[str, tuple[bytes | None, float]] = {}

    def live(self, sweep: str) -> bool:
        """Whether a sweep lives. On another machine, and if it hangs, it counts as dead when it was seen for EXPIRES seconds
        without a sign of life; on this one, at once when it has ended."""
        path = self._store.root / "tmp" / sweep / ALIVE if sweep else None
        try:
            said = path.read_bytes() if path is not None else b""  # a lease that is being written names nobody yet
        except OSError:
            return False
        before, since = self._seen.get(sweep, (None, 0.0))
        if said != before:
            since = time.monotonic()
            self._seen[sweep] = said, since
        if time.monotonic() - since >= EXPIRES:
            return False
        return path is None or not said.startswith(machine().encode()) or not _free(path)

    def living(self) -> int:
        """How many sweeps are under way."""
        folders = self._store.root.glob("tmp/[!.]*")
        return sum(path.is_dir() and self.live(path.name) for path in folders)

    def elsewhere(self) -> int:
        """How many may be under way on other machines, or were on this one before it was started anew."""
        found = 0
        for path in self._store.root.glob(f"tmp/[!.]*/{ALIVE}"):
            with contextlib.suppress(OSError):  # it has ended
                found += not path.read_bytes().startswith(machine().encode()) and self.live(path.parent.name)
        return found

    def clean(self) -> None:
        """Remove what sweeps that are dead have left half-written."""
        tmp = self._store.root / "tmp"
        folders = [path for path in tmp.glob("[!.]*") if path.is_dir()]
        dead = [path for path in folders if not self.live(path.name)]
        for path in dead:
            shutil.rmtree(path, ignore_errors=True)
        if len(dead) == len(folders):  # nobody writes here now
            for path in [*tmp.glob("[!.]*"), *self._store.root.glob("used/*/.*")]:
                with contextlib.suppress(OSError):
                    path.unlink()


@cache
def machine() -> str:
    """What tells this machine, as it was last started, from others; containers on it are the same."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{platform.node()}-{uuid.getnode():x}"


def _lock(file: IO[bytes]) -> None:
    """Lock a file for as long as this process lives; without locks (Windows) only its changes tell that it does."""
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _free(path: Path) -> bool:
    """Whether nobody holds the lock on a file. Never so without locks (Windows)."""
    try:
        import fcntl

        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True
