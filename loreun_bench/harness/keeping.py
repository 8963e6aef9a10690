"""What a store holds, which runs need it, and what may go.

Each sweep lists what it uses (`RunList`), so that nobody has to plan a run again, with its plug-ins, to know what it needs.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loreun_bench.errors import UserError
from loreun_bench.harness.files import in_folder, write_atomic
from loreun_bench.harness.leases import RUN, Sweeps
from loreun_bench.harness.records import load_records
from loreun_bench.harness.store import Store


class RunList:
    """The artifacts that the sweep in a run folder uses, in a file of the store: the folder, and a key a line.

    While it runs keys are added to those that it used before; when it is whole the list is its own.
    """

    def __init__(self, store: Store, out: Path) -> None:
        self._head = f"{out.resolve()}\n"
        name = hashlib.sha256(self._head.encode(errors="surrogateescape")).hexdigest()[:16]
        self._path = store.root / "runs" / name
        self._keys: dict[str, None] = {}
        if not self._path.exists():
            write_atomic(self._path, os.fsencode(self._head))
        in_folder(store.tmp, lambda: (store.tmp / RUN).write_text(name))

    def add(self, key: str) -> None:
        """The sweep uses the artifact with this key."""
        if key not in self._keys:
            self._keys[key] = None
            try:
                descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND)
            except FileNotFoundError:  # somebody has deleted the store
                return self.whole()
            with open(descriptor, "ab") as file:
                file.write(f"{key}\n".encode())
        return None

    def whole(self) -> None:
        """The sweep of all cells is done."""
        write_atomic(self._path, os.fsencode(self._head + "".join(f"{key}\n" for key in self._keys)))


@dataclass(frozen=True)
class Kept:
    """Something in the store: a stage's artifact, its checkpoint, or what is no longer an artifact. lease: the key under
    which its stage is leased, which is not the artifact's if the stage uses files of the user's."""

    key: str
    lease: str
    folder: Path
    kind: str  # what the stage runs, or "checkpoint", "damaged"
    label: str
    size: int
    made: float  # seconds since the epoch


def contents(store: Store) -> list[Kept]:
    """All artifacts, checkpoints, and damaged artifacts."""
    others = (("checkpoints", "checkpoint"), ("corrupt", "damaged"))
    return [*_artifacts(store), *(one for name, kind in others for one in _folders(store.root / name, kind))]


def needed_by(store: Store, run: Path) -> set[str]:
    """The keys of all that a run folder's sweep uses. UserError if that is not known."""
    known = {folder: keys for _, folder, keys in _lists(store)}
    if run.resolve() in known:
        return known[run.resolve()]
    return {key for record in load_records(run) for key in (record.artifact, record.evaluation) if key}


def runs(store: Store) -> dict[Path, set[str]]:
    """The run folders that are still there, and the keys of what each uses."""
    return {folder: keys for _, folder, keys in _lists(store) if (folder / "records.jsonl").is_file()}


def removable(
    store: Store, keep: Collection[Path] | None = None, older_s: float | None = None, unused: bool = False
) -> list[Kept]:
    """What may go: what is damaged, and, if any of these is given, what none of them keeps. keep: run folders that are named
    to be kept; older_s: the age in seconds up to which things are kept; unused: those that a run folder uses are kept.
    Never what a sweep uses that is under way, or what a stage that is leased has made."""
    asked = keep is not None or older_s is not None or unused
    found, leased = contents(store), _leased(store)  # first: what is made is leased, then listed, and leased no more
    living, lists = _living(store), {path.name: keys for path, _, keys in _lists(store)}
    needed = set[str]().union(*(lists.get(name, set()) for name in living), *(needed_by(store, run) for run in keep or ()))
    if unused:
        needed = needed.union(*runs(store).values())
    now = time.time()

    def may_go(one: Kept) -> bool:
        if one.kind == "damaged":
            return True
        old = older_s is None or now - one.made > older_s
        if one.kind == "checkpoint":  # of a stage that was killed, which would go on from it
            return older_s is not None and old and one.lease not in leased
        return asked and old and one.lease not in leased and one.key not in needed

    return [one for one in found if may_go(one)]


def remove(store: Store, some: Collection[Kept]) -> None:
    """Remove them, each at once; what dead sweeps have left half-written goes, too."""
    Sweeps(store).clean()
    for one in some:
        gone = store.tmp / uuid.uuid4().hex
        with contextlib.suppress(OSError):  # another has removed it
            in_folder(gone.parent, partial(os.replace, one.folder, gone))
        shutil.rmtree(gone, ignore_errors=True)
    shutil.rmtree(store.tmp, ignore_errors=True)
    living = _living(store)
    for path, folder, _ in list(_lists(store)):
        if not folder.exists() and path.name not in living:
            path.unlink(missing_ok=True)


def seconds(text: str) -> float:
    """An age such as "30d", "12h" or "2w". UserError if it is none."""
    units = {"h": 3600.0, "d": 86400.0, "w": 604800.0}
    number, unit = text[:-1], text[-1:]
    if not (number.isdecimal() and number.isascii() and unit in units):
        raise UserError(f"--older {text}: give hours, days or weeks, as 12h, 30d or 2w")
    return int(number) * units[unit]


def _leased(store: Store) -> set[str]:
    """The leases that a sweep holds: one that was killed leaves its own behind."""
    sweeps, found = Sweeps(store), set()
    for path in store.root.glob("leases/[!.]*"):
        with contextlib.suppress(OSError):  # it was given back
            found |= {path.name} if sweeps.live(path.read_text(errors="replace")) else set()
    return found


def _living(store: Store) -> set[str]:
    """The names of the lists of the sweeps that are under way."""
    names = set()
    for folder in store.root.glob("tmp/[!.]*"):
        if folder.is_dir() and Sweeps(store).live(folder.name):
            with contextlib.suppress(OSError):
                names.add((folder / RUN).read_text())
    return names


def _lists(store: Store) -> Iterator[tuple[Path, Path, set[str]]]:
    for path in store.root.glob("runs/[!.]*"):
        with contextlib.suppress(OSError):
            folder, *keys = os.fsdecode(path.read_bytes()).splitlines()
            yield path, Path(folder), set(keys)


def _artifacts(store: Store) -> Iterator[Kept]:
    for folder in store.root.glob("artifacts/*/*"):
        artifact = store.find(folder.name)
        about = {} if artifact is None else artifact.manifest
        kind = str(about.get("run", "unreadable")).rpartition(":")[2]
        yield from _kept(folder, folder.name, kind, str(about.get("label", "")), str(about.get("lease", folder.name)))


def _folders(place: Path, kind: str) -> Iterator[Kept]:
    for folder in place.glob("[!.]*"):
        yield from _kept(folder, folder.name, kind, "")


def _kept(folder: Path, key: str, kind: str, label: str, lease: str = "") -> Iterator[Kept]:
    with contextlib.suppress(OSError):  # it is gone by now
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        yield Kept(key, lease or key, folder, kind, label, size, folder.stat().st_mtime)
