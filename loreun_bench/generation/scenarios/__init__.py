"""What can be forgotten, one file each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from loreun_bench.errors import UserError
from loreun_bench.generation.data.names import clean


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


def filled(texts: Sequence[str], names: Sequence[str], what: str) -> tuple[str, ...]:
    """A text for each name: its own, or the one text of all; {} in it stands for the name. UserError for another count."""
    if len(texts) not in (1, len(names)):
        raise UserError(f"{what}: {len(texts)} for {len(names)} names: give one for each, or one for all with {{}} in it")
    each = texts if len(texts) == len(names) else [texts[0]] * len(names)
    return tuple(clean(text.replace("{}", name)) for text, name in zip(each, names, strict=True))
