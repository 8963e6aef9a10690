"""All that the command line says: whatever a name of others' holds, it moves no cursor, hides nothing, can be printed."""

from __future__ import annotations

import sys

from loreun_bench.errors import plain


def shown(text: object) -> str:
    """The text, whose lines hold escapes in place of what a terminal would act on."""
    return "\n".join(map(plain, str(text).split("\n")))


def say(text: object = "", end: str = "\n", err: bool = False) -> None:
    """Print a text at once; err: on stderr."""
    print(shown(text), end=end, file=sys.stderr if err else sys.stdout, flush=True)


def say_again(text: str, end: str = "") -> None:
    """Print a line on a terminal's stderr in place of the one before."""
    print(f"\r\x1b[K{plain(text)}", end=end, file=sys.stderr, flush=True)
