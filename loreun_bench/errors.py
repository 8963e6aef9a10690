"""Errors that a user can mend: one line that says what to do, exit code 2."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable

LONGEST = 600  # characters of a message
LONG, MANY = 200, 5000  # characters that are compared, and words: the time is their product


class UserError(Exception):
    """Wrong input. The message is one line that a terminal can show, and names the remedy; the command line exits with 2."""

    def __str__(self) -> str:
        return shortened(plain(" ".join(super().__str__().split())), LONGEST)


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
def plain(text: str) -> str:
    """The text in one line: what a terminal would act on, or could not print, stands as its escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def shortened(text: str, most: int) -> str:
    """The text in at most so many characters: of a longer one the middle is left out, as its end says what to do."""
    head = 2 * most // 3
    return text if len(text) <= most else f"{text[:head]} … {text[head + 3 - most :]}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A suggestion for a mistyped `word`, as the tail of an error message."""
    known, word = list(known)[:MANY], word[:LONG]
    alike = {k: difflib.SequenceMatcher(None, k[:LONG].lower(), word.lower()).ratio() for k in known}
    begun, words = word[:1].lower(), set(re.split(r"\W|_", word.lower()))
    close = {k: (alike[k], k[:1].lower() == begun, len(words & set(re.split(r"\W|_", k.lower())))) for k in known}
    match = max(known, key=close.__getitem__, default="")  # of equals the first
    return f"did you mean '{match}'?" if match and alike[match] >= 0.5 else f"known: {', '.join(known)}"
