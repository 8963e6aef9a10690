"""The loss of every network's first 20 steps, as it was: whoever changes the training loop sees it here.

    python tests/stages/test_golden.py

writes the losses anew, for a change that is meant.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from loreun_bench.classification.unlearning import fitting
from loreun_bench.classification.unlearning.networks import build_model

GOLDEN = Path(__file__).parents[1] / "golden" / "losses.json"
STEPS = 20
AUGMENTED = {"batch_size": 32, "crop": 1}
RECIPES: dict[str, dict[str, Any]] = {
    "small-cnn": {"lr": 0.05, "flip": True, **AUGMENTED},
    "resnet18": {"lr": 0.0005, "schedule": "multistep", "milestones": (1, 2), "flip": True, **AUGMENTED},
    "airbench": {
        "lr": 0.05, "momentum": 0.85, "nesterov": True, "bias_lr": 64, "label_smoothing": 0.2, "flip": "alternating",
        **AUGMENTED,
    },
}  # fmt: skip


def losses(toy: Any, name: str) -> list[float]:
    """The losses of the first steps, in float32 on one thread."""
    found, steps = list[float](), fitting.run_steps

    def heard(model: Any, batches: Iterator[Any], objective: Any, *others: Any, **options: Any) -> None:
        def kept(batch: Any) -> Any:
            loss = objective(batch)
            found.append(loss.item())
            return loss

        steps(model, batches, kept, *others, **options)

    context = toy.context()
    context.recipe = context.recipe.model_copy(update={"epochs": 4, **RECIPES[name]})
    context.limit_steps, threads = STEPS, torch.get_num_threads()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    try:
        fitting.run_steps = heard
        fitting.fit(build_model(name, {}, 1, 3, (10, 10)), toy.image_set("trained"), None, context)
    finally:
        fitting.run_steps = steps
        torch.set_num_threads(threads)
    return [round(loss, 5) for loss in found]


@pytest.mark.parametrize("name", RECIPES)
def test_the_first_losses_are_those_that_they_were(toy: Any, name: str) -> None:
    expected = json.loads(GOLDEN.read_text())[name]
    assert len(expected) == STEPS
    assert losses(toy, name) == pytest.approx(expected, rel=2e-3, abs=1e-4)  # processors add in another order


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from conftest import Toy

    GOLDEN.write_text(json.dumps({name: losses(Toy(), name) for name in RECIPES}, indent=1) + "\n")
