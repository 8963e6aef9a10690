"""SalUn's mask: which weights, how many, and that the others stay where they are."""

from __future__ import annotations

import pytest
import torch

from loreun_bench.training.constraints import GradientMask, HardMask
from loreun_bench.training.saliency import top_fraction


def test_the_mask_at_25_percent_is_the_top_and_not_the_bottom():
    gradients = [torch.tensor([0.1, -9.0, 0.2, 0.3]), torch.tensor([[8.0, -0.4], [0.0, 0.5]])]
    masks = top_fraction(gradients, 0.25)
    assert masks[0].tolist() == [False, True, False, False]
    assert masks[1].tolist() == [[True, False], [False, False]]


def test_the_rank_is_over_all_tensors_together():
    masks = top_fraction([torch.full((10,), 5.0), torch.full((10,), 1.0)], 0.5)
    assert masks[0].all()
    assert not masks[1].any()


@pytest.mark.parametrize("density", [0.01, 0.1, 0.25, 0.5, 0.99, 1.0])
def test_exactly_the_asked_share_is_chosen_and_ties_go_to_the_earlier(density):
    gradients = [torch.zeros(60), torch.zeros(40)]
    chosen = torch.cat(top_fraction(gradients, density))
    assert chosen.sum() == round(100 * density)
    assert chosen[: round(100 * density)].all()


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_weights_outside_a_hard_mask_do_not_move_a_bit(optimiser):
    torch.manual_seed(0)
    parameter = torch.nn.Parameter(torch.randn(1000))
    before = parameter.detach().clone()
    mask = top_fraction([torch.randn(1000)], 0.25)
    constraint = HardMask([parameter], mask)
    made = (
        torch.optim.SGD([parameter], 0.1, momentum=0.9, weight_decay=0.1)
        if optimiser == "sgd"
        else torch.optim.Adam([parameter], 0.1, weight_decay=0.1)
    )
    for _ in range(5):
        made.zero_grad()
        (parameter * torch.randn(1000)).sum().backward()
        constraint.before_step()
        made.step()
        constraint.after_step()
    assert torch.equal(parameter[~mask[0]], before[~mask[0]])
    assert (parameter[mask[0]] != before[mask[0]]).all()


def test_a_gradient_mask_lets_weight_decay_move_the_rest_as_the_reference_code_did():
    parameter = torch.nn.Parameter(torch.ones(4))
    constraint = GradientMask([parameter], [torch.tensor([True, False, False, False])])
    made = torch.optim.SGD([parameter], 0.1, weight_decay=0.1)
    parameter.sum().backward()
    constraint.before_step()
    made.step()
    constraint.after_step()
    assert parameter.tolist() == pytest.approx([0.89, 0.99, 0.99, 0.99])
