"""One step of a sweep: a pure function of its configuration and its upstream artifacts, and how its key is made."""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loreun_bench.plugins import is_users, signature

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = 1
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode  # `dumps` makes one a call


@dataclass(frozen=True)
class Stage:
    """What to run and on what.

    run: "module:function", called as `run(config, inputs, device) -> Output`; inputs: name → the stage that makes it;
    sources: the files whose code the result depends on; work: samples to process, for the estimate of time left.
    """

    run: str
    config: Mapping[str, Any]
    inputs: Mapping[str, Stage] = field(default_factory=dict)
    sources: tuple[Path, ...] = ()
    label: str = ""
    work: int = 0
    timeout_s: float | None = None

    @cached_property
    def recipe(self) -> str:
        """What tells this stage from every other in a plan, before anything has run."""
        return digest(self._identity({name: stage.recipe for name, stage in self.inputs.items()}))

    def key(self, upstream: Mapping[str, str]) -> str:
        """The content key: config, the digests of the upstream artifacts, the code, the schema version."""
        return digest(self._identity(upstream))

    @cached_property
    def plugins(self) -> tuple[Path, ...]:
        """The user's files among the sources: such a stage runs in a process of its own, and its files are watched."""
        return _users_own(self.sources)

    def function(self) -> Callable[..., Output]:
        """The function to run."""
        module, _, name = self.run.partition(":")
        return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]

    def _identity(self, upstream: Mapping[str, str]) -> dict[str, Any]:
        code = [*_own_code(self.sources), *sorted(map(code_digest, self.plugins))]
        about = {"schema": SCHEMA, "run": self.run, "config": self.config, "inputs": dict(upstream), "code": code}
        return about | ({"watched": 2} if self.plugins else {})


@dataclass
class Output:
    """What a stage returns: tensors (safetensors), values (JSON), and what it cost (outside the content digest)."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(_canonical(value).encode()).hexdigest()


def code_digest(path: Path) -> str:
    """A hash of the code in `path` (a file, or a folder's .py files); comments and layout do not count.

    Taken once a process of our own code, which runs as it was when it was imported; of the user's again after an edit.
    """
    if not is_users(str(path)):
        return _cached_digest(path, None)
    return _digest_of(path) if path.is_dir() else _cached_digest(path, signature(path))


@cache
def _cached_digest(path: Path, _: tuple[int, ...] | None) -> str:
    return _digest_of(path)


@cache
def _users_own(sources: tuple[Path, ...]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(path for path in sources if is_users(str(path))))


@cache
def _own_code(sources: tuple[Path, ...]) -> list[str]:
    """The hashes of those files that are ours."""
    return [code_digest(path) for path in sorted({path for path in sources if not is_users(str(path))})]


def _digest_of(path: Path) -> str:
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    trees = [ast.dump(ast.parse(file.read_bytes())) for file in files]
    return hashlib.sha256("\n".join(trees).encode()).hexdigest()
