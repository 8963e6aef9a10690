"""Class-wise forgetting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loreun_bench.decorators import scenario
from loreun_bench.errors import UserError
from loreun_bench.generation.scenarios import Concepts, filled
from loreun_bench.names import Names, clean, places


@scenario("class", paper="Fan et al., ICLR 2024; LoReUn section 5", track="generation")
@dataclass(frozen=True)
class ClassWise:
    """A class of the data set, or several at once, which are meant by name; all others are kept.

    concept_text: what ESD erases, {} stands for the class's name; one text, or one a class. By default the whole prompt, as
    a small pipeline may know nothing else; ESD's authors take the bare name: "{}".
    """

    forget_class: Names
    concept_text: Names | None = None

    @property
    def label(self) -> str:
        """class-church, class-cat+dog."""
        return f"class-{'+'.join(self.forget_class)}"

    def draw(self, classes: Sequence[str], prompt: str) -> Concepts:
        """The data set's classes."""
        forgotten = tuple(places(self.forget_class, classes, "forget_class"))
        if len(set(forgotten)) < len(forgotten):
            raise UserError("forget_class: a class is named twice")
        if len(forgotten) == len(classes):
            raise UserError("forget_class: that is every class of the data set, and nothing would be kept")
        every = tuple(clean(name) for name in classes)
        names = tuple(every[number] for number in forgotten)
        bare = filled(self.concept_text or [prompt], names, "concept_text")
        return Concepts(filled([prompt], every, "prompt"), every, forgotten, names, bare)
