"""The compiled operator under torch.compile, as a registered operator, on tensors without data, and under autocast."""

from __future__ import annotations

import pytest
import torch
from accuracy import SERVED, batch, calls, ce_call, compiled, forced, mse_call, step_call
from helpers import usually
from torch import Tensor
from torch._subclasses import FakeTensorMode

from loreun_bench.ops import loreun_cross_entropy, loreun_mse_loss, loreun_step


def value_and_gradient(f, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    loss = f(x)
    (grad,) = torch.autograd.grad(loss, x, torch.full_like(loss, 0.5))
    return loss.detach(), grad


# ---- torch.compile


@pytest.fixture
def compile_(request):
    """One graph, backward pass included; without the code generation, which is not ours."""
    torch._dynamo.reset()
    yield lambda f, **options: torch.compile(f, fullgraph=True, backend="aot_eager", **options)
    torch._dynamo.reset()


@pytest.mark.parametrize("path", [pytest.param("native", marks=compiled), "reference"])
@pytest.mark.parametrize("dynamic", [pytest.param(False, marks=pytest.mark.slow), True], ids=["static", "dynamic"])
@calls
def test_one_graph_gives_what_eager_gives(call, dynamic, path, compile_):
    with forced(path):
        whole = compile_(lambda x: 2 * call(torch.tanh(x), detach_weights=False, loss_scale=1.5), dynamic=dynamic)
        for rows in (9, 14, 6):
            x = batch(rows, 10)[0]
            eager = value_and_gradient(lambda x: 2 * call(torch.tanh(x), detach_weights=False, loss_scale=1.5), x)
            torch.testing.assert_close(value_and_gradient(whole, x), eager, rtol=1e-5, atol=1e-7)


@compiled
def test_dynamic_rows_are_compiled_once(compile_):
    torch._dynamo.utils.counters.clear()
    whole = compile_(lambda x: ce_call(x * 2), dynamic=True)
    for rows in (9, 14, 6, 31):
        whole(batch(rows, 10)[0])
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@compiled
@pytest.mark.parametrize("dtype", usually(torch.bfloat16, of=[torch.float32, torch.bfloat16, torch.float16]))
def test_inductor_compiles_it_too(dtype, compile_):
    x, target, clean = batch(12, 10, dtype)

    def whole(x: Tensor, ref: Tensor) -> tuple[Tensor, Tensor]:
        options = {"eta": 0.3, "direction": "forget", "ref_loss": ref, "distance": "ratio", "return_stats": True}
        loss, stats = loreun_cross_entropy(x * 2, target, clean, **options)
        return loss, stats.weights

    ref = torch.linspace(0.5, 1, 12)
    found, wanted = (f(x, ref) for f in (torch.compile(whole, fullgraph=True, backend="inductor"), whole))
    torch.testing.assert_close(found, wanted)


@compiled
def test_compiled_code_still_checks_what_it_is_told(compile_):
    x, target, _ = batch(9, 10)
    good = {"target": target, "eta": 0.3, "direction": "forget"}
    for change in ({"target": target[:4]}, {"eta": float("nan")}, {"direction": "up"}):
        whole = compile_(lambda x, options=good | change: loreun_cross_entropy(x, **options))
        with pytest.raises(Exception, match=r"target must be|finite number|direction must be"):
            whole(x)
    whole = compile_(lambda x, t: loreun_cross_entropy(x, t, eta=0.3, direction="forget"))
    with pytest.raises(Exception, match="target"):  # labels are looked at when the graph runs
        whole(x, target + 5)


@calls
def test_a_tensor_may_be_given_twice(call, compile_):
    """What is one tensor for the caller may be two arguments of the operator."""
    (x, y, _), fixed = batch(9, 10), torch.ones(9, 10)
    twice = {
        ce_call: lambda x: loreun_cross_entropy(x, y, y, eta=0.3, direction="forget"),
        mse_call: lambda x: loreun_mse_loss(x, fixed, fixed, eta=0.3, direction="forget", ref_loss=1.0),
        step_call: lambda x: loreun_step(x, y, y, x, y, eta_f=0.3, eta_r=0.2),
    }[call]
    torch.testing.assert_close(value_and_gradient(compile_(twice), x), value_and_gradient(twice, x))


# ---- the registered operators


def samples() -> list[tuple[str, tuple]]:
    logits, target, clean = batch(6, 5)
    given, ref = torch.rand(6), torch.rand(6) + 0.5
    exp, shared = (0, -0.3, 0.0, 1.0, False, 0, False), (-100, 0.1, 1.0)
    power, mse = (1, -0.3, 0.5, 1.0, True, 1, True), (0, 0.3, 0.0, 1.0, True, 0, False, True, 1.0)
    operators, one, eta, of_class = torch.ops.loreun, torch.tensor(0.5), torch.tensor(0.3), torch.rand(5)
    _, table, whole, _ = operators.ce_forward(logits, target, clean, None, ref, None, None, *exp, *shared, True)
    x, t, u = (torch.randn(6, 2, 3).transpose(1, 2) for _ in range(3))
    _, table_m, whole_m, _ = operators.mse_forward(x, t, u, None, ref, None, *mse, True)
    wide = torch.randn(6, 10)[:, ::2]
    middle, taken = (torch.randn(6, 100), target, None, None, None, None, None), (4, *exp[1:5], 1, True, *shared)
    _, table_k, whole_k, kept = operators.ce_forward(*middle, *taken, True)
    return [
        ("ce_forward", (logits, target, clean, None, ref, eta, of_class, *exp, *shared, True)),
        ("ce_forward", (logits, target, None, given, torch.tensor(0.7), None, None, *exp, *shared, False)),
        ("ce_forward", (wide.double(), target, None, None, None, None, None, *power, *shared, True)),
        ("ce_forward", (logits.half(), target, None, None, None, None, None, *exp, *shared, True)),
        ("ce_forward", (torch.randn(6, 60000), target, None, None, None, None, None, *exp, *shared, True)),
        ("ce_backward", (one, logits, target, clean, table, whole, None, None, *shared)),
        ("ce_backward", (None, wide, target, clean, table, whole, given, ref, *shared)),
        ("ce_backward_", (one, logits.clone(), target, clean, table, whole, None, None, *shared, None)),
        ("mse_forward", (x, t, u, None, ref, None, *mse, True)),
        ("mse_forward", (x[:, ::2], t[:, ::2], None, given, ref, eta, *mse, True)),
        ("mse_forward", (x.bfloat16().contiguous(), t.bfloat16().contiguous(), None, None, ref, None, *mse, False)),
        ("mse_backward", (one, x, t, u, table_m, whole_m, None, None, True, 1.0)),
        ("mse_backward", (None, x, t, u, table_m, whole_m, given, ref, False, 1.0)),
        ("weigh", (table, whole, given, 1, 0.5)),
        ("ce_forward", (*middle, *taken, True)),
        ("ce_forward", (middle[0].bfloat16(), *middle[1:], *taken, True)),
        ("ce_backward_", (None, torch.empty(6, 100), target, None, table_k, whole_k, given, None, *shared, kept)),
    ]


SAMPLES = samples() if "cpu" in SERVED else []


@compiled
@pytest.mark.parametrize("sample", SAMPLES, ids=[f"{name}-{i}" for i, (name, _) in enumerate(SAMPLES)])
def test_operators_are_registered_as_they_behave(sample):
    """Schema (what is changed and aliased), shapes without data, dispatch in a traced graph, static and dynamic."""
    name, arguments = sample
    torch.library.opcheck(getattr(torch.ops.loreun, name).default, arguments)


# ---- tensors without data


@calls
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_tensors_without_data_have_the_right_shapes(call, dtype):
    real = value_and_gradient(call, batch(9, 10, dtype)[0])
    with FakeTensorMode():
        fake = value_and_gradient(call, torch.randn(9, 10, dtype=dtype))
    for a, b in zip(real, fake, strict=True):
        assert (a.shape, a.dtype, a.stride(), a.device) == (b.shape, b.dtype, b.stride(), b.device)


@pytest.mark.parametrize("options", [{}, {"detach_weights": False, "label_smoothing": 0.1}])
def test_meta_tensors_have_the_right_shapes(options):
    x = torch.empty(9, 10, device="meta", requires_grad=True)
    y = torch.empty(9, device="meta", dtype=torch.int64)
    loss, stats = loreun_cross_entropy(x, y, y, eta=0.3, direction="forget", return_stats=True, **options)
    (grad,) = torch.autograd.grad(loss, x)
    assert [tuple(t.shape) for t in (loss, *stats, grad)] == [(), (9,), (9,), (9,), (), (9, 10)]
    assert {t.device.type for t in (loss, *stats, grad)} == {"meta"}


# ---- autocast


@pytest.mark.parametrize("path", [pytest.param("native", marks=compiled), "reference"])
def test_autocast_runs_on_the_16_bit_logits_and_returns_float32(path):
    model, (_, target, _) = torch.nn.Linear(7, 10), batch(9, 10)
    x = torch.randn(9, 7)
    with forced(path):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(x)
            assert logits.dtype == torch.bfloat16
            loss = loreun_cross_entropy(logits, target, eta=0.3, direction="forget")
        assert loss.dtype == torch.float32
        seen = []
        logits.register_hook(lambda grad: seen.append(grad.dtype))
        loss.backward()
        plain = loreun_cross_entropy(logits.detach().float(), target, eta=0.3, direction="forget")
    assert loss.item() == pytest.approx(plain.item(), rel=1e-6)
    assert seen == [torch.bfloat16]
    assert model.weight.grad.dtype == torch.float32
