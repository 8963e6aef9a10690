"""The launch plan of the CUDA kernels, asked without a GPU."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loreun_bench.ops import native

H200 = {"sms": 132, "smem_per_block": 232448}
T4 = {"sms": 40, "smem_per_block": 65536}
SIZES = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}

information = native.info()
pytestmark = pytest.mark.skipif(information is None, reason="the information module was not built")


@pytest.mark.parametrize(
    ("loss", "dtype", "shape", "regime"),
    [
        ("cross_entropy", "float32", (256, 10), "tiny"),
        ("cross_entropy", "float32", (1024, 1000), "on_chip"),
        ("cross_entropy", "bfloat16", (8192, 32000), "split"),
        ("mean_squared", "float32", (8, 4 * 64 * 64), "on_chip"),
        ("mean_squared", "float32", (64, 4 * 128 * 128), "on_chip"),
    ],
)
def test_regimes_of_the_shapes_that_matter(loss, dtype, shape, regime):
    plan = information.plan(loss, dtype, *shape, **H200)
    assert plan["regime"] == regime
    assert (plan["blocks"] == 1) == (regime == "tiny")


def test_what_fits_a_large_gpu_may_not_fit_a_small_one():
    assert information.plan("mean_squared", "float32", 64, 65536, **H200)["regime"] == "on_chip"
    assert information.plan("mean_squared", "float32", 64, 65536, **T4)["regime"] == "split"


@given(
    st.sampled_from(["cross_entropy", "mean_squared"]), st.sampled_from(sorted(SIZES)),
    st.integers(0, 100_000), st.integers(1, 300_000), st.booleans(),
    st.sampled_from([H200, T4, {"sms": 1, "smem_per_block": 49152}]),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_a_plan_keeps_within_the_device(loss, dtype, rows, size, with_grad, device):
    plan = information.plan(loss, dtype, rows, size, with_grad, **device)
    assert 0 <= plan["shared_memory"] <= device["smem_per_block"]
    assert plan["threads"] % 32 == 0
    assert 32 <= plan["threads"] <= 512
    assert 1 <= plan["blocks"] < 2**31
    assert plan["workspace"] >= 0
    if plan["regime"] == "on_chip":  # every block must be resident, or a grid-wide wait never ends
        assert with_grad
        assert plan["blocks"] <= device["sms"]
        kept = rows * size * (4 if loss == "mean_squared" and dtype != "float64" else SIZES[dtype])
        assert kept <= plan["blocks"] * plan["shared_memory"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("huber", "float32", 1, 1), "loss"),
        (("cross_entropy", "int8", 1, 1), "dtype"),
    ],
)
def test_wrong_arguments_are_named(arguments, says):
    with pytest.raises(ValueError, match=says):
        information.plan(*arguments)
