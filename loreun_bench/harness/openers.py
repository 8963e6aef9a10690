"""Libraries that open files below Python, where no audit event tells of it: the best known are made to say so."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from loreun_bench.finders import followed
from loreun_bench.harness import asked
from loreun_bench.harness.watching import reads, writes

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
    "torch": ("from_file",),
    "torch.storage": ("UntypedStorage.from_file",),
    "pandas": ("read_parquet", "read_feather", "read_orc", "read_hdf"),
}
WRITERS = {  # module → its functions that take a path second
    "torch": ("save",),
    "safetensors.torch": ("save_file",),
    "safetensors.numpy": ("save_file",),
}
PATHS = ("filename", "f", "path", "name", "file", "path_or_buf")  # what they call the path where it is given by name


def follow() -> None:
    """Have Python tell what is asked for, and the libraries of OPENERS and WRITERS which files they open: those that are
    imported now, the others when they are."""
    asked.follow()
    for name in (*OPENERS, *WRITERS):
        if name in sys.modules:
            _wrap(sys.modules[name])
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Has the openers of the modules in OPENERS and WRITERS wrapped once these are imported."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The spec of such a module; None of any other."""
        return followed(self, _wrap, name, path, target) if name in OPENERS or name in WRITERS else None


def _wrap(module: ModuleType) -> None:
    for table, tell, place in ((OPENERS, reads, 0), (WRITERS, writes, 1)):
        for name in table.get(module.__name__, ()):
            owner: Any = module
            *classes, last = name.split(".")
            for each in classes:
                owner = getattr(owner, each)
            function = getattr(owner, last, None)
            if function is not None and not getattr(function, "tells", False):
                telling = _telling(function, tell, place)
                setattr(owner, last, staticmethod(telling) if classes else telling)


def _telling(opener: Any, tell: Callable[[Any], None], place: int) -> Any:
    """`opener`, which first says what it opens: its argument of that place, or of a name in PATHS."""
    if isinstance(opener, type) and opener.__module__.startswith("h5py"):
        start = opener.__init__  # type: ignore[misc]

        @functools.wraps(start)
        def init(self: Any, name: Any, mode: str = "r", *args: Any, **options: Any) -> None:
            (reads if mode in ("r", "r+", "a") else writes)(name)
            start(self, name, mode, *args, **options)

        opener.__init__ = init  # type: ignore[misc]
        opener.tells = True  # type: ignore[attr-defined]
        return opener

    @functools.wraps(opener, updated=())
    def telling(*args: Any, **options: Any) -> Any:
        for path in (*args[place : place + 1], *(options[name] for name in PATHS if name in options)):
            tell(path)
        return opener(*args, **options)

    telling.tells = True  # type: ignore[attr-defined]
    return telling
