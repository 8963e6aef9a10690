"""Protocols: where reference implementations and good practice part, each difference a named field of a dataclass."""

from __future__ import annotations

from dataclasses import field, fields
from typing import Any, TypeVar

T = TypeVar("T")


def difference(why: str) -> Any:
    """A field that is True in `corrected` and False in `paper`; `why` says what each does."""
    return field(default=True, metadata={"why": why})


def both(protocol: type[T]) -> dict[str, T]:
    """The two protocols by name: `corrected`, good practice throughout, and `paper`, the reference code's behaviour."""
    return {"corrected": protocol(), "paper": protocol(**dict.fromkeys(explained(protocol), False))}


def explained(protocol: Any) -> dict[str, str]:
    """What differs between the protocols: name → explanation."""
    return {f.name: f.metadata["why"] for f in fields(protocol)}
