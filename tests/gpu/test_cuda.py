"""The compiled CUDA operator on a GPU: right, repeatable, captured, never waiting, and no memory beyond the gradient."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from loreun_bench.bench.trace import launches, peak_bytes
from loreun_bench.ops import loreun_cross_entropy, loreun_linear_cross_entropy, loreun_mse_loss, loreun_step, native

SERVED, WHY = native.state()
pytestmark = pytest.mark.skipif(
    "cuda" not in SERVED,
    reason=f"needs a GPU and the compiled CUDA operator: torch sees {torch.cuda.device_count()} GPUs; {WHY}",
)
DEVICE = "cuda"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}
LOSS_TOLERANCE = {"fp32": 2e-6, "bf16": 2e-6, "fp16": 2e-6, "fp64": 1e-12}
GRADIENT_TOLERANCE = {"fp32": 5e-6, "bf16": 5e-3, "fp16": 5e-3, "fp64": 1e-12}
SHAPES = {
    "small": (256, 10), "small-row": (1, 5), "small-chip": (64, 1000), "small-odd": (33, 259), "chip": (1024, 1000),
    "wide": (4, 200_003), "split": (3000, 5000), "narrow": (70_001, 3), "odd": (513, 1025),
}  # fmt: skip
PICTURES = {
    "small": (3, 7), "small-chip": (8, 4, 64, 64), "large": (64, 4, 128, 128), "wide": (5, 100_003), "narrow": (700, 31),
}  # fmt: skip
REGIMES = ("small", "chip", "split")
SETTINGS = {
    "forget": {"eta": 0.3, "direction": "forget"},
    "retain": {"eta": 0.3, "direction": "retain"},
    "undetached": {"eta": 0.3, "direction": "forget", "detach_weights": False},
    "smoothed": {"eta": 0.3, "direction": "forget", "label_smoothing": 0.1, "loss_scale": 2.0},
    "ratio": {"eta": 0.3, "direction": "forget", "distance": "ratio", "ref_loss": 2.5},
}


def batch(shape, dtype="fp32", seed=0):
    g = torch.Generator(DEVICE).manual_seed(seed)
    x = (3 * torch.randn(shape, generator=g, device=DEVICE)).to(DTYPES[dtype]).requires_grad_()
    target, clean = (torch.randint(shape[1], shape[:1], generator=g, device=DEVICE) for _ in range(2))
    return x, target, clean


def weighted(objective, score, kept, eta, direction, distance="difference", ref_loss=0.0, detach_weights=True):
    """The formulas, in double precision and under autograd."""
    excess = score - ref_loss if distance == "difference" else score / ref_loss
    s = (-eta if direction == "forget" else eta) * (excess.detach() if detach_weights else excess)
    w = torch.softmax(s.masked_fill(~kept, -torch.inf), 0)
    return (w * objective.masked_fill(~kept, 0)).sum()


def oracle(x, target, clean, label_smoothing=0.0, loss_scale=1.0, **settings):
    x = x.detach().double().requires_grad_()
    logp, kept = F.log_softmax(x, 1), target != -100
    nll = [-logp.gather(1, labels.where(labels >= 0, 0)[:, None]).squeeze(1) for labels in (target, clean)]
    objective = (1 - label_smoothing) * nll[0] - label_smoothing * logp.mean(1)
    loss = loss_scale * weighted(objective, nll[1], kept, **settings)
    return loss, torch.autograd.grad(loss, x)[0]


def close(found, expected, dtype):
    """(loss, gradient) pairs agree, the gradients in norm."""
    assert not found[1].isnan().any()
    loss = expected[0].detach()
    assert float(abs(found[0] - loss) / abs(loss)) < LOSS_TOLERANCE[dtype]
    off = (found[1].double() - expected[1]).norm() / expected[1].norm()
    assert float(off) < GRADIENT_TOLERANCE[dtype]


def forget(x, target, clean, **settings):
    loss = loreun_cross_entropy(x, target, clean, **({"eta": 0.3, "direction": "forget"} | settings))
    return loss.detach(), torch.autograd.grad(loss, x)[0]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_parity_cross_entropy(shape, dtype, settings):
    x, target, clean = batch(SHAPES[shape], dtype)
    found = forget(x, target, clean, **SETTINGS[settings])
    assert found[0].dtype == (torch.float64 if dtype == "fp64" else torch.float32)
    close(found, oracle(x, target, clean, **SETTINGS[settings]), dtype)


@pytest.mark.parametrize("shape", ["small", "small-chip", "split"])
def test_parity_in_place(shape):
    leaf, target, clean = batch(SHAPES[shape])
    expected = oracle(leaf, target, clean, eta=0.3, direction="forget")
    x = leaf.view_as(leaf)
    found = forget(x, target, clean, inplace_backward=True)
    close(found, expected, "fp32")
    assert found[1].data_ptr() == x.data_ptr()


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("dtype", ["fp32", "fp64"])
@pytest.mark.parametrize("chunk_size", [None, 2000])
def test_parity_linear(chunk_size, dtype, settings):
    logits, target, clean = batch(SHAPES["small-odd"])
    rows, classes = logits.shape
    hidden, weight = (batch((count, 64), dtype, seed)[0] for seed, count in enumerate((rows, classes)))
    target[::5] = -100
    options = {"chunk_size": chunk_size, **SETTINGS[settings]}
    loss = loreun_linear_cross_entropy(hidden, 0.05 * weight, target, clean, **options)
    grads = torch.autograd.grad(loss, (hidden, weight))
    wide, short = hidden.detach().double(), 0.05 * weight.detach().double()
    expected, grad = oracle(wide @ short.T, target, clean, **SETTINGS[settings])
    close((loss.detach(), grads[0]), (expected, grad @ short), dtype)
    close((loss.detach(), grads[1]), (expected, 0.05 * grad.T @ wide), dtype)


RULES = {
    "power": {"weights": "power", "eta": 0.3, "direction": "forget", "normalize": "mean"},
    "satimp": {"weights": "satimp", "eta": 0.3, "direction": "forget", "normalize": "none", "detach_weights": False},
    "logistic": {"weights": "logistic", "eta": 0.3, "direction": "retain", "ref_loss": 1.5, "detach_weights": False},
    "function": {"weights": lambda score: 1 / (1 + score), "normalize": "mean"},
    "undetached function": {"weights": lambda score: 1 / (1 + score), "detach_weights": False},
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shape", [*REGIMES, "narrow"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp64"])
def test_parity_middle(shape, dtype, rule):
    """Against the operator on the CPU, in double precision; classes weigh, padding in both labels."""
    x, target, clean = batch(SHAPES[shape], dtype)
    target[::5] = clean[::5] = -100
    of_class = torch.linspace(0.5, 2, x.shape[1], device=DEVICE)
    loss = loreun_cross_entropy(x, target, clean, weight=of_class, **RULES[rule])
    (grad,) = torch.autograd.grad(loss, x)
    wide = x.detach().double().cpu().requires_grad_()
    wanted = loreun_cross_entropy(wide, target.cpu(), clean.cpu(), weight=of_class.double().cpu(), **RULES[rule])
    (expected,) = torch.autograd.grad(wanted, wide)
    close((loss.detach().cpu(), grad.cpu()), (wanted.detach(), expected), dtype)


def test_parity_segments():
    x, target, clean = batch((600, 259))
    ids = torch.arange(600, device=DEVICE) // 7
    options = {"eta": 0.3, "direction": "forget", "detach_weights": False, "segment_ids": ids, "num_segments": 86}
    loss = loreun_cross_entropy(x, target, clean, **options)
    wide = x.detach().double().cpu().requires_grad_()
    wanted = loreun_cross_entropy(wide, target.cpu(), clean.cpu(), **options | {"segment_ids": ids.cpu()})
    grads = torch.autograd.grad(loss, x)[0].cpu(), torch.autograd.grad(wanted, wide)[0]
    close((loss.detach().cpu(), grads[0]), (wanted.detach(), grads[1]), "fp32")


def test_a_schedule_of_eta_waits_for_nothing():
    x, target, clean = batch(SHAPES["chip"])
    eta = torch.tensor(0.3, device=DEVICE)
    loreun_cross_entropy(x, target, clean, eta=eta, direction="forget").backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss = loreun_cross_entropy(x, target, clean, eta=eta, direction="forget")
        loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(loss, loreun_cross_entropy(x, target, clean, eta=0.3, direction="forget"))


def test_a_function_costs_one_launch_more():
    x, target, clean = batch(SHAPES["split"])

    def count(**options) -> int:
        return launches(lambda: loreun_cross_entropy(x, target, clean, **options).backward())

    weights = torch.rand(len(x), device=DEVICE)
    assert count(weights=weights) <= count(eta=0.3, direction="forget") + 1


@pytest.mark.parametrize("shape", ["small", "chip", "split"])
def test_parity_scaled_afterwards(shape):
    """An incoming gradient other than 1."""
    x, target, clean = batch(SHAPES[shape])
    loss, gradient = oracle(x, target, clean, eta=0.3, direction="forget")
    found = 0.25 * loreun_cross_entropy(x, target, clean, eta=0.3, direction="forget")
    close((found.detach(), torch.autograd.grad(found, x)[0]), (0.25 * loss, 0.25 * gradient), "fp32")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PICTURES)
def test_parity_mean_squared(name, dtype):
    shape = PICTURES[name]
    g = torch.Generator(DEVICE).manual_seed(0)
    x, target, score = (torch.randn(shape, generator=g, device=DEVICE).to(DTYPES[dtype]) for _ in range(3))
    reference = torch.rand(shape[0], generator=g, device=DEVICE) + 0.5
    x64, *rest = (t.double().flatten(1) for t in (x, target, score))
    x64.requires_grad_()
    objective, clean = ((x64 - t).square().mean(1) for t in rest)
    scale = 1024.0 if dtype == "fp16" else 1.0  # its gradients would be subnormal
    expected = scale * weighted(objective, clean, clean > -1, 0.3, "forget", "ratio", reference.double())
    reference = reference.double() if dtype == "fp64" else reference
    x.requires_grad_()
    loss = loreun_mse_loss(x, target, score, eta=0.3, direction="forget", ref_loss=reference, loss_scale=scale)
    gradient = torch.autograd.grad(loss, x)[0].flatten(1)
    close((loss.detach(), gradient), (expected, torch.autograd.grad(expected, x64)[0]), dtype)


@pytest.mark.parametrize("shapes", ["small small", "small-chip small", "chip odd", "split chip"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_parity_step(shapes, dtype):
    (x, target, clean), (kept, label, _) = (batch(SHAPES[name], dtype, i) for i, name in enumerate(shapes.split()))
    loss = loreun_step(x, target, clean, kept, label, eta_f=0.1, eta_r=0.25, alpha=0.5)
    gradients = torch.autograd.grad(loss, (x, kept))
    first = oracle(x, target, clean, eta=0.1, direction="forget")
    second = oracle(kept, label, label, eta=0.25, direction="retain")
    for found, expected in ((gradients[0], first[1]), (gradients[1], 0.5 * second[1])):
        close((loss.detach(), found), (first[0] + 0.5 * second[0], expected), dtype)


@pytest.mark.parametrize("shape", REGIMES)
def test_ignored_rows_have_no_gradient_even_if_they_are_nan(shape):
    x, target, clean = batch(SHAPES[shape])
    expected = oracle(x[3:], target[3:], clean[3:], eta=0.3, direction="forget")
    target[:3] = -100
    with torch.no_grad():
        x[:3] = torch.nan
    loss, gradient = forget(x, target, clean)
    assert (gradient[:3] == 0).all()
    close((loss, gradient[3:]), expected, "fp32")
    assert forget(x, torch.full_like(target, -100), clean)[0].isnan()


@pytest.mark.parametrize("shape", REGIMES)
def test_a_label_out_of_range_is_nan_and_the_device_lives_on(shape):
    x, target, clean = batch(SHAPES[shape])
    good = forget(x, target, clean)[0]
    wrong = target.clone()
    wrong[5] = SHAPES[shape][1]
    loss, gradient = forget(x, wrong, clean)
    assert loss.isnan()
    assert gradient[5].isnan().all()
    torch.testing.assert_close(forget(x, target, clean)[0], good, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_repeated_to_the_bit(shape, dtype):
    x, target, clean = batch(SHAPES[shape], dtype)
    first = forget(x, target, clean)
    for _ in range(5):
        for a, b in zip(forget(x, target, clean), first, strict=True):
            assert torch.equal(a, b)


LAYOUTS = ("unaligned-rows", "offset", "transposed", "every-other-row", "expanded", "every-other-class")


def layouts(rows, classes):
    """Views [rows, classes] of every awkward kind."""
    wide = 3 * torch.randn(rows, classes + 5, device=DEVICE)
    long = 3 * torch.randn(rows * classes + 3, device=DEVICE)
    return {
        "unaligned-rows": wide[:, 1 : 1 + classes],
        "offset": long[1 : 1 + rows * classes].view(rows, classes),
        "transposed": (3 * torch.randn(classes, rows, device=DEVICE)).t(),
        "every-other-row": (3 * torch.randn(2 * rows, classes, device=DEVICE))[::2],
        "expanded": (3 * torch.randn(1, classes, device=DEVICE)).expand(rows, classes),
        "every-other-class": (3 * torch.randn(rows, 2 * classes, device=DEVICE))[:, ::2],
    }


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", ["small", "small-odd", "chip", "odd", "split"])
def test_any_strides(shape, layout):
    rows, classes = SHAPES[shape]
    view = layouts(rows, classes)[layout]
    _, target, clean = batch(SHAPES[shape])
    for dtype in ("fp32", "bf16"):
        x = as_dtype(view, DTYPES[dtype])
        assert x.stride() == view.stride()
        x.requires_grad_()
        close(forget(x, target, clean), oracle(x, target, clean, eta=0.3, direction="forget"), dtype)


def as_dtype(view, dtype):
    """`view` in another dtype with its strides and offset."""
    whole = torch.zeros(view.untyped_storage().nbytes() // view.element_size(), dtype=dtype, device=DEVICE)
    copy = whole.as_strided(view.shape, view.stride(), view.storage_offset())
    flat = view[:1] if view.stride(0) == 0 else view
    whole.as_strided(flat.shape, view.stride(), view.storage_offset()).copy_(flat)
    return copy


@pytest.mark.parametrize("shape", REGIMES)
def test_captured_in_a_graph_and_replayed_with_other_inputs(shape):
    x, target, clean = batch(SHAPES[shape])
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            forget(x, target, clean)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = forget(x, target, clean)
    for seed in (1, 2, 3):
        other = batch(SHAPES[shape], seed=seed)
        with torch.no_grad():
            for into, new in zip((x, target, clean), other, strict=True):
                into.copy_(new)
        graph.replay()
        for a, b in zip(captured, forget(*other), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("shape", REGIMES)
def test_never_waits_for_the_device(shape):
    x, target, clean = batch(SHAPES[shape])
    forget(x, target, clean)
    forget(x, target, clean, label_smoothing=0.1)
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss, gradient = forget(x, target, clean)
        forget(x, target, clean, label_smoothing=0.1, loss_scale=3.0)
        reference = torch.ones(len(x), device=DEVICE)
        forget(x, target, clean, ref_loss=reference, distance="ratio")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    close((loss, gradient), oracle(x, target, clean, eta=0.3, direction="forget"), "fp32")


def test_small_batches_take_one_launch():
    x, target, clean = batch(SHAPES["small"])
    picture = torch.randn(8, 4, 64, 64, device=DEVICE, requires_grad=True)
    other, one = torch.randn_like(picture), torch.ones((), device=DEVICE)
    calls = {
        "cross entropy": lambda: loreun_cross_entropy(x, target, clean, eta=0.3, direction="forget"),
        "mean squared": lambda: loreun_mse_loss(picture, other, eta=0.3, direction="forget", ref_loss=1.0),
    }
    for call in calls.values():
        call()
    assert {name: launches(call) for name, call in calls.items()} == dict.fromkeys(calls, 1)
    loss = calls["cross entropy"]()
    assert launches(lambda: torch.autograd.grad(loss, x, one)) <= 1  # the gradient was made; at most it is scaled


def test_no_memory_but_the_gradient():
    leaf, target, clean = batch((8192, 8000), "bf16")
    size, small = leaf.numel() * leaf.element_size(), 4 << 20
    forget(leaf, target, clean)
    plain = leaf.detach()
    assert peak_bytes(lambda: loreun_cross_entropy(plain, target, clean, eta=0.3, direction="forget"), DEVICE) < small
    assert size <= peak_bytes(lambda: forget(leaf, target, clean), DEVICE) < size + small
    x = leaf.view_as(leaf)
    assert peak_bytes(lambda: forget(x, target, clean, inplace_backward=True), DEVICE) < small


def test_more_than_two_billion_logits():
    rows, classes = 70_000, 32_000
    if torch.cuda.mem_get_info()[0] < 24e9:
        pytest.skip("needs 24 GB of free GPU memory")
    x = torch.empty(rows, classes, device=DEVICE, dtype=torch.bfloat16).normal_(0, 3).requires_grad_()
    g = torch.Generator(DEVICE).manual_seed(0)
    target, clean = (torch.randint(classes, (rows,), generator=g, device=DEVICE) for _ in range(2))
    loss, gradient = forget(x, target, clean)
    parts = []
    for block in torch.arange(rows, device=DEVICE).split(1000):
        logp = F.log_softmax(x.detach()[block].double(), 1)
        parts.append([-logp.gather(1, labels[block, None]).squeeze(1) for labels in (target, clean)])
    objective, score = (torch.cat([part[i] for part in parts]) for i in range(2))
    w = torch.softmax(-0.3 * score, 0)
    assert float(loss) == pytest.approx(float(w @ objective), rel=2e-6)
    for first in (0, 33_000, 67_108, rows - 100):  # 67 109 · 32 000 is where 2³¹ lies
        block = torch.arange(first, first + 100, device=DEVICE)
        expected = torch.softmax(x.detach()[block].double(), 1)
        expected[torch.arange(100, device=DEVICE), target[block]] -= 1
        expected *= w[block, None]
        assert float((gradient[block].double() - expected).norm() / expected.norm()) < GRADIENT_TOLERANCE["bf16"]


def test_under_autocast():
    inputs = torch.randn(256, 64, device=DEVICE)
    layer = torch.nn.Linear(64, 10, device=DEVICE)
    _, target, clean = batch(SHAPES["small"])
    with torch.autocast(DEVICE, torch.bfloat16):
        logits = layer(inputs)
        loss = loreun_cross_entropy(logits, target, clean, eta=0.3, direction="forget")
    assert logits.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    close((loss.detach(), torch.autograd.grad(loss, logits, retain_graph=True)[0]),
          oracle(logits, target, clean, eta=0.3, direction="forget"), "bf16")  # fmt: skip
    loss.backward()
    assert layer.weight.grad.isfinite().all()
    assert layer.weight.grad.norm() > 0


@pytest.mark.parametrize("shapes", ["small small", "chip chip", "split chip", "split split"])
def test_two_streams_at_once(shapes):
    batches = [batch(SHAPES[name], seed=i) for i, name in enumerate(shapes.split())]
    alone = [forget(*each) for each in batches]
    streams = [torch.cuda.Stream() for _ in batches]
    torch.cuda.synchronize()
    found = []
    for _ in range(25):
        for stream, each in zip(streams, batches, strict=True):
            with torch.cuda.stream(stream):
                found.append(forget(*each))
    torch.cuda.synchronize()
    for i, pair in enumerate(found):
        for a, b in zip(pair, alone[i % 2], strict=True):
            assert torch.equal(a, b)
