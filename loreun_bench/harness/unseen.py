"""What the user's code reads by means that show no file: it is asked to declare that."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path

from loreun_bench.plugins import is_users, signature
from loreun_bench.registry import declared

LIBRARIES = (  # that open files below Python, beside those that `openers` has
    "pyarrow", "polars", "netCDF4", "zarr", "tables", "lmdb", "rasterio", "soundfile", "torchaudio", "decord", "av",
    "SimpleITK", "tensorflow", "duckdb", "pyvips", "openslide", "faiss", "datasets", "xarray", "osgeo", "onnxruntime",
    "xgboost", "lightgbm", "sentencepiece", "cffi", "dbm", "shelve", "torchcodec", "torch.package",
    "torchvision.io.read_video", "cv2.VideoCapture", "cv2.FileStorage", "cv2.imreadmulti", "cv2.CascadeClassifier",
)  # fmt: skip
PROGRAMS = (  # what starts a program, or another Python, that nobody watches; a forked process is watched
    "multiprocessing.spawn", "multiprocessing.forkserver", "torch.multiprocessing.spawn", "joblib.Parallel", "ray", "dask",
    "subprocess", "pty", "pexpect", "sh", "plumbum", "invoke", "git", "torch.utils.cpp_extension",
    "asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell",
    *(f"os.{name}" for name in ("system", "popen", "posix_spawn", "posix_spawnp", "startfile")),
    *(f"os.{verb}{how}" for verb in ("exec", "spawn") for how in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
)  # fmt: skip
UNSEEN = frozenset((*LIBRARIES, *PROGRAMS))
CALLS = {  # functions whose argument names something that is used → what stands before that name
    "import_module": "", "__import__": "", "get_context": "multiprocessing.", "set_start_method": "multiprocessing.",
}  # fmt: skip


def unseen(plugins: Sequence[Path]) -> list[str]:
    """For each of the user's files that uses what is UNSEEN, and whose plug-in declares no file: what to do."""
    found: dict[Path, str] = {}
    for plugin in plugins:
        for path in files_of(plugin) if is_users(str(plugin)) and not declared(plugin) else ():
            if (used := _uses(path, signature(path)) & UNSEEN) and path not in found:
                found[path] = (
                    f"{path.name} uses {', '.join(sorted(used))}, whose files are not seen: declare those that it reads, "
                    f"files=[…] in the decorator or FILES = […] in {plugin.name}, so that a change of theirs counts"
                )
    return list(found.values())


def files_of(plugin: Path) -> Iterator[Path]:
    """A plug-in's file, and those of the user's that it imports, or would."""
    waiting, seen = [plugin], {plugin}
    while waiting:
        path = waiting.pop()
        yield path
        for name in _imports(path, signature(path)):
            new = [file for file in _found(name, path, plugin) if file not in seen]
            seen.update(new)
            waiting += new


def _found(name: str, path: Path, plugin: Path) -> Iterator[Path]:
    """The user's files that importing `name` in the file `path` runs. Nothing is imported to find them."""
    own = name.lstrip(".")
    level = len(name) - len(own)
    folders = [str(path.parents[level - 1])] if level else [str(path.parent), str(plugin.parent), *sys.path]
    for part in own.split(".") if own else ["__init__"]:
        spec = None if part in sys.stdlib_module_names and not level else PathFinder.find_spec(part, folders)
        if spec is None:
            return
        if spec.origin and spec.origin.endswith(".py"):
            if not is_users(spec.origin):
                return
            yield Path(os.path.realpath(spec.origin))
        folders = list(spec.submodule_search_locations or ())


def _imports(path: Path, at: tuple[int, ...] | None) -> frozenset[str]:
    return _read(path, at)[0]


def _uses(path: Path, at: tuple[int, ...] | None) -> frozenset[str]:
    """What a file imports, and what it takes of that by a dot; also what such a name begins with."""
    names = [name.split(".") for each in _read(path, at) for name in each]
    return frozenset(".".join(each[:n]) for each in names for n in range(1, len(each) + 1))


@cache
def _read(path: Path, _: tuple[int, ...] | None) -> tuple[frozenset[str], frozenset[str]]:
    """What a file imports, with a dot in front for each level of a relative import, and what it takes of that by a dot."""
    try:
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
    except (OSError, SyntaxError, ValueError):
        return frozenset(), frozenset()
    imported: set[str] = set()
    called: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
            tops = [alias.name.partition(".")[0] for alias in node.names]
            called |= {a.asname or top: a.name if a.asname else top for a, top in zip(node.names, tops, strict=True)}
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (f"{node.module}." if node.module else "")
            imported |= {start.rstrip(".") or start, *(start + alias.name for alias in node.names)}
        elif isinstance(node, ast.Call):
            before = CALLS.get(getattr(node.func, "attr", getattr(node.func, "id", "")))
            constants = [each.value for each in node.args[:1] if isinstance(each, ast.Constant) and before is not None]
            imported |= {f"{before}{value}" for value in constants if isinstance(value, str)}
    dots = [node for node in nodes if isinstance(node, ast.Attribute)]
    taken = [(node.value.id, node.attr) for node in dots if isinstance(node.value, ast.Name)]
    return frozenset(imported), frozenset(f"{called[name]}.{attribute}" for name, attribute in taken if name in called)
