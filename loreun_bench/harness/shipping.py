"""The user's code by content, for a machine that has not got the files: read here, laid out there in the same layout.

What is sent are the plug-in files, the user's .py files that they import, and what they declare to use (`files=`, FILES).
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loreun_bench.errors import UserError
from loreun_bench.harness import scratch
from loreun_bench.harness.stage import digest
from loreun_bench.harness.unseen import files_of
from loreun_bench.harness.work import Task
from loreun_bench.registry import declared

LARGEST = 64 << 20  # bytes of a row's files together: what is larger is data, which every machine is to have


@dataclass(frozen=True)
class Parcel:
    """The user's files that a stage runs, by absolute path, and the folder that it was planned in."""

    files: Mapping[str, bytes]
    cwd: str


def pack(task: Task) -> Parcel:
    """What of the user's a task needs. UserError if that is too large."""
    plugins = list(dict.fromkeys([*task.stage.plugins, *(Path(name) for name in task.load if name.endswith(".py"))]))
    paths = [path for plugin in plugins for path in (plugin, *files_of(plugin), *_declared(plugin))]
    size = sum(path.stat().st_size for path in dict.fromkeys(paths))
    if size > LARGEST:
        raise UserError(f"the user's files of '{task.stage.label}' are {size >> 20} MB, and at most {LARGEST >> 20} MB are "
                        f"sent: put the data among them on a disk that all machines share")  # fmt: skip
    return Parcel({str(path): path.read_bytes() for path in dict.fromkeys(paths)}, os.getcwd())


def unpack(task: Task, parcel: Parcel) -> tuple[Task, Path]:
    """The task as this machine can run it, and the folder to run it in: where the files are, if they are here as they were
    sent; else laid out below a folder of this process's own. Its key stays."""
    if all(_same(Path(path), content) for path, content in parcel.files.items()):
        return task, Path(parcel.cwd)
    hashes = {path: hashlib.sha256(content).hexdigest() for path, content in parcel.files.items()}
    top = Path(os.path.realpath(scratch.folder())) / f"plugins-{digest(hashes)[:16]}"
    for path, content in parcel.files.items():
        if not _same(place := below(top, path), content):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
    cwd = below(top, parcel.cwd)
    cwd.mkdir(parents=True, exist_ok=True)
    stage = task.stage
    moved = replace(
        stage,
        config={key: _moved(value, top, parcel.files) for key, value in stage.config.items()},
        sources=tuple(_place(str(path), top, parcel.files) for path in stage.sources),
    )
    load = tuple(str(_place(name, top, parcel.files)) if name.endswith(".py") else name for name in task.load)
    code = {str(_place(path, top, parcel.files)): value for path, value in task.code.items()}
    return replace(task, stage=moved, load=load, code=code), cwd


def below(top: Path, path: str) -> Path:
    """Where a path lies in the layout below `top`."""
    return top / Path(path).relative_to(Path(path).anchor)


def _place(path: str, top: Path, files: Mapping[str, bytes]) -> Path:
    return below(top, path) if path in files else Path(path)


def _moved(value: Any, top: Path, files: Mapping[str, bytes]) -> Any:
    """A value of a configuration in which paths of files that were sent, as in `FILE.py:NAME`, are those here."""
    if isinstance(value, str):
        file, colon, name = value.rpartition(":") if ".py:" in value else (value, "", "")
        return f"{below(top, file)}{colon}{name}" if file in files else value
    if isinstance(value, Mapping):
        return {key: _moved(each, top, files) for key, each in value.items()}
    return [_moved(each, top, files) for each in value] if isinstance(value, (list, tuple)) else value


def _same(path: Path, content: bytes) -> bool:
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:
        return False


def _declared(plugin: Path) -> list[Path]:
    """The files that a plug-in declares to use, and that are there."""
    patterns = [os.path.join(os.path.realpath(plugin.parent), os.path.expanduser(each)) for each in declared(plugin)]
    found = [path for each in patterns for path in ([each] if os.path.exists(each) else glob.glob(each, recursive=True))]
    return [Path(os.path.normpath(path)) for path in found if os.path.isfile(path)]
