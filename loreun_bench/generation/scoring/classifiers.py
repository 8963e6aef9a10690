"""Who recognises what a picture shows: ImageNet's ResNet-50, or a small network that is trained here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from loreun_bench.errors import UserError, did_you_mean
from loreun_bench.generation.data.names import plain
from loreun_bench.generation.scoring.images import NONE, checked, resized
from loreun_bench.generation.scoring.weights import (
    downloaded,
    fingerprint,
    is_official,
    load,
    read_state,
    read_tagged,
    write_tagged,
)
from loreun_bench.harness.seeding import seeded

if TYPE_CHECKING:
    from loreun_bench.generation.scoring.pictures import Pictures

IMAGENETTE = {
    "tench": 0, "English springer": 217, "cassette player": 482, "chain saw": 491, "church": 497, "French horn": 566,
    "garbage truck": 569, "gas pump": 571, "golf ball": 574, "parachute": 701,
}  # fmt: skip
STEPS, PASSES = 400, 2  # of training the small network: so many steps, or passes over the pictures where that is more
LARGEST = 1024  # pixels on a side of what the small network looks at
WIDTH = 32  # features of the small network: few, so that a few dozen pictures give a covariance of full rank
_BATCH = 64


@dataclass(frozen=True)
class Classifier:
    """A network and what its outputs mean.

    name: network and version of the weights. network: pixels [n, 3, H, W] in [0, 1] → (features [n, d], logits [n, k]).
    meaning: [k] int64, the class that each output stands for, -1 for those outside `classes`.
    """

    name: str
    classes: tuple[str, ...]
    network: Callable[[Tensor], tuple[Tensor, Tensor]]
    meaning: Tensor

    def predict(self, pixels: Tensor) -> Tensor:
        """[n] int64, an index into `classes`, or -1 where the largest of all outputs is none of them."""
        return self.meaning[self._run(pixels)[1].argmax(1)]

    def of(self, classes: Sequence[str]) -> Classifier:
        """The same network, its answers numbered as in `classes`. UserError if it does not know one of them."""
        return replace(self, classes=tuple(classes), meaning=renumbered(self.name, self.classes, classes)[self.meaning])

    def features(self, pixels: Tensor) -> Tensor:
        """[n, d] fp32 on the CPU: the input of the last layer."""
        return self._run(pixels)[0]

    def _run(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            features, logits = self.network(checked(pixels))
        return features.float().cpu().clone(), logits.float().cpu().clone()


def renumbered(name: str, known: Sequence[str], wanted: Sequence[str]) -> Tensor:
    """[len(known) + 1]: where each known class stands in `wanted`, NONE for those outside; the last one, too, so that
    NONE stays NONE. UserError if one that is wanted is not known."""
    names = [plain(each) for each in known]
    lacking = [each for each in wanted if plain(each) not in names]
    if lacking:
        raise UserError(f"classifier {name} does not know the class '{lacking[0]}'; {did_you_mean(lacking[0], known)}")
    numbers = {plain(each): number for number, each in enumerate(wanted)}
    return torch.tensor([*(numbers.get(each, NONE) for each in names), NONE])


def resnet50(weights: Path | None = None, device: str = "cpu") -> Classifier:
    """torchvision's ResNet-50 with IMAGENET1K_V2 and its own transforms; top-1 over all 1000 classes of ImageNet.

    weights: a file with them; without it they come from torch hub's folder or the network. UserError if neither has them.
    """
    import torchvision
    from torchvision.models import ResNet50_Weights

    official = ResNet50_Weights.IMAGENET1K_V2
    state = read_state(weights) if weights else downloaded("resnet50", official.url)
    mark = "IMAGENET1K_V2" if weights is None or is_official(weights, official.url) else f"sha256 {fingerprint(state)}"
    model = torchvision.models.resnet50()
    load(model, state, str(weights or official.url), "a ResNet-50 of torchvision")
    head, transform = model.fc, official.transforms()
    model.fc = nn.Identity()
    model, head = model.eval().requires_grad_(False).to(device), head.eval().requires_grad_(False).to(device)

    def network(pixels: Tensor) -> tuple[Tensor, Tensor]:
        features = model(transform(pixels.to(device)))
        return features, head(features)

    meaning = torch.full((1000,), NONE)
    meaning[torch.tensor(list(IMAGENETTE.values()))] = torch.arange(len(IMAGENETTE))
    return Classifier(f"resnet50 {mark}", tuple(IMAGENETTE), network, meaning)


def small(classes: tuple[str, ...], state: Mapping[str, Tensor], device: str = "cpu") -> Classifier:
    """The classifier that `train_small` trained."""
    size = int(state["size"])
    model = _Small(len(classes), size)
    load(model, state, "the state", f"a small classifier of {len(classes)} classes")
    model = model.eval().requires_grad_(False).to(device)
    name = f"small CNN, {size} px, sha256 {fingerprint(state)}"
    return Classifier(name, classes, lambda pixels: model(pixels.to(device)), torch.arange(len(classes)))


def train_small(
    pictures: Pictures,
    size: int,
    seed: int,
    steps: int | None = None,
    listen: Callable[[str, float], None] = lambda what, share: None,
) -> dict[str, Tensor]:
    """The weights of a small network trained on `pictures` at size×size pixels; the same for the same seed.

    Shifted by up to a pixel in sixteen and with noise on them, so that it also knows pictures that are a little off.
    """
    steps = steps or max(STEPS, PASSES * len(pictures) // _BATCH)
    generator = torch.Generator().manual_seed(seed)
    with seeded(seed):
        model = _Small(len(pictures.classes), size)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=steps)
    margin = max(1, size // 16)
    for step in range(steps):
        chosen = torch.randint(len(pictures), (_BATCH,), generator=generator)
        pixels = checked((pictures.load(chosen, size) + 1) / 2)
        pixels = _shifted(pixels, torch.randint(2 * margin + 1, (2,), generator=generator).tolist(), margin)
        noise = torch.randn(pixels.shape, generator=generator) * 0.1 * torch.rand(len(pixels), 1, 1, 1, generator=generator)
        loss = F.cross_entropy(model((pixels + noise).clamp(0, 1))[1], pictures.labels[chosen], label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        listen("classifier", (step + 1) / steps)
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def accuracy(classifier: Classifier, pictures: Pictures, size: int) -> float:
    """Percent of `pictures` that are recognised as what they are."""
    hits = 0
    for part in torch.arange(len(pictures)).split(256):
        pixels = checked((pictures.load(part, size) + 1) / 2)
        hits += int((classifier.predict(pixels) == pictures.labels[part]).sum())
    return 100 * hits / max(len(pictures), 1)


def save_small(path: Path, classes: tuple[str, ...], state: Mapping[str, Tensor]) -> None:
    """Write a small classifier as one .safetensors file, with the names of its classes, for `load_small`."""
    write_tagged(path, state, {"kind": "small", "classes": "\n".join(classes)})


def load_small(path: Path, device: str = "cpu") -> Classifier:
    """The classifier that `save_small` wrote. UserError if the file is something else."""
    state, tags = read_tagged(path)
    side = state.get("size")
    if side is None or side.numel() != 1 or not 0 < int(side) <= LARGEST:
        raise UserError(f"{path} is no small classifier: its `size` is no side of a picture up to {LARGEST} pixels")
    return small(tuple(tags["classes"].split("\n")), state, device)


def from_name(name: str, weights: Path | None = None, device: str = "cpu") -> Classifier:
    """The classifier that --classifier names: resnet50, a .safetensors file of `save_small`, or a file for ResNet-50."""
    if name == "resnet50":
        return resnet50(weights, device)
    path = Path(name)
    return load_small(path, device) if path.suffix == ".safetensors" else resnet50(path, device)


class _Small(nn.Module):
    """Three 3×3 convolutions, a layer of WIDTH features, a linear layer; pictures of another size are resized to its own."""

    def __init__(self, classes: int, size: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_stage(3, 16), nn.MaxPool2d(2), *_stage(16, 32), nn.MaxPool2d(2), *_stage(32, 64),
            nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64 * 16, WIDTH), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(WIDTH, classes)
        self.size: Tensor
        self.register_buffer("size", torch.tensor(size))
        self._side = size

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels in [0, 1] → (features, logits)."""
        features = self.body(2 * resized(pixels, self._side) - 1)
        return features, self.head(features)


def _stage(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def _shifted(pixels: Tensor, offset: list[int], margin: int) -> Tensor:
    """The pictures moved by `offset` - margin pixels; what comes in repeats the edge."""
    padded = F.pad(pixels, (margin,) * 4, mode="replicate")
    top, left = offset
    return padded[..., top : top + pixels.shape[-2], left : left + pixels.shape[-1]]
