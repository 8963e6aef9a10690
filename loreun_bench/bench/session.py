"""A run from its options to its text: what the command line and the bare script have in common. Nothing prints here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from loreun_bench.bench import comparison, ops, rte
from loreun_bench.bench.cases import case_of, default_cases
from loreun_bench.bench.measure import Plan
from loreun_bench.bench.ops import Listener
from loreun_bench.errors import UserError, did_you_mean

STYLES = ("text", "md")


@dataclass
class Session:
    """What both verbs are told. device: auto, cpu or cuda. out: a JSON file, rewritten as results come in."""

    device: str = "auto"
    threads: int = 1
    quick: bool = False
    style: str = "text"
    out: Path | None = None
    failed: list[str] = field(default_factory=list)  # filled by the run: what of ours could not run

    def __post_init__(self) -> None:
        for word, known in ((self.device, ("auto", "cpu", "cuda")), (self.style, STYLES)):
            if word not in known:
                raise UserError(f"'{word}' is not known: {did_you_mean(word, known)}")
        there = torch.cuda.is_available()
        if self.device == "cuda" and not there:
            raise UserError("torch sees no GPU here: use --device cpu")
        if self.device == "auto":
            self.device = "cuda" if there else "cpu"

    def run_ops(
        self, listen: Listener, shapes: Sequence[str] = (), dtypes: Sequence[str] = (), only: Sequence[str] = (),
        repeats: int = 30, seconds: float = 10.0, compiled: bool = True,
    ) -> Iterator[str]:  # fmt: skip
        """The operator against its peers: a table as each case ends, then the comparison."""
        cases = [case_of(text, dtype) for text in shapes for dtype in dtypes or ("fp32",)]
        cases = cases or default_cases(self.device, self.quick, list(dtypes))
        plan = Plan(self.device, 3 if self.quick else repeats, seconds, compiled, frozenset(only))
        result: dict[str, Any] = {}
        shown = 0
        for result in ops.run(cases, plan, self.threads, listen):
            yield ("" if shown else _head(result)) + comparison.case_table(result["rows"][shown:], self.style)
            shown = len(result["rows"])
            self._write(result)
        yield comparison.summary(result["rows"], self.style)
        self.failed += ops.failures(result)

    def run_rte(self, listen: Listener, steps: int | None = None) -> Iterator[str]:
        """A training step with and without weighting."""
        tasks = rte.TASKS[:1] if self.quick else rte.TASKS
        result = rte.run(tasks, self.device, self.threads, 2 if self.quick else steps, listen)
        self._write(result)
        yield _head(result) + rte.render(result, self.style)

    def _write(self, result: dict[str, Any]) -> None:
        if self.out is not None:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


def _head(result: dict[str, Any]) -> str:
    about, count = result["environment"], result["threads"]
    threads = f"{count} thread{'s' if count > 1 else ''}"
    return f"{about['device_name']}, torch {about['torch']}, {threads}, operator {result['backend']}\n\n"
