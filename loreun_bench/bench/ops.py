"""The operator against its peers: every case in turn, one result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from loreun_bench.bench.cases import Case
from loreun_bench.bench.comparison import compare
from loreun_bench.bench.measure import Plan, Row, measure
from loreun_bench.bench.providers import providers
from loreun_bench.errors import UserError, did_you_mean
from loreun_bench.harness import environment
from loreun_bench.ops.functional import backend

Listener = Callable[[str, float], None]  # told what is under way, and the share of everything that is done


def run(cases: Sequence[Case], plan: Plan, threads: int, listen: Listener) -> Iterator[dict[str, Any]]:
    """Measure the cases; after each one the result so far: {"environment", "backend", "threads", "rows", "comparison"}.

    Raises UserError on an unknown provider.
    """
    known = sorted({p.key for case in cases for p in providers(case, plan.device, plan.compiled) if not p.missing})
    for name in sorted(plan.only - set(known)):
        raise UserError(f"no provider '{name}' here: {did_you_mean(name, known)}")
    torch.set_num_threads(threads)
    about = {"environment": environment.describe(plan.device), "backend": backend(plan.device), "threads": threads}
    rows: list[Row] = []
    for number, case in enumerate(cases):

        def tick(share: float, case: Case = case, number: int = number) -> None:
            listen(case.title, (number + share) / len(cases))

        tick(0.0)
        rows += measure(case, plan, tick)
        yield about | {"rows": rows, "comparison": compare(rows)}


def failures(result: dict[str, Any]) -> list[str]:
    """What of ours could not run."""
    return [f"{r['label']}, {r['problem']} {r['shape']} {r['dtype']}: {r['note']}" for r in result["rows"]
            if r["us_min"] is None and r["role"] == "ours"]  # fmt: skip
