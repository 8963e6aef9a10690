"""Calls of the emulated kernels, and how each is checked.

python tests/ops/cases.py LIBRARY    runs a short battery that reaches every regime; fails if anything is wrong
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from emulation import CrossEntropy, Gpu, MeanSquared, Part, Run
from oracle import check_forward, check_grad, expect
from torch import Tensor

TYPES = {"f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16, "f16": torch.float16}
DEVICES = {
    "4 SMs": {"sms": 4},
    "little shared memory": {"sms": 2, "shared": 48 * 1024},
    "no grid sync": {"sms": 2, "capability": 52},
    "1 SM": {"sms": 1, "shared": 99 * 1024, "capability": 120},
}
SEEDS = (0, 1, 2)
INF, NAN = float("inf"), float("nan")


def bits(tensors: list[Tensor]) -> list[bytes]:
    return [each.contiguous().view(torch.uint8).numpy().tobytes() for each in tensors]


def verify(gpu: Gpu, part: Part, device: str = "4 SMs", seeds: tuple[int, ...] = SEEDS, grad_out: float = 0.7) -> set[str]:
    """Forward with gradient, and forward then backward: right, and the same to the bit whoever runs first.

    Returns the regimes that were reached."""
    wanted, reached = expect(part), set()
    for gradient in (True, False):
        seen = []
        for seed in seeds:
            gpu.configure(**DEVICES[device], seed=seed)
            run = Run(gpu, part, gradient=gradient)
            grad, incoming = (run.grad, 1.0) if gradient else (run.backward(grad_out), grad_out)
            seen.append(bits([run.loss.reshape(1), run.table, run.batch, grad]))
            if len(seen) == 1:
                check_forward(run, wanted, part)
                check_grad(grad, wanted, part, incoming)
                reached.add(run.regime)
        assert all(each == seen[0] for each in seen), "the result depends on who runs first"
    return reached


def cross_entropy(rows: int, classes: int, dtype: torch.dtype, seed: int = 0, spread: float = 3, **options) -> CrossEntropy:
    """Random logits and labels; `other`: and the labels that set the weights."""
    rng = torch.Generator().manual_seed(seed)
    names = ("target", "score_target") if options.pop("other", False) else ("target",)
    labels = {name: torch.randint(classes, (rows,), generator=rng) for name in names}
    logits = (torch.randn(rows, classes, generator=rng, dtype=torch.float64) * spread).to(dtype)
    return CrossEntropy(**{"logits": logits, **labels, **options})


def mean_squared(rows: int, size: int, dtype: torch.dtype, seed: int = 0, **options) -> MeanSquared:
    rng = torch.Generator().manual_seed(seed)
    x, target, other = (torch.randn(rows, size, generator=rng, dtype=torch.float64).to(dtype) for _ in range(3))
    score = other if options.pop("other", False) else None
    return MeanSquared(**{"input": x, "target": target, "score_target": score, "divisor": float(max(size, 1)), **options})


def per_row(rows: int, low: float = 0.5) -> Tensor:
    return torch.linspace(low, 2.0, rows, dtype=torch.float64)


# Every option of a loss, by rows.
OPTIONS: dict[str, Callable[[int], dict]] = {
    "plain": lambda rows: {},
    "undetached": lambda rows: {"other": True, "detach": False, "eta": 0.3, "ref_loss": per_row(rows)},
    "ratio": lambda rows: {"ratio": True, "ref_loss": per_row(rows), "detach": False, "scale": 2.5},
    "given scores": lambda rows: {"score_loss": per_row(rows, -1.0), "detach": False, "ref_loss": torch.tensor(0.3)},
}
# Rules and what weights are divided by.
MIDDLE: dict[str, Callable[[int], dict]] = {
    "power": lambda rows: {"rule": "power", "ratio": True, "ref_loss": per_row(rows), "detach": False},
    "power of a loss": lambda rows: {"rule": "power", "eta": 0.5, "normalize": "mean", "scale": 0.5},
    "satimp": lambda rows: {"rule": "satimp", "importance": 1.5, "normalize": "mean", "detach": False, "other": True},
    "no importance": lambda rows: {"rule": "satimp", "importance": 0.0, "detach": False},
    "logistic": lambda rows: {"rule": "logistic", "ref_loss": per_row(rows), "normalize": "none", "detach": False},
    "one reference": lambda rows: {"rule": "logistic", "eta": 0.7, "ref": 0.4, "other": True, "detach": False},
    "divided by rows": lambda rows: {"normalize": "mean", "eta": 0.3, "ref": 0.4, "detach": False},
    "not divided": lambda rows: {"normalize": "none", "score_loss": per_row(rows)},
    "eta elsewhere": lambda rows: {"eta": -1.0, "eta_factor": 0.3, "detach": False},
    "given": lambda rows: {"rule": "given", "normalize": "mean"},
}
SMOOTHED: dict[str, Callable[[int], dict]] = {
    "smoothing": lambda rows: {"other": True, "label_smoothing": 0.2, "detach": False, "eta": 0.2},
    "smoothing, one label": lambda rows: {"label_smoothing": 0.1, "scale": 0.5},
}


def weighted_classes(part: CrossEntropy) -> CrossEntropy:
    return replace(part, class_weight=torch.linspace(0.5, 2.0, part.logits.shape[1], dtype=torch.float64))


def spoil(logits: Tensor, *changes: tuple[int, int | slice, float]) -> Tensor:
    logits = logits.clone()
    for row, column, value in changes:
        logits[row, column] = value
    return logits


def battery() -> Iterator[tuple[str, Part, str, tuple[int, ...]]]:
    """(name, part, device, seeds): the fewest cases that notice every known bug."""
    both = {**OPTIONS, **SMOOTHED}
    shapes = [(33, 10), (40, 300), (9, 1025), (2, 6001), (300, 33), (70, 130), (700, 127), (1, 20000), (5000, 2)]
    for number, (rows, classes) in enumerate(shapes):
        dtype = list(TYPES.values())[number % 4]
        for shift, device in enumerate(DEVICES):
            name = list(both)[(number + shift) % len(both)]
            part = cross_entropy(rows, classes, dtype, **both[name](rows))
            part.target[1::4] = -100
            yield f"{name} {rows}x{classes}", part, device, SEEDS
    for number, (rows, size) in enumerate([(8, 30), (2, 5000), (40, 300), (1, 20000)]):
        for shift, device in enumerate(DEVICES):
            name = list(OPTIONS)[(number + shift) % len(OPTIONS)]
            part = mean_squared(rows, size, torch.float32, **OPTIONS[name](rows))
            yield f"mse {name} {rows}x{size}", part, device, SEEDS
    for number, (name, options) in enumerate(MIDDLE.items()):
        for device in list(DEVICES)[number % 2 :: 2]:
            part = weighted_classes(cross_entropy(30, 20 if number % 3 else 900, torch.float32, **options(30)))
            part.target[1::4] = -100
            yield name, part, device, (1,)
            yield f"mse {name}", mean_squared(9, 70, torch.float32, **options(9)), device, (1,)
    yield "many long rows", cross_entropy(300, 200, torch.float32, other=True), "1 SM", SEEDS
    for device in ("4 SMs", "no grid sync"):
        for rows, classes in ((8, 11), (12, 701)):
            yield from ((name, part, device, (1,)) for name, part in special_cases(rows, classes))
        yield "scaled", cross_entropy(64, 40, torch.float32, eta=-0.64, scale=1 / 64), device, (1,)
        yield "scaled, large", cross_entropy(20, 900, torch.float32, scale=3.0), device, (1,)
        yield "mse scaled", mean_squared(30, 700, torch.float32, scale=1 / 30), device, (1,)
        for options in ({"offset": 1}, {"grad_offset": 1}, {"grad_gap": 1}):
            yield "mse layout", mean_squared(6, 400, torch.float32, other=True, detach=False, **options), device, (1,)
        wide = mean_squared(6, 404, torch.float32)
        yield "mse target off the vectors", mean_squared(6, 400, torch.float32, target_offset=2), device, (1,)
        yield "mse loose", replace(wide, input=wide.input[:, :-3], target=wide.target[:, :-3]), device, (1,)


def special_cases(rows: int, classes: int) -> Iterator[tuple[str, CrossEntropy]]:
    """Values and layouts that few batches have."""
    part = cross_entropy(rows, classes, torch.float32, other=True)
    part.target[:] = 0
    plain = replace(part, score_target=None)
    yield "-inf", replace(plain, logits=spoil(part.logits, (1, 3, -INF), (3, slice(1, None), -INF)))
    for column in (5, -1):
        nan = spoil(part.logits, (2, column, NAN))
        yield "nan", replace(plain, logits=nan)
        yield "nan in an ignored row", replace(plain, logits=nan, target=torch.arange(rows), ignore_index=2)
    for labels in ({"target": classes}, {"score_target": -1}):
        wrong = {name: getattr(part, name).clone() for name in ("target", "score_target")}
        for name, label in labels.items():
            wrong[name][2] = label
        yield "label out of range", replace(part, **wrong)
    given = torch.zeros(rows)
    given[1] = INF
    yield "a weight of 0", replace(plain, score_loss=given)
    yield "an infinite loss of weight 0", replace(plain, score_loss=given, logits=spoil(part.logits, (1, 0, -INF)))
    wide = cross_entropy(rows, 2 * classes, torch.float32).logits
    yield "every second class", replace(plain, logits=wide[:, ::2], label_smoothing=0.1)
    yield "odd rows", replace(plain, logits=wide[:, : classes + 1].to(torch.bfloat16)[:, 1:], grad_gap=2)
    yield "in place", replace(plain, logits=wide[:, 1 : classes + 1], in_place=True, offset=1)
    yield "odd start", replace(plain, offset=1)
    yield "odd start of the gradient", replace(part, grad_offset=1)


def verify_weigh(gpu: Gpu, dtype: torch.dtype) -> None:
    """Weights that were made elsewhere, of more rows than a block has threads."""
    gpu.configure(seed=1)
    part = weighted_classes(cross_entropy(1100, 7, dtype, rule="given", normalize="mean"))
    part.target[::5] = -100
    run = Run(gpu, part, gradient=False)
    kept = part.target != -100
    of_class = part.class_weight[part.target.clamp(0)].to(run.table.dtype).double().masked_fill(~kept, 0.0)
    weights = torch.rand(1100, generator=torch.Generator().manual_seed(0))
    raw = weights.double() * of_class
    for normalize, divisor in (("batch", raw.sum()), ("mean", of_class.sum()), ("none", torch.ones(()))):
        loss, divided = run.weigh(weights, normalize, scale=0.5)
        torch.testing.assert_close(divided.double(), raw / divisor, rtol=2e-6, atol=0)
        wanted = 0.5 * (raw / divisor * run.table[0].double()).sum()
        torch.testing.assert_close(loss.double(), wanted, rtol=2e-6, atol=0)
    weights[3] = -1
    assert bool(run.weigh(weights, "none")[0].isnan())


def verify_coefficients(gpu: Gpu, dtype: torch.dtype) -> None:
    """A backward pass that is given each row's coefficients."""
    gpu.configure(seed=1)
    first, second = per_row(40, -1.0), per_row(40, 0.2)
    for classes in (9, 700):
        part = cross_entropy(40, classes, dtype, other=True)
        x = part.logits.double().requires_grad_()
        losses = [torch.nn.functional.cross_entropy(x, t, reduction="none") for t in (part.target, part.score_target)]
        _compare(Run(gpu, part, gradient=False), x, losses, first, second, 1.0)
        square = mean_squared(40, classes, dtype, other=True, detach=False)
        x = square.input.double().requires_grad_()
        losses = [(x - t.double()).square().mean(1) for t in (square.target, square.score_target)]
        _compare(Run(gpu, square, gradient=False), x, losses, first, second, 0.7)


def _compare(run: Run, x: Tensor, losses: list[Tensor], first: Tensor, second: Tensor, grad_out: float) -> None:
    for score in (None, second):
        total = (first * losses[0]).sum() + (0 if score is None else (score * losses[1]).sum())
        (wanted,) = torch.autograd.grad(grad_out * total, x, retain_graph=True)
        found = run.backward(None if grad_out == 1.0 else grad_out, first, score)
        size = float(wanted.abs().max())
        rounding = {torch.bfloat16: 2**-8, torch.float16: 2**-10}.get(found.dtype, 2e-6)
        torch.testing.assert_close(found.double(), wanted, rtol=rounding, atol=2e-6 * size)


def main(library: str) -> None:
    gpu = Gpu(Path(library))
    for name, part, device, seeds in battery():
        try:
            verify(gpu, part, device=device, seeds=seeds)
        except Exception as error:
            sys.exit(f"{name}, {device}: {type(error).__name__}: {error}")
    for check in (verify_weigh, verify_coefficients):
        try:
            check(gpu, torch.float32)
        except Exception as error:
            sys.exit(f"{check.__name__}: {type(error).__name__}: {error}")
    grad = torch.arange(4099.0)
    if not torch.equal(gpu.scale(grad, 0.5), grad * 0.5):
        sys.exit("scale")


if __name__ == "__main__":
    main(sys.argv[1])
