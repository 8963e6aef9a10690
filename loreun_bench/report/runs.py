"""Run folders by names of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from loreun_bench.errors import UserError


def labelled(runs: Sequence[str | Path]) -> list[tuple[str, Path]]:
    """Each run with the shortest tail of its path that no other run has. UserError if one is given twice."""
    paths = [Path(run).resolve() for run in runs]
    for path in paths:
        if paths.count(path) > 1:
            raise UserError(f"run folder {path} is given twice")
    labels: list[str] = []
    for length in range(1, 1 + max((len(path.parts) for path in paths), default=0)):
        labels = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(labels)) == len(labels):
            break
    return list(zip(labels, map(Path, runs), strict=True))
