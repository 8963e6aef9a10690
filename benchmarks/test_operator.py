"""The operator against its peers: cases, providers and right answers are those of `bench ops`."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch

from loreun_bench.bench import oracle, trace
from loreun_bench.bench.cases import default_cases, make_inputs
from loreun_bench.bench.measure import BOTH, FORWARD, call_of, check, passes, words
from loreun_bench.bench.providers import providers

TOLERANCE = {"fp32": 1e-5, "bf16": 0.02}  # of loss and gradient, relative


def pytest_generate_tests(metafunc):
    option = metafunc.config.option
    rows = []
    for case in default_cases(option.device, option.quick, ["fp32"] if option.quick else ["fp32", "bf16"]):
        sides = [p for p in providers(case, option.device, not option.quick) if p.key != "read"]
        for which in (FORWARD, BOTH):
            for side in sorted(sides, key=lambda p: p.role != "floor"):  # the copy comes first, in both passes
                if side.role == "floor" or which in passes(side):
                    rows.append(pytest.param(case, side, which, id=f"{case.title}, {which}, {side.key}"))
    metafunc.parametrize(("case", "side", "which"), rows)


@lru_cache(maxsize=1)
def problem(case, device):
    """Inputs and answer of the case that is under way."""
    torch._dynamo.reset()  # each case compiles anew, whatever the limit on recompilations
    inputs = make_inputs(case, device)
    return inputs, oracle.solve(case, inputs)


def test_operator(row, device, case, side, which):
    if side.missing:
        pytest.skip(side.missing)
    inputs, answer = problem(case, device)
    about = {}
    try:
        loss = side.build(case)
        if side.role != "floor":
            about = check(loss, inputs, which, answer)
        call = call_of(loss, inputs, FORWARD if side.role == "floor" else which)
        about["peak_bytes"] = trace.peak_bytes(call, device)
    except Exception as error:
        if side.role == "ours":
            raise
        pytest.skip(words(error))
    row(f"{case.title}, {which}", side.label, side.role, call, **about)
    inputs.restore()  # in place, gradients were taken of gradients: as fast, and finite
    assert all(error < TOLERANCE[case.dtype] for key, error in about.items() if key.endswith("_error")), about
