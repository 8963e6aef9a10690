"""Errors that a user can mend: one line that says what to do, exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Wrong input. The message is one line and names the remedy; the command line exits with code 2."""

    def __str__(self) -> str:
        return " ".join(super().__str__().split())


class Diverged(Exception):
    """A loss or a parameter became NaN or infinite while training."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A suggestion for a mistyped `word`, as the tail of an error message."""
    known = list(known)
    near = difflib.get_close_matches(word.lower(), [k.lower() for k in known], n=1, cutoff=0.5)
    match = next((k for k in known if near and k.lower() == near[0]), None)
    return f"did you mean '{match}'?" if match else f"known: {', '.join(known)}"
