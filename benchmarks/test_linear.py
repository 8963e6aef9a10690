"""The loss on a linear layer whose logits never exist whole, beside whole logits and torch's chunked form.

Fewer rows than in `linear.py`, which measures memory and errors as well.
"""

from __future__ import annotations

import pytest
import torch
from linear import Case, inputs, sides, step

CASES = [Case(32000, dtype, rows=256) for dtype in (torch.float32, torch.bfloat16)]
OURS = "logits whole", "logits whole, in place", "ours"


def pytest_generate_tests(metafunc):
    quick = metafunc.config.option.quick
    cases = [Case(1000, torch.float32, rows=64, width=64)] if quick else CASES
    names = [name for name in sides() if not name.startswith("ours, ")]  # the default chunk
    metafunc.parametrize(("case", "side"), [pytest.param(c, s, id=f"{c.title}, {s}") for c in cases for s in names])


def test_linear(row, device, case, side):
    if device != "cpu":
        pytest.skip("the cases of linear.py are made on a CPU")
    loss, tensors = sides()[side], inputs(case)
    name = f"linear cross entropy, {case.rows} rows, {case.title}, forward+backward"
    row(name, side, "ours" if side in OURS else "peer", lambda: step(loss, tensors))
