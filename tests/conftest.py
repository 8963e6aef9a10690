"""What every test shares: folders of its own, and toy data small enough for milliseconds."""

from __future__ import annotations

import gc
import sys

import numpy as np
import pytest
import torch

from loreun_bench.classification.config import Recipe, Scenario
from loreun_bench.classification.data.images import Dataset, Images
from loreun_bench.classification.data.splits import ForgetSplit, draw
from loreun_bench.classification.stages import build_model
from loreun_bench.classification.unlearning.method import Context, Data, ImageSet
from loreun_bench.classification.unlearning.protocols import PROTOCOLS
from loreun_bench.cli import app, main
from loreun_bench.plugins import refresh
from loreun_bench.registry import TRACKS, kinds, registry
from loreun_bench.training.clock import Meter

MEMORY = 12 << 30  # bytes a process of the tests may take

torch.set_num_threads(1)


def pytest_configure():
    """A test that takes memory without end fails, instead of the machine. (CUDA reserves more than it takes.)"""
    if sys.platform == "linux" and not torch.cuda.is_available():
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """No test reads or writes the user's store or data."""
    monkeypatch.setenv("LOREUN_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("LOREUN_DATA", str(tmp_path / "data"))


@pytest.fixture(scope="module", autouse=True)
def libraries_are_no_garbage():
    """What is there when a file's tests begin is not looked through each time for garbage: half the time of many."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def own_registries():
    """What a test's plug-ins register is gone after it."""
    found = [registry(kind, track) for track in TRACKS for kind in kinds(track)]
    saved = [{entry.name: entry for entry in each.entries()} for each in found]
    yield
    for each, entries in zip(found, saved, strict=True):
        each._entries = entries
    refresh(always=True)


@pytest.fixture
def command(monkeypatch, capsys):
    """Run the command line in this process: (exit code, stdout, stderr)."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["loreun-bench", *map(str, words)])
        app.registered_commands.clear()
        app.registered_groups.clear()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    return run


class Toy:
    """300 images of three brightnesses, 10×10 grey, split 240 + 60, and everything a method needs."""

    def __init__(self, kind: str = "random", seed: int = 0, protocol: str = "corrected", noise: int = 40) -> None:
        rng = np.random.default_rng(seed)
        labels = np.arange(300) % 3
        level = 60 * labels[:, None, None, None] + rng.integers(0, noise, (300, 10, 10, 1))
        pixels, y = torch.from_numpy(level.astype(np.uint8)), torch.from_numpy(labels)
        statistics = torch.tensor([0.3]), torch.tensor([0.2])
        self.dataset = Dataset(Images(pixels[:240], *statistics), y[:240], Images(pixels[240:], *statistics), y[240:], 3)
        scenario = Scenario(kind=kind, forget_class=1) if kind == "class" else Scenario(kind=kind, fraction=0.2)
        self.split: ForgetSplit = draw(labels[:240], labels[240:], scenario, validation=0.1, seed=seed)
        self.protocol = PROTOCOLS[protocol]

    def model(self, seed: int = 0) -> torch.nn.Module:
        torch.manual_seed(seed)
        return build_model("small-cnn", {"width": 4}, 1, 3, (10, 10))

    def image_set(self, name: str) -> ImageSet:
        index = getattr(self.split, name)
        return ImageSet(self.dataset.train, index, self.split.labels[index])

    def data(self, uses=("forget", "retain", "validation")) -> Data:
        return Data({n: self.image_set(n) for n in ("forget", "retain", "validation")}, frozenset(uses), 3)

    def context(self, phases=None, seed: int = 0, **recipe) -> Context:
        return Context(
            device="cpu", precision="fp32", protocol=self.protocol, recipe=Recipe(epochs=1, **recipe), phases=phases or {},
            seed=seed, meter=Meter("cpu"), fresh=lambda: self.model(seed=1),
        )  # fmt: skip


@pytest.fixture
def toy() -> Toy:
    return Toy()


@pytest.fixture
def make_toy() -> type[Toy]:
    return Toy
