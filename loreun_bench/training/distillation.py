"""A teacher's answers, and how far a student is from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from loreun_bench.training.loop import autocast

if TYPE_CHECKING:
    from loreun_bench.training.context import RunContext


def taught(teacher: nn.Module, x: Tensor, context: RunContext) -> Tensor:
    """The teacher's logits of pictures x in float32, without gradient; counted."""
    context.meter.forward_samples += len(x)
    with torch.no_grad(), autocast(context.device, context.precision):
        logits: Tensor = teacher(x)
    return logits.float()


def divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """temperature² KL(teacher ‖ student) of logits [n, C] divided by the temperature, each row's [n], in nats (Hinton et
    al., 2015: the square keeps the gradient's size). A teacher's logit of -inf is a class that counts 0."""
    known = (teacher.float() / temperature).softmax(1)
    said = (student.float() / temperature).log_softmax(1)
    rows: Tensor = (torch.special.xlogy(known, known) - known * said).sum(1)
    return temperature**2 * rows
