"""What code asks for and no audit event tells of: variables, whether a file is there, a module that is nowhere."""

from __future__ import annotations

import functools
import glob
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

from loreun_bench.harness.watching import asks

PROBES = {"stat": "stat", "lstat": "stat", "access": "access"}  # of os, which os.path and pathlib call → what they tell
SUPPORT = ("supports_fd", "supports_dir_fd", "supports_follow_symlinks", "supports_effective_ids")
KEEPERS = [  # classes that kept a function of os when they were made: of Python 3.10, and from 3.13
    vars(module)[name] for module, name in ((pathlib, "_NormalAccessor"), (glob, "_StringGlobber")) if name in vars(module)
]
VARIABLES = {  # methods of os.environ → what they tell
    "__getitem__": "variable", "__setitem__": "variable set", "__delitem__": "variable set", "__iter__": "variables",
}  # fmt: skip


def follow() -> None:
    """Have Python tell of them."""
    if not any(isinstance(finder, _Last) for finder in sys.meta_path):
        sys.meta_path.append(_Last())
    if hasattr(os.stat, "tells"):
        return
    for name, event in PROBES.items():
        function = getattr(os, name)
        probing = _telling(function, event, 0)
        probing.__module__ = "os"  # where pickle finds it
        setattr(os, name, probing)
        for each in SUPPORT:
            if function in getattr(os, each):
                getattr(os, each).add(probing)
        for keeper in KEEPERS:
            for attribute in [key for key, value in vars(keeper).items() if getattr(value, "__func__", value) is function]:
                setattr(keeper, attribute, staticmethod(probing))
    for name, event in VARIABLES.items():
        setattr(type(os.environ), name, _telling(getattr(type(os.environ), name), event, 1))


class _Last:
    """Asked for a module when no other finder has it."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """None."""
        asks("not found", name, path)


def _telling(function: Callable[..., Any], event: str, place: int) -> Any:
    """`function`, which first tells its argument of that place."""

    @functools.wraps(function)
    def telling(*args: Any, **options: Any) -> Any:
        if options.get("dir_fd") is None:
            asks(event, *args[place : place + 1])
        return function(*args, **options)

    telling.tells = True  # type: ignore[attr-defined]
    return telling
