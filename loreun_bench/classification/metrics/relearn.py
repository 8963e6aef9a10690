"""How soon what was forgotten is learned again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loreun_bench.decorators import metric

if TYPE_CHECKING:
    from torch import nn

    from loreun_bench.classification.scoring.evaluation import Outputs
    from loreun_bench.classification.unlearning.method import ImageSet

MOST, BATCH, RATE = 20, 64, 0.01  # epochs; SGD with momentum 0.9
WITHIN = 0.95  # of the original's accuracy


@metric(
    "relearn",
    columns={"relearn_epochs": "relearn"},
    unit="epochs",
    best="retrain",
    needs={"model", "data", "original"},
    cost=lambda sizes: MOST * sizes["forget"],
    span=(0, MOST),
    paper="Goel et al., arXiv 2201.06640; Chundawat et al., TIFS 2023 (anamnesis index)",
)
def relearn(outputs: Outputs) -> dict[str, float]:
    """relearn: epochs of training on the forget set alone until 95 % of the original's accuracy on it is reached; 0 where it
    never went, 20 where 20 are not enough. Far fewer than Retrain's: it was hidden, not forgotten."""
    import copy

    import torch
    from torch.nn.functional import cross_entropy

    from loreun_bench.training.loop import epoch

    assert outputs.model is not None
    assert outputs.data is not None
    model, forget = copy.deepcopy(outputs.model).requires_grad_(True), outputs.data
    wanted = WITHIN * outputs.original["forget"].accuracy
    optimiser = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
    generator = torch.Generator(forget.labels.device).manual_seed(outputs.seed)
    for number in range(MOST):
        if _accuracy(model, forget) >= wanted:
            return {"relearn_epochs": number}
        model.train()
        for positions in epoch(len(forget), BATCH, generator, 2):
            loss = cross_entropy(model(forget.images.batch(forget.index[positions])).float(), forget.labels[positions])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return {"relearn_epochs": MOST}


def _accuracy(model: nn.Module, samples: ImageSet) -> float:
    from loreun_bench.classification.scoring.evaluation import Predictions, predict

    return Predictions(predict(model, samples.images, samples.index), samples.labels.cpu()).accuracy
