"""The uniform weighting: the plain mean that every other weighting is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from loreun_bench.decorators import weighting
from loreun_bench.weightings import Phase


@weighting("none")
@dataclass(frozen=True)
class Uniform:
    """Every sample weighs the same."""

    def phases(self) -> Mapping[str, Phase]:
        """No phase is weighted."""
        return {}
