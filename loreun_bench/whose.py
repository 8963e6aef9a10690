"""Whose a file is: the user's, or Python's, an installed package's or this package's."""

from __future__ import annotations

import contextlib
import os
import sysconfig
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent
INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


@cache
def is_users(file: str) -> bool:
    """Whether a file is neither this package's, nor Python's, nor an installed package's."""
    if file.startswith("<"):
        return False
    path = os.path.abspath(file)
    return not (path.startswith(_not_theirs()) or any(part in path for part in INSTALLED))


@cache
def _not_theirs() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    folders = {str(PACKAGE), *(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))}
    return tuple(sorted(folder + os.sep for each in folders for folder in (each, os.path.realpath(each))))


def users_place(module: Any) -> str | None:
    """The file of a module of the user's, or of a namespace package its folder, ending in /; None of any other module."""
    place = getattr(module, "__file__", None)
    if place is None:
        with contextlib.suppress(KeyError):  # of a package whose own is gone
            place = next((f"{folder}{os.sep}" for folder in getattr(module, "__path__", ())), None)
    return place if isinstance(place, str) and is_users(place) else None
