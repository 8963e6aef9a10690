"""Errors that a user can mend: one line that says what to do, exit code 2."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable


class UserError(Exception):
    """Wrong input. The message is one line and names the remedy; the command line exits with code 2."""

    def __str__(self) -> str:
        return " ".join(super().__str__().split())


class Diverged(Exception):
    """A loss or a parameter became NaN or infinite while training."""


def told(error: OSError) -> str:
    """What the machine refused, and what to do, in one line."""
    what = f"{error.strerror or error}: {error.filename}" if error.filename else str(error.strerror or error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "free some and run the same command again"
    elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        remedy = "make it writable, or choose another place (--out, LOREUN_STORE, LOREUN_DATA, TMPDIR)"
    else:
        remedy = "run the same command again"
    return " ".join(f"{what}; {remedy}; what was finished is kept".split())


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A suggestion for a mistyped `word`, as the tail of an error message."""
    known = list(known)
    alike = {k: difflib.SequenceMatcher(None, k.lower(), word.lower()).ratio() for k in known}
    begun, words = word[:1].lower(), set(re.split(r"\W|_", word.lower()))
    close = {k: (alike[k], k[:1].lower() == begun, len(words & set(re.split(r"\W|_", k.lower())))) for k in known}
    match = max(known, key=close.__getitem__, default="")  # of equals the first
    return f"did you mean '{match}'?" if match and alike[match] >= 0.5 else f"known: {', '.join(known)}"
