"""Modules imported as ever, and then looked at: by several who each want to see some, none of whom knows the others."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import ExtensionFileLoader, ModuleSpec, SourceFileLoader
from types import ModuleType
from typing import Any


def followed(finder: Any, then: Callable[[ModuleType], None], name: str, path: Any, target: Any) -> ModuleSpec | None:
    """The spec that the finders behind `finder` have for a module: those before it have been asked, and may ask it. Once it
    is imported, `then` is called with it."""
    at = next((place for place, each in enumerate(sys.meta_path) if each is finder), -1)
    for each in sys.meta_path[at + 1 :]:
        find: Callable[..., ModuleSpec | None] | None = getattr(each, "find_spec", None)
        spec = find(name, path, target) if find is not None else None
        if spec is not None:
            if isinstance(spec.loader, (SourceFileLoader, ExtensionFileLoader)):
                _follow(spec.loader, then)
            return spec
    return None


def _follow(loader: Any, then: Callable[[ModuleType], None]) -> None:
    run = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        run(module)
        then(module)

    loader.exec_module = exec_module
