"""Public names that are imported when they are first used, so that importing a package is instant."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any


def lazily(package: str, where: Mapping[str, str], name: str) -> Any:
    """The public `name` of `package`, from the module inside it that `where` gives (with a dot in front, one beside it): for
    a package's `__getattr__`."""
    if name not in where:
        raise AttributeError(f"module '{package}' has no attribute '{name}'")
    return getattr(importlib.import_module(f".{where[name]}", package), name)
