"""What can be forgotten, one file each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from loreun_bench.errors import UserError
from loreun_bench.names import clean


@dataclass(frozen=True)
class Concepts:
    """The concepts of a sweep, those that are forgotten and those that are kept.

    prompts: one a concept; shown: what each is called in figures; forgotten: the numbers of the forgotten ones; names: what
    each of these is called inside its prompt; bare: the text that stands for it alone. images: how many pictures of each
    prompt the original model makes to be trained on; 0 where concepts are the data set's classes, which have pictures.
    """

    prompts: tuple[str, ...]
    shown: tuple[str, ...]
    forgotten: tuple[int, ...]
    names: tuple[str, ...]
    bare: tuple[str, ...]
    images: int = 0


class Scenario(Protocol):
    """What a scenario's file defines: settings, a label, and `draw`."""

    kind: ClassVar[str]

    @property
    def label(self) -> str:
        """Its name in records and tables."""
        ...

    def draw(self, classes: Sequence[str], prompt: str) -> Concepts:
        """The concepts. classes: the names of the data set's; prompt: the sweep's, in which {} stands for a name."""
        ...


def check(found: Concepts) -> None:
    """UserError if what a scenario drew does not hang together."""
    if not isinstance(found, Concepts):
        raise UserError(f"draw returned {type(found).__name__}, not Concepts")
    sizes = (len(found.prompts), len(found.forgotten), len(found.names), len(found.bare))
    if not 0 < sizes[1] == sizes[2] == sizes[3] < sizes[0] == len(found.shown):
        raise UserError(f"draw gave {sizes[0]} prompts, {sizes[1]} forgotten, {sizes[2]} names, {sizes[3]} bare texts: each "
                        "forgotten concept has one of each, and one concept at least is kept")  # fmt: skip
    if not set(found.forgotten) <= set(range(sizes[0])) or len(set(found.forgotten)) < sizes[1]:
        raise UserError(f"draw forgot the concepts {list(found.forgotten)} of {sizes[0]}: each once, counted from 0")


def filled(texts: Sequence[str], names: Sequence[str], what: str) -> tuple[str, ...]:
    """A text for each name: its own, or the one text of all; {} in it stands for the name. UserError for another count."""
    if len(texts) not in (1, len(names)):
        raise UserError(f"{what}: {len(texts)} for {len(names)} names: give one for each, or one for all with {{}} in it")
    each = texts if len(texts) == len(names) else [texts[0]] * len(names)
    return tuple(clean(text.replace("{}", name)) for text, name in zip(each, names, strict=True))
