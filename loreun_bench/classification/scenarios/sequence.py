"""Requests that come one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from loreun_bench.decorators import scenario
from loreun_bench.errors import UserError


@scenario("sequence", paper="Foster et al., AAAI 2024; SAFER, 2026")
@dataclass(frozen=True)
class Sequence:
    """Several requests: each starts from the model that the last one left, and has a Retrain of its own.

    requests: scenarios, such as [{kind: class, forget_class: cat}, {kind: random, fraction: 0.05}]; each chooses among what
    the ones before it left. There is a table for each request; "earlier" in it is what came back of the ones before.
    """

    requests: tuple[dict[str, Any], ...]

    def __post_init__(self) -> None:
        if len(self.requests) < 2:
            raise UserError("scenario sequence: requests must hold two scenarios or more")

    @property
    def label(self) -> str:
        """sequence-3, of three requests; each has its own label in tables."""
        return f"sequence-{len(self.requests)}"

    def draw(self, *_: Any) -> Any:
        """Nothing: its requests draw, one by one."""
        raise UserError("scenario sequence: it is a sequence of requests, not one; give one of them")
