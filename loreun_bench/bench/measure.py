"""One case: every provider checked against the oracle, traced, and timed in turn."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from loreun_bench.bench import oracle, trace
from loreun_bench.bench.cases import Case, Inputs, make_inputs
from loreun_bench.bench.providers import Loss, Provider, providers
from loreun_bench.bench.timing import Call, Side, Tick, graphed, interleave

Row = dict[str, Any]
FORWARD, BOTH = "forward", "forward+backward"
GRAPH_BYTES = 64 << 20  # with larger inputs, launching costs nothing beside the work
NOTHING = {
    "us_min": None, "us_median": None, "samples": 0, "x_copy": None, "launches": None, "peak_bytes": None,
    "loss_error": None, "gradient_error": None,
    "graph_us_min": None, "graph_us_median": None, "note": "",
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """How long, on what, and who takes part. only: keys of providers, none for all."""

    device: str
    rounds: int = 30
    seconds: float = 10.0
    compiled: bool = True
    only: frozenset[str] = frozenset()


@dataclass
class _Entry:
    """A row under way."""

    row: Row
    side: Side
    graph: Side | None = None


def measure(case: Case, plan: Plan, tick: Tick) -> list[Row]:
    """The rows of one case. A provider that cannot run is a row with a note; if memory does not suffice, the case is one."""
    torch._dynamo.reset()  # each case compiles anew, whatever the limit on recompilations
    try:
        inputs = make_inputs(case, plan.device)
        answer = oracle.solve(case, inputs)
    except RuntimeError as error:  # out of memory
        return [_row(case, "-", "-", "peer", BOTH) | {"note": words(error)}]
    there = [p for p in providers(case, plan.device, plan.compiled) if not p.missing]
    taking_part = [p for p in there if not plan.only or p.key in plan.only]
    entries: list[_Entry] = []
    rows: list[Row] = []
    for number, provider in enumerate(taking_part):
        found = _prepare(case, plan, provider, inputs, answer)
        entries += [entry for entry in found if isinstance(entry, _Entry)]
        rows += [entry.row if isinstance(entry, _Entry) else entry for entry in found]
        tick(0.3 * (number + 1) / len(taking_part))
    del answer
    sides = [side for entry in entries for side in (entry.side, entry.graph) if side is not None]
    interleave(sides, plan.device, plan.rounds, plan.seconds, lambda share: tick(0.3 + 0.7 * share))
    _fill(entries)
    return sorted(rows, key=lambda row: row["pass"] == BOTH)


def words(error: Exception) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:160]


def _row(case: Case, key: str, label: str, role: str, which: str) -> Row:
    problem = {"problem": case.kind, "shape": case.shape, "dtype": case.dtype}
    return problem | {"provider": key, "label": label, "role": role, "pass": which} | NOTHING


def _prepare(
    case: Case, plan: Plan, provider: Provider, inputs: Inputs, answer: tuple[float, tuple[Tensor, ...]]
) -> list[_Entry | Row]:
    """The provider's rows, ready to be timed; with a note instead if it fails."""
    found: list[_Entry | Row] = []
    try:
        loss = provider.build(case)
    except Exception as error:
        return [_row(case, provider.key, provider.label, provider.role, BOTH) | {"note": words(error)}]
    for which in passes(provider):
        row = _row(case, provider.key, provider.label, provider.role, which)
        try:
            if provider.role != "floor":
                row |= check(loss, inputs, which, answer)
            found.append(_entry(row, call_of(loss, inputs, which), provider, plan, inputs))
        except Exception as error:
            found.append(row | {"note": words(error)})
    inputs.restore()
    return found


def passes(provider: Provider) -> tuple[str, ...]:
    """What is timed of a provider."""
    return (FORWARD,) if provider.role == "floor" else (BOTH,) if provider.key == "inplace" else (FORWARD, BOTH)


def call_of(loss: Loss, inputs: Inputs, which: str) -> Call:
    """The loss alone, without a graph, or the loss and its gradient."""
    if which == BOTH:
        return lambda: torch.autograd.grad(loss(*inputs.tensors), inputs.variables)
    plain = tuple(t.detach() for t in inputs.tensors)
    return lambda: loss(*plain)


def check(loss: Loss, inputs: Inputs, which: str, answer: tuple[float, tuple[Tensor, ...]]) -> Row:
    """How far the loss, and after a backward pass the gradient, are from the oracle's."""
    inputs.restore()
    if which == FORWARD:
        value = loss(*(t.detach() for t in inputs.tensors))
        return {"loss_error": abs(float(value) - answer[0]) / abs(answer[0])}
    value = loss(*inputs.tensors)
    gradients = torch.autograd.grad(value, inputs.variables)
    off = oracle.errors(value.detach(), gradients, answer)
    return {"loss_error": off[0], "gradient_error": off[1]}


def _entry(row: Row, call: Call, provider: Provider, plan: Plan, inputs: Inputs) -> _Entry:
    tidy: Call = inputs.restore if provider.key == "inplace" else lambda: None
    side = Side(call, tidy)
    side.calibrate(plan.device)
    row["peak_bytes"] = trace.peak_bytes(call, plan.device)
    entry = _Entry(row, side)
    if plan.device == "cuda":
        row["launches"] = trace.launches(call)
        if sum(tensor.nbytes for tensor in inputs.tensors) <= GRAPH_BYTES:
            entry.graph = _graph(row, call, tidy)
    return entry


def _graph(row: Row, call: Call, tidy: Call) -> Side | None:
    try:
        side = Side(graphed(call), tidy)
        side.calibrate("cuda")
    except Exception as error:
        row["note"] = f"no graph: {words(error)}"
        return None
    return side


def _fill(entries: list[_Entry]) -> None:
    """Figures from samples; the copy of the same tensor in the same run is the roofline."""
    for entry in entries:
        samples, row = entry.side.samples, entry.row
        row |= {"us_min": 1e6 * min(samples), "us_median": 1e6 * statistics.median(samples), "samples": len(samples)}
        if entry.graph is not None:
            times = entry.graph.samples
            row |= {"graph_us_min": 1e6 * min(times), "graph_us_median": 1e6 * statistics.median(times)}
    copy = next((entry.row["us_min"] for entry in entries if entry.row["provider"] == "copy"), None)
    for entry in entries:
        entry.row["x_copy"] = copy and entry.row["us_min"] / copy
