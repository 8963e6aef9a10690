"""How far pictures moved from those that the original model makes of the same first latents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loreun_bench.decorators import metric

if TYPE_CHECKING:
    from torch import Tensor

    from loreun_bench.generation.scene import Scene, Side


@metric(
    "shift",
    columns={"kept_shift": "kept shift", "forget_shift": "forget shift"},
    unit="",
    best={"kept_shift": "low", "forget_shift": "high"},
    needs={"original"},
    span=(0, 2),
    paper="as the distance to the original's pictures in Lu et al., MACE, CVPR 2024; here on the classifier's features",
    track="generation",
    about_classes=True,
)
def shift(scene: Scene) -> dict[str, float]:
    """kept shift, forget shift: 1 - cosine of the classifier's features of a picture and of the original model's at the same
    seed and prompt, the mean over the pictures of kept and of forgotten classes: 0 where forgetting changed nothing."""
    import torch
    from torch.nn.functional import cosine_similarity

    here, before = _features(scene, "images"), _features(scene, "original")
    both = sorted(here.keys() & before.keys())
    labels = scene.images.labels
    assert labels is not None
    if not both:
        return {}
    moved = 1 - cosine_similarity(torch.stack([here[k] for k in both]), torch.stack([before[k] for k in both]))
    gone = torch.isin(labels[both], torch.tensor(scene.forget))
    found = {"kept_shift": moved[~gone], "forget_shift": moved[gone]}
    return {key: float(part.mean().clamp(0, 2)) for key, part in found.items() if len(part)}


def _features(scene: Scene, side: Side) -> dict[int, Tensor]:
    """The features [d] of every readable picture, by its place."""
    import torch

    classifier = scene.need_classifier("shift")
    stream = scene.stream(side, torch.arange(len(scene.source(side))), f"{classifier.name} on the {side}")
    parts = [(positions.tolist(), classifier.features(pixels)) for positions, pixels in stream]
    return {k: row for positions, rows in parts for k, row in zip(positions, rows, strict=True)}
