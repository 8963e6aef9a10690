"""The functions, classes and constants of libraries, remembered and put back where the user's code has replaced them."""

from __future__ import annotations

import contextlib
import operator
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, NamedTuple

from loreun_bench.finders import followed

LIBRARIES = frozenset((
    "loreun_bench", "torch", "torchvision", "numpy", "PIL", "builtins", "copy", "csv", "functools", "glob", "hashlib", "io",
    "json", "math", "os", "pathlib", "pickle", "random", "time",
))  # fmt: skip
CODE = (FunctionType, BuiltinFunctionType, type, property, classmethod, staticmethod)
CONSTANT = (bool, int, float, str, type(None))  # if its name is in capitals


class Owner(NamedTuple):
    """A module or class of LIBRARIES: how many names it has, its code by name, and what of that are classes of LIBRARIES."""

    itself: Any
    names: int
    code: dict[str, Any]
    classes: list[type]

    def holds(self) -> bool:
        """Whether its code is as it was. This is asked tens of thousands of times, so that no Python runs for a name."""
        return all(map(operator.is_, self.code.values(), map(vars(self.itself).get, self.code)))


Remembered = dict[int, Owner]  # by id

_open: list[Remembered] = []
_known: Remembered = {}


def remember() -> Callable[[], list[str]]:
    """Remembers the code of LIBRARIES as far as it is imported, and of what is imported later as it then is. What is
    returned puts it back, and tells what it was.

    Some milliseconds: for the few times that a plan runs a plug-in's code. Other data of a library stays as it is.
    """
    found: Remembered = {}
    there = {name: module for name, module in list(sys.modules.items()) if isinstance(module, ModuleType) and _ours(name)}
    for module in there.values():
        _note(found, module)
    _open.append(found)
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)

    def restore() -> list[str]:
        _open[:] = [each for each in _open if each is not found]
        if not _open:
            sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not _Finder]
        changed = [
            (owner.itself, name, value)
            for owner in found.values()
            if not owner.holds()
            for name, value in owner.code.items()
            if vars(owner.itself).get(name) is not value
        ]
        for owner, name, value in changed:
            with contextlib.suppress(AttributeError, TypeError):  # of a class that is closed
                setattr(owner, name, value)
        sys.modules.update(there)
        return sorted({f"{owner.__name__}.{name}" for owner, name, _ in changed})

    return restore


class _Finder:
    """Has modules of LIBRARIES noted once they are imported."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The spec of such a module; None of any other."""
        return followed(_Finder, _note_in_all, name, path, target) if _ours(name) else None


def _note_in_all(module: ModuleType) -> None:
    for found in _open:
        _note(found, module)


def _note(found: Remembered, module: ModuleType) -> None:
    found[id(module)] = owner = _owner(module)
    for cls in owner.classes:
        if id(cls) not in found:
            found[id(cls)] = _owner(cls)


def _ours(name: object) -> bool:
    return isinstance(name, str) and name.partition(".")[0] in LIBRARIES


def _owner(itself: Any) -> Owner:
    """A module or class as it is now. It is looked through anew only where there are more names, or fewer, than there were,
    or one of them means something else: hardly ever."""
    values, known = vars(itself), _known.get(id(itself))
    if known is None or known.names != len(values) or not known.holds():
        code = {name: value for name, value in values.items() if _kept(name, value)}
        classes = [value for value in code.values() if isinstance(value, type) and _ours(value.__module__)]
        known = _known[id(itself)] = Owner(itself, len(values), code, classes)
    return known


def _kept(name: str, value: Any) -> bool:
    return issubclass(type(value), CODE) or (name.isupper() and type(value) in CONSTANT)
