"""The operator and its peers: the same weighted loss from the same tensors, each written as its users would write it.

A provider is built for a case and gives a function of the case's tensors (see `Inputs`) that returns the scalar loss.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from loreun_bench import ops
from loreun_bench.bench.cases import ALPHA, ETA_FORGET, ETA_RETAIN, Case

Loss = Callable[..., Tensor]
Weighted = Callable[[Tensor, Tensor, Tensor, float], Tensor]  # logits, target, score target, rate of the score


@dataclass(frozen=True)
class Provider:
    """key: the name for --provider. role: only peers are compared with; a floor moves bytes and computes no loss."""

    key: str
    label: str
    role: Literal["ours", "peer", "floor"]
    build: Callable[[Case], Loss]
    missing: str = ""  # why it cannot run here


def providers(case: Case, device: str, compiled: bool) -> list[Provider]:
    """Everyone who takes part in `case`, and who would if it were not `missing`."""
    found = [Provider("ours", "loreun", "ours", _ours), Provider("stats", "loreun, with stats", "ours", _with_stats)]
    if case.kind == "cross entropy":
        found.append(Provider("inplace", "loreun, gradient in place", "ours", _in_place))
    found.append(_peer("literal", "eager, as in the paper", literal, literal_squared))
    strong = [_peer("eager", _EAGER[case.kind], two_losses, squared)]
    if case.kind != "mean squared":
        strong.append(_peer("logsoftmax", "eager, one log_softmax", one_softmax, squared))
    found += strong
    for p in strong if compiled else ():
        found.append(Provider(f"compile-{p.key}", p.label.replace("eager", "compiled"), "peer", _compiled(p)))
    if case.kind != "mean squared":
        missing = "" if importlib.util.find_spec("liger_kernel") else "liger-kernel is not installed"
        missing = missing if device == "cuda" else "Liger's kernels run on a GPU only"
        found.append(_peer("liger", "Liger ×2 on clones", liger, squared, missing))
    found.append(Provider("copy", "copy (roofline)", "floor", _copy))
    found.append(Provider("read", "read once (sum)", "floor", lambda case: _read))
    return found


def literal(x: Tensor, target: Tensor, score: Tensor, rate: float) -> Tensor:
    """Equations 4 to 6 word by word: exp of the excess over its sum, two cross entropies."""
    w = torch.exp(rate * F.cross_entropy(x, score, reduction="none").detach())
    return (w / w.sum() * F.cross_entropy(x, target, reduction="none")).sum()


def two_losses(x: Tensor, target: Tensor, score: Tensor, rate: float) -> Tensor:
    """A careful user's version: the weights are a softmax and outside the graph."""
    w = torch.softmax(rate * F.cross_entropy(x.detach(), score, reduction="none"), 0)
    return (w * F.cross_entropy(x, target, reduction="none")).sum()


def one_softmax(x: Tensor, target: Tensor, score: Tensor, rate: float) -> Tensor:
    """The strongest eager version: both losses from one log_softmax."""
    p = F.log_softmax(x, 1, dtype=torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else None)
    w = torch.softmax(-rate * p.detach().gather(1, score[:, None]).squeeze(1), 0)
    return -(w * p.gather(1, target[:, None]).squeeze(1)).sum()


def liger(x: Tensor, target: Tensor, score: Tensor, rate: float) -> Tensor:
    """Liger's kernel overwrites its logits with the gradient, so each of the two calls gets a clone."""
    from liger_kernel.transformers.functional import liger_cross_entropy  # type: ignore[import-not-found]

    w = torch.softmax(rate * liger_cross_entropy(x.detach().clone(), score, reduction="none"), 0)
    loss: Tensor = liger_cross_entropy(x.clone(), target, reduction="none")
    return (w * loss).sum()


def literal_squared(x: Tensor, target: Tensor, score: Tensor, reference: Tensor) -> Tensor:
    """Equations 4 and 6 word by word, in ratio form, for the denoising loss."""
    w = torch.exp(-ETA_FORGET * ((x - score) ** 2).flatten(1).mean(1).detach() / reference)
    return (w / w.sum() * ((x - target) ** 2).flatten(1).mean(1)).sum()


def squared(x: Tensor, target: Tensor, score: Tensor, reference: Tensor) -> Tensor:
    """A careful user's version."""
    clean = F.mse_loss(x.detach(), score, reduction="none").flatten(1).mean(1)
    w = torch.softmax(-ETA_FORGET * clean / reference, 0)
    return (w * F.mse_loss(x, target, reduction="none").flatten(1).mean(1)).sum()


_EAGER = {
    "cross entropy": "eager, two cross entropies",
    "step": "eager, three cross entropies",
    "mean squared": "eager, two mse_loss",
}


def _peer(key: str, label: str, weighted: Weighted, mean_squared: Loss, missing: str = "") -> Provider:
    return Provider(key, label, "peer", lambda case: _eager(case, weighted, mean_squared), missing)


def _eager(case: Case, weighted: Weighted, mean_squared: Loss) -> Loss:
    """The case's loss from a peer's loss of one batch."""
    if case.kind == "mean squared":
        return mean_squared
    if case.kind == "cross entropy":
        return lambda x, target, clean: weighted(x, target, clean, -ETA_FORGET)

    def both(x: Tensor, target: Tensor, clean: Tensor, kept: Tensor, label: Tensor) -> Tensor:
        return weighted(x, target, clean, -ETA_FORGET) + ALPHA * _retain(weighted, kept, label)

    return both


def _retain(weighted: Weighted, x: Tensor, target: Tensor) -> Tensor:
    """The retain batch has one label, so nobody needs a second loss."""
    if weighted is one_softmax:
        return one_softmax(x, target, target, ETA_RETAIN)
    loss: Tensor
    if weighted is liger:
        from liger_kernel.transformers.functional import liger_cross_entropy

        loss = liger_cross_entropy(x.clone(), target, reduction="none")
    else:
        loss = F.cross_entropy(x, target, reduction="none")
    excess = ETA_RETAIN * loss.detach()
    w = torch.softmax(excess, 0) if weighted is not literal else (raw := torch.exp(excess)) / raw.sum()
    return (w * loss).sum()


def _ours(case: Case, **how: Any) -> Loss:
    if case.kind == "cross entropy":
        return partial(ops.loreun_cross_entropy, eta=ETA_FORGET, direction="forget", **how)
    if case.kind == "step":
        return partial(ops.loreun_step, eta_f=ETA_FORGET, eta_r=ETA_RETAIN, alpha=ALPHA, **how)

    def mean_squared(x: Tensor, target: Tensor, score: Tensor, reference: Tensor) -> Any:
        return ops.loreun_mse_loss(x, target, score, eta=ETA_FORGET, direction="forget", ref_loss=reference, **how)

    return mean_squared


def _in_place(case: Case) -> Loss:
    return _ours(case, inplace_backward=True)


def _with_stats(case: Case) -> Loss:
    both = _ours(case, return_stats=True)
    return lambda *tensors: both(*tensors)[0]


def _compiled(provider: Provider) -> Callable[[Case], Loss]:
    def build(case: Case) -> Loss:
        compiled: Loss = torch.compile(provider.build(case), fullgraph=True, dynamic=False)
        return compiled

    return build


def _copy(case: Case) -> Loss:
    """A copy of the variables into memory that is there already."""
    kept: list[Tensor] = []

    def run(*tensors: Tensor) -> Tensor:
        sources = _variables(case, tensors)
        if not kept:
            kept.extend(torch.empty_like(t) for t in sources)
        for into, source in zip(kept, sources, strict=True):
            into.copy_(source)
        return kept[0]

    return run


def _read(*tensors: Tensor) -> Tensor:
    """The sum of every floating tensor: the shortest call in torch that reads all and writes nothing."""
    sums = [t.sum() for t in tensors if t.is_floating_point() and t.dim() > 1]
    return sums[0]


def _variables(case: Case, tensors: tuple[Tensor, ...]) -> list[Tensor]:
    return [tensors[0], tensors[3]] if case.kind == "step" else [tensors[0]]
