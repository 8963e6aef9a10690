"""Protocols: where reference implementations and good practice part, each difference a named field of a dataclass.

A track's protocols.py holds the dataclass, and NOT_REPEATED: a sentence for each difference that no protocol repeats.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def described(protocol: Any, not_repeated: Sequence[str]) -> str:
    """What `show protocols` prints: what `paper` repeats, and what it does not."""
    lines = ["What `corrected` does, and what the reference code does instead, which `paper` repeats:"]
    lines += [f"  {name}: {why}" for name, why in explained(protocol).items()]
    if not_repeated:
        lines += ["", "Where neither protocol does what a paper or its code does:"]
        lines += [f"  - {each}" for each in not_repeated]
    return "\n".join(lines)
