"""The functions and classes of libraries, remembered and put back where the user's code has replaced them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

LIBRARIES = frozenset((
    "loreun_bench", "torch", "numpy", "builtins", "copy", "functools", "hashlib", "json", "math", "os", "pickle", "random",
    "time",
))  # fmt: skip
CODE = (FunctionType, BuiltinFunctionType, type, property, classmethod, staticmethod)
Remembered = list[tuple[Any, dict[str, Any]]]  # a module or class, and the code in it by name


def remember() -> Callable[[], list[str]]:
    """Remembers the code of LIBRARIES as far as it is imported. What is returned puts it back, and tells what it was.

    Tens of milliseconds: for the few times that a plan runs a plug-in's code. Data that a library keeps stays as it is.
    """
    modules = [m for name, m in list(sys.modules.items()) if isinstance(m, ModuleType) and _ours(name)]
    found: Remembered = [(module, _code(module)) for module in modules]
    classes = {value for _, code in found for value in code.values() if isinstance(value, type) and _ours(value.__module__)}
    found += [(cls, _code(cls)) for cls in classes]

    def restore() -> list[str]:
        pairs = [(owner, name, value) for owner, code in found for name, value in code.items()]
        changed = [(owner, name, value) for owner, name, value in pairs if vars(owner).get(name) is not value]
        for owner, name, value in changed:
            with contextlib.suppress(AttributeError, TypeError):  # of a class that is closed
                setattr(owner, name, value)
        return sorted({f"{owner.__name__}.{name}" for owner, name, _ in changed})

    return restore


def _ours(name: object) -> bool:
    return isinstance(name, str) and name.partition(".")[0] in LIBRARIES


def _code(owner: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(owner).items() if issubclass(type(value), CODE)}
