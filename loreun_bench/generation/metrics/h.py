"""What is forgotten and what is kept, in one number."""

from __future__ import annotations

from collections.abc import Mapping

from loreun_bench.decorators import metric


@metric("h", columns={"h": "H"}, best="high", paper="MACE (CVPR 2024), without its synonyms", track="generation")
def h(cell: Mapping[str, float], original: Mapping[str, float]) -> float:
    """H: harmonic mean of what is forgotten, 100 - UA, and what is kept; 100 forgets all and keeps all, 0 fails in one."""
    forgotten, kept = 100 - cell["forget_ua"], cell["kept_acc"]
    return 2 * forgotten * kept / (forgotten + kept) if forgotten + kept > 0 else 0.0
