"""Modules beside a user's file are found by the code there, wherever a sweep is started: as Python does for a script.

Here there may be several such files at once, in folders that each have a `utils.py`. So a module beside is found for those
only who ask from that folder; and as Python knows one module of a name, another project's gives way when code of this one
begins (`of`), or, where the code of both runs in one row, is refused (`check`).
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Collection, Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import FrameType
from typing import Any

from loreun_bench.errors import UserError
from loreun_bench.whose import is_users, users_place

MACHINERY = ("<frozen importlib", os.path.dirname(importlib.__file__) + os.sep, __file__)  # whose frames ask for nobody

_places: dict[str, list[str]] = {}  # a project's folder → itself, and what its code has put on sys.path
_aside: dict[str, dict[str, Any]] = {}  # a project's folder → its modules whose names another's have now
_lent: dict[str, Any] = {}  # the same of the script that runs all this


class _Finder:
    """Finds modules for the user's code as if the folder of its file were first on sys.path."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The spec of a module, if the user's code asks; of one in a package, whose path is known, None."""
        asking = list(_asking(sys._getframe(1))) if path is None else []
        if not asking:
            return None
        project, first = asking[0]
        own = _places[project]
        return PathFinder.find_spec(name, [*own, *sys.path] if first else [*sys.path, *own])


def _begin() -> None:
    """Have the finder asked before Python's own of files."""
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(sys.meta_path.index(PathFinder) if PathFinder in sys.meta_path else 0, _Finder)


_begin()


def _asking(frame: FrameType | None) -> Iterator[tuple[str, bool]]:
    """The projects whose code is on the stack; and whether it asks itself, or a library on its behalf."""
    first = True
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(MACHINERY):
            if is_users(file) and (project := _project(file)):
                yield project, first
            first = False
        frame = frame.f_back


def _project(file: str) -> str | None:
    """The project with the nearest place above a file."""
    found = [(len(place), project) for project, own in _places.items() for place in own if file.startswith(place + os.sep)]
    return max(found)[1] if found else None


@contextlib.contextmanager
def of(folder: Path, for_good: bool = False) -> Iterator[None]:
    """Inside runs code that lies in `folder`. sys.path is put back; what was added is searched for this project's code.

    for_good: this process is of one stage, and sys.path stays. UserError if another project's modules would have to.
    """
    project = str(folder)
    own = _places.setdefault(project, [project])
    _begin()
    path, strangers = list(sys.path), _strangers(project)
    if strangers and for_good:
        raise _refusal(*strangers[0], project)
    for name, place in strangers:
        (_aside.setdefault(place, {}) if place in _places else _lent).update(_take_away(name))
    sys.modules.update(_aside.pop(project, {}))
    try:
        yield
    finally:
        if not for_good:
            own += [place for place in sys.path if place not in (*path, *own)]
            sys.path[:] = path


def give_back() -> None:
    """The script that runs all this has its modules again."""
    for name in {name for name in _lent if "." not in name}:
        if (place := _place(name, sys.modules.get(name))) is not None:
            _aside.setdefault(place, {}).update(_take_away(name))
    sys.modules.update(_lent)
    _lent.clear()


def check(folders: Collection[Path]) -> None:
    """UserError if one of these projects has imported a module of a name that another of them has, too: code of both runs
    in one process, where the name can mean one."""
    projects = [str(folder) for folder in dict.fromkeys(folders)]
    for project in projects if len(projects) > 1 else ():
        for name, module in loaded():
            place = _place(name, module)
            if "." not in name and place != project and place in projects and _has(project, name):
                raise _refusal(name, place, project)


def loaded() -> list[tuple[str, Any]]:
    """The modules by name: those that there are, and those that have given way."""
    return [*sys.modules.items(), *(each for modules in _aside.values() for each in modules.items())]


def forget() -> None:
    """Forget the modules that have given way."""
    _aside.clear()


def _strangers(project: str) -> list[tuple[str, str]]:
    """The user's modules from elsewhere, and their folders, of which this project has one of the same name."""
    found = [(name, _place(name, module)) for name, module in list(sys.modules.items()) if "." not in name]
    return [(name, place) for name, place in found if place and place not in _places[project] and _has(project, name)]


def _take_away(top: str) -> dict[str, Any]:
    """A module and those in it, which are no longer there for others to import."""
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == top}


def _place(name: str, module: Any) -> str | None:
    """The folder in which a module of the user's, not of a package, was found."""
    place = None if name == "__main__" else users_place(module)
    if place is None:
        return None
    return os.path.realpath(os.path.dirname(os.path.dirname(place) if hasattr(module, "__path__") else place))


def _has(project: str, name: str) -> bool:
    """Whether a module or package lies in the folder; a folder without code is none."""
    spec = PathFinder.find_spec(name, [project])
    if spec is None or spec.loader is not None:
        return spec is not None
    return any(next(Path(place).rglob("*.py"), None) for place in spec.submodule_search_locations or ())


def _refusal(name: str, place: str, project: str) -> UserError:
    return UserError(
        f"'{name}' is a module beside the user's files in {place} and in {project}, and a row runs code of both: rename one"
    )
