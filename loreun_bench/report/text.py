"""Names that somebody chose, made safe for a terminal, Markdown and LaTeX."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

import tabulate
from wcwidth import wcswidth

from loreun_bench.errors import plain as plain

STYLES = {"text": "simple", "md": "pipe", "latex": "latex_booktabs"}
_MARKDOWN = str.maketrans({c: f"\\{c}" for c in "\\|*`<>[]"})
_TAG = re.compile(r"(?<!\\)((?:\\\\)*)(<(?=[A-Za-z/!?])|\](?=[(\[:]))")  # begins a tag, or ends what is linked
_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "_%&#${}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
)  # fmt: skip
_COMMANDS = {"±": r"$\pm$", "†": r"$\dagger$", "‡": r"$\ddagger$", "§": r"\S{}", "°": r"$^\circ$", "×": r"$\times$"}
_COMMANDS |= {"↓": r"$\downarrow$", "↑": r"$\uparrow$"}
_BOLD = "\uf000", "\uf001"  # private characters, which no name holds once it is `plain`
_BRACKET = "\uf002"  # the first of a cell, which LaTeX would take for an option of the line break before it
LONGEST = 24  # letters of a name in a table that is to fit


def name(text: str, style: str, narrow: bool = False) -> str:
    """Somebody's name as a cell or title of a table; LaTeX's specials are escaped later, by tabulate. narrow: of a long one
    the middle is left out."""
    text = _short(plain(text)) if narrow else plain(text)
    if style == "latex" and text.startswith("["):
        return _BRACKET + text[1:]
    return text.translate(_MARKDOWN) if style == "md" else text


def sentence(text: str, style: str) -> str:
    """What holds somebody's names, as a title or a sentence beside a table, which in LaTeX is a comment."""
    return name(text, "md" if style == "md" else "text")


def line(text: str, style: str) -> str:
    """A line of ours with somebody's names in it, of which none is a link or a tag in Markdown."""
    text = plain(text)
    return _TAG.sub(r"\1\\\2", text) if style == "md" else text


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}…{text[LONGEST // 2 + 1 - LONGEST :]}"


def widest(text: str) -> int:
    """The columns of a terminal that the widest line takes."""
    return max(len(line) if line.isascii() else max(wcswidth(line), 0) for line in text.split("\n"))


def escaped(text: str) -> str:
    """Somebody's name in LaTeX, where tabulate does not see it."""
    return plain(text).translate(_LATEX)


def bold(text: str, style: str) -> str:
    """The best of a column; LaTeX's command is put in by `commands`, after tabulate has escaped the cell."""
    return {"text": f"*{text}", "md": f"**{text}**", "latex": text.join(_BOLD)}[style]


def commands(table: str) -> str:
    """LaTeX's commands for what tabulate would have escaped."""
    for mark, command in {_BOLD[0]: r"\textbf{", _BOLD[1]: "}", _BRACKET: "{[}", **_COMMANDS}.items():
        table = table.replace(mark, command)
    return table


def grid(
    body: Sequence[Sequence[str]], head: Sequence[str], style: str = "text", *, left: int = 1, narrow: bool = False
) -> str:
    """A table in one of STYLES, its first `left` columns of words, the others of numbers. narrow: a heading is as wide as
    its words, where tabulate usually gives it two spaces more. In LaTeX `commands` is still to be called."""
    usual = tabulate.MIN_PADDING
    tabulate.MIN_PADDING = 0 if narrow else usual
    align = ["left"] * left + ["right"] * (len(head) - left)
    try:
        return tabulate.tabulate(body, head, tablefmt=STYLES[style], disable_numparse=True, colalign=align)
    finally:
        tabulate.MIN_PADDING = usual


def count(number: int, what: str) -> str:
    """As in "1 seed" and "3 seeds"."""
    return f"{number} {what}{'s' * (number != 1)}"


def wrapped(text: str, width: int | None) -> str:
    """The lines of a text, none longer than `width`, broken between words; points of a list hang."""
    if width is None:
        return text
    return "\n".join(
        textwrap.fill(
            line, width, subsequent_indent="  " if line.startswith("- ") else "", break_long_words=False,
            break_on_hyphens=False,
        )
        for line in text.split("\n")
    )  # fmt: skip
