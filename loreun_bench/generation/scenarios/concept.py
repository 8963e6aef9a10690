"""Forgetting a concept of which there are no pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from loreun_bench.decorators import scenario
from loreun_bench.errors import UserError
from loreun_bench.generation.data.names import plain
from loreun_bench.generation.scenarios import Concepts, filled
from loreun_bench.names import Names, clean


@scenario("concept", paper="Fan et al., ICLR 2024, of nudity; LoReUn section 5", track="generation")
@dataclass(frozen=True)
class Concept:
    """A concept, or several at once, such as nudity or Van Gogh: the original model makes the pictures to be trained on.

    name: what it is called in tables, and by ESD and FMN. forget_prompt: what its pictures are made of; of several concepts
    one each, or one with {} in the name's place. retain_prompt: of the pictures that stand for what is kept, one or several.
    images: how many of each prompt. concept_text: what ESD erases, by default the bare name, as its authors do.
    """

    name: Names
    forget_prompt: Names
    retain_prompt: Names
    images: Annotated[int, Ge(2)] = 800
    concept_text: Names = ("{}",)

    @property
    def label(self) -> str:
        """nudity, Van Gogh+Picasso."""
        return "+".join(clean(name) for name in self.name)

    def draw(self, classes: Sequence[str], prompt: str) -> Concepts:
        """The forgotten concepts, then the kept ones."""
        names = tuple(clean(name) for name in self.name)
        forget, retain = filled(self.forget_prompt, names, "forget_prompt"), tuple(map(clean, self.retain_prompt))
        if filling := next((each for each in retain if "{}" in each), ""):
            raise UserError(f"retain_prompt: '{filling}' has a {{}}, which stands for no name of what is kept: write it out")
        every = [plain(each) for each in (*forget, *retain)]
        if len(set(every)) < len(every):
            raise UserError("two of forget_prompt and retain_prompt are the same")
        shown = (*names, *["other"] * len(retain))
        bare = filled(self.concept_text, names, "concept_text")
        return Concepts((*forget, *retain), shown, tuple(range(len(names))), names, bare, self.images)
