"""Libraries that open files below Python, where no audit event tells of it: the best known are made to say so."""

from __future__ import annotations

import ast
import contextlib
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from loreun_bench.harness.watching import reads
from loreun_bench.plugins import is_users
from loreun_bench.registry import declared

OPENERS = {  # module → its functions and classes that take a path first
    "safetensors": ("safe_open",),
    "safetensors.torch": ("safe_open",),
    "safetensors.numpy": ("safe_open",),
    "h5py._hl.files": ("File",),
    "h5py": ("File",),
    "cv2": ("imread",),
    "torchvision.io": ("read_file", "read_image"),
    "torchvision.io.image": ("read_file", "read_image"),
    "torch.jit": ("load",),
}
UNSEEN = (  # of which no file is seen, beside what OPENERS lists
    "pyarrow", "polars", "netCDF4", "zarr", "tables", "lmdb", "rasterio", "soundfile", "torchaudio", "decord", "av",
    "SimpleITK", "tensorflow", "duckdb", "pyvips", "openslide", "faiss", "subprocess",
)  # fmt: skip


def follow() -> None:
    """Have the libraries of OPENERS tell which files they open: those that are imported now, the others when they are."""
    for name in OPENERS:
        if name in sys.modules:
            _wrap(sys.modules[name])
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def unseen(plugins: Sequence[Path]) -> list[str]:
    """For each of the user's files that imports a library whose files are not seen, and declares none: what to do."""
    found = []
    for path in plugins:
        libraries = sorted({name.partition(".")[0] for name in _imports(path)} & set(UNSEEN))
        if libraries and is_users(str(path)) and not declared(path):
            found.append(
                f"{path.name} uses {', '.join(libraries)}, whose files are not seen: declare those that it reads, files=[…] "
                f"in the decorator or FILES = […] in {path.name}, so that a change of theirs counts"
            )
    return found


def _imports(path: Path) -> list[str]:
    try:
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
    except (OSError, SyntaxError):
        return []
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return names + [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]


class _Finder:
    """Finds modules as the others do, and wraps the openers of those in OPENERS once they are imported."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """The spec of a module in OPENERS; None of any other."""
        if name not in OPENERS:
            return None
        for finder in sys.meta_path:
            find: Callable[..., Any] | None = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find is not None and finder is not self else None
            if spec is not None and spec.loader is not None:
                run = spec.loader.exec_module

                def exec_module(module: ModuleType, run: Callable[[ModuleType], None] = run) -> None:
                    run(module)
                    _wrap(module)

                with contextlib.suppress(AttributeError):
                    spec.loader.exec_module = exec_module
                return spec
        return None


def _wrap(module: ModuleType) -> None:
    for name in OPENERS[module.__name__]:
        function = getattr(module, name, None)
        if function is not None and not getattr(function, "tells", False):
            setattr(module, name, _telling(function))


PATHS = ("filename", "f", "path", "name", "file")  # what openers call the path where it is given by name


def _telling(opener: Any) -> Any:
    """`opener`, which first says what it opens; of a class, a subclass where that is possible."""
    if isinstance(opener, type) and opener.__module__.startswith("h5py"):
        start = opener.__init__  # type: ignore[misc]

        @functools.wraps(start)
        def init(self: Any, name: Any, mode: str = "r", *args: Any, **options: Any) -> None:
            if mode in ("r", "r+", "a"):
                reads(name)
            start(self, name, mode, *args, **options)

        opener.__init__ = init  # type: ignore[misc]
        opener.tells = True  # type: ignore[attr-defined]
        return opener

    @functools.wraps(opener, updated=())
    def telling(*args: Any, **options: Any) -> Any:
        for path in (*args[:1], *(options[name] for name in PATHS if name in options)):
            reads(path)
        return opener(*args, **options)

    telling.tells = True  # type: ignore[attr-defined]
    return telling
