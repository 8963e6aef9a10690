"""The recipes of docs/llm.md have the gradients of the formulas that their papers print."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

PAGE = Path(__file__).parents[2] / "docs" / "llm.md"
CODE = "".join(re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE))


@pytest.fixture(scope="module")
def page():
    """What the page's code defines, run from top to bottom."""
    names: dict[str, object] = {}
    exec(CODE, names)  # it is ours
    return SimpleNamespace(**names)


@pytest.fixture
def logits(page):
    return page.logits.detach().clone().requires_grad_()


def log_p(logits, labels):
    """Of each token [B, T], 0 where there is none to foretell."""
    return -F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)


def same(logits, loss, formula):
    (ours,) = torch.autograd.grad(loss, logits)
    (theirs,) = torch.autograd.grad(formula, logits)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-8)
    assert ours.abs().max() > 1e-4


def test_wga(page, logits):
    log = log_p(logits, page.labels)
    kept = page.labels != -100
    same(logits, page.wga(logits, page.labels, 0.7), ((log.detach() * 0.7).exp() * log)[kept].mean())


def test_npo(page, logits):
    reference = torch.tensor([30.0, 20.0])
    ratio = log_p(logits, page.labels).sum(1) + reference  # log π - log π_ref
    same(logits, page.npo(logits, page.labels, page.sequence, reference, 0.3), -2 / 0.3 * F.logsigmoid(-0.3 * ratio).mean())


def test_simnpo(page, logits):
    mean = log_p(logits, page.labels).sum(1) / (page.labels != -100).sum(1)
    formula = -2 / 0.3 * F.logsigmoid(-0.3 * mean - 0.5).mean()
    same(logits, page.simnpo(logits, page.labels, page.sequence, 0.3), formula)


def test_loreun(page, logits):
    loss = -log_p(logits, page.labels)[page.labels != -100]
    weights_f, weights_r = ((sign * loss.detach()).softmax(0) for sign in (-0.1, 0.25))
    batch = logits, page.labels
    same(logits, page.loreun(batch, batch), (weights_r * loss).sum() - (weights_f * loss).sum())


def test_npo_without_logits(page):
    hidden = page.model.transformer(page.tokens).last_hidden_state[:, :-1].detach().requires_grad_()
    reference = torch.tensor([30.0, 20.0])
    whole = page.npo(page.model.lm_head(hidden), page.labels, page.sequence, reference)
    parts = page.npo_without_logits(hidden, page.model.lm_head, page.labels, page.sequence, reference)
    same(hidden, parts, whole)
