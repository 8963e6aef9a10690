"""What `check` runs of a plug-in of the classification track, on toy data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from loreun_bench import config as configuration
from loreun_bench.classification.config import Recipe, Scenario
from loreun_bench.classification.data.arrays import checked
from loreun_bench.classification.data.images import Dataset, Images
from loreun_bench.classification.data.prepared import DataInfo, difference, info_of
from loreun_bench.classification.data.returned import as_arrays
from loreun_bench.classification.data.splits import ForgetSplit, Population, draw, draw_all, with_losses
from loreun_bench.classification.scoring.ensembles import Ensembles
from loreun_bench.classification.scoring.evaluation import Outputs, evaluate
from loreun_bench.classification.unlearning.method import Context, Data, ImageSet
from loreun_bench.classification.unlearning.networks import build_model
from loreun_bench.classification.unlearning.protocols import PROTOCOLS
from loreun_bench.classification.unlearning.trial import try_model
from loreun_bench.errors import UserError
from loreun_bench.harness.conformance import checked_method, checked_values
from loreun_bench.harness.measuring import called
from loreun_bench.registry import Entry, registry
from loreun_bench.training.clock import Meter
from loreun_bench.training.guards import checked_model, checked_weights
from loreun_bench.weightings import phases_of


def _toy() -> tuple[Dataset, ForgetSplit]:
    """240 + 60 images of three kinds of noise, a tenth to forget."""
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    pixels = torch.from_numpy(rng.integers(0, 80 * (labels[:, None, None, None] + 1), (300, 8, 8, 1)).astype(np.uint8))
    y, statistics = torch.from_numpy(labels), (torch.tensor([0.3]), torch.tensor([0.2]))
    data = Dataset(Images(pixels[:240], *statistics), y[:240], Images(pixels[240:], *statistics), y[240:], 3)
    scenario: Scenario = configuration.check(Scenario, {"kind": "random", "fraction": 0.1}, "scenario")
    return data, draw(labels[:240], labels[240:], scenario, validation=0.1, seed=0)


def _toy_model() -> torch.nn.Module:
    return build_model("small-cnn", {"width": 4}, 1, 3, (8, 8))


def _run(entry: Entry, weighting: str) -> tuple[Meter, str]:
    """Unlearn a tenth of the toy data: what was counted, and a note on the weights."""
    data, split = _toy()
    values = {"epochs": 1} if "epochs" in entry.item.__dataclass_fields__ else {}
    method = configuration.settings(entry, values, entry.name)
    phases = phases_of(registry("weightings").get(weighting).item())
    context = Context(
        device="cpu", precision="fp32", protocol=PROTOCOLS["corrected"], recipe=Recipe(epochs=1), phases=phases, seed=0,
        meter=Meter("cpu"), fresh=_toy_model,
    )  # fmt: skip
    torch.manual_seed(0)
    model = _toy_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parts = {name: getattr(split, name) for name in ("forget", "retain", "validation")}
    sets = {name: ImageSet(data.train, index, split.labels[index]) for name, index in parts.items()}
    with context.meter:
        model = checked_model(method.unlearn(model, Data(sets, method.uses, 3), context))
    return context.meter, checked_weights(before, model.state_dict())


def _method(entry: Entry) -> str:
    """It reads only what it declares, returns a model that fits, with finite weights, and counts what it does."""
    return checked_method(entry, _run, {"scenarios": [{"kind": "random", "fraction": 0.2}]})


def _metric(entry: Entry) -> str:
    """It returns a finite number for columns that it declares."""
    if entry.info["derived"]:
        keys = {k: 50.0 for e in registry("metrics").entries() if not e.info["derived"] for k in e.info["columns"]}
        values = {next(iter(entry.info["columns"])): entry.item(keys, keys)}
    elif "seeds" in entry.info["needs"]:
        values = called(entry, _toy_ensembles(entry.info["seeds"]))
    else:
        values = called(entry, _toy_outputs())
    return checked_values(entry, values)


def _toy_outputs() -> Outputs:
    """All that a metric may ask for, of a model that is its own original and retrained one."""
    data, split = _toy()
    model = _toy_model()
    found = evaluate(model, data, split, PROTOCOLS["corrected"], 0, {})
    return replace(
        found, retrain=found.sets, original=found.sets, original_weights=model.state_dict(), model=model,
        data=ImageSet(data.train, split.forget, split.labels[split.forget]), original_losses=found.sets["forget"].losses,
    )  # fmt: skip


def _toy_ensembles(seeds: int) -> Ensembles:
    """Margins of models that are alike."""
    stream = torch.Generator().manual_seed(0)
    sizes = {"forget": 24, "retain": 192, "validation": 24, "test": 60}
    own, other = ({name: torch.randn(seeds, n, generator=stream) for name, n in sizes.items()} for _ in range(2))
    return Ensembles(own, other)


def _dataset(entry: Entry) -> str:
    """It gives arrays of the shape, the classes, names and counts that it declares."""
    found, adapt = as_arrays(f"data set '{entry.name}'", entry.item(Path(), False)), entry.info["adapt"]
    arrays = checked(entry.name, found if adapt is None else adapt(found), entry.info["names"])
    if other := difference(info_of(entry.name, arrays), entry):
        raise UserError(f"it declares otherwise: {other}")
    shape, classes = arrays.train_images.shape[1:], len(arrays.names)
    said = f"; {arrays.note}" if arrays.note else ""
    return f"{len(arrays.train_images)} + {len(arrays.test_images)} images {tuple(shape)}, {classes} classes{said}"


def _model(entry: Entry) -> str:
    """It builds for grey 8×8 and colour 32×32 images, and does there all that a sweep asks of a model."""
    for channels, side in ((1, 8), (3, 32)):
        shape, every = (side, side, channels), (10,) * 7
        info = DataInfo(
            name="toy", file="", sha256="", shape=shape, classes=7, train=every, test=every,
            mean=(0.5,) * channels, std=(0.25,) * channels,
        )  # fmt: skip
        trial = try_model(entry.name, {}, info)
    found = f"{sum(p.numel() for p in trial.model.parameters()):,} weights for 32×32 colour images"
    return "; ".join([found, *(note.removeprefix(f"model '{entry.name}' ") for note in trial.notes)])


def _scenario(entry: Entry) -> str:
    """It chooses some of the toy pictures and not all."""
    given = {"kind": entry.name}
    scenario: Scenario = configuration.check(Scenario, given, f"scenario {entry.name} as it is without settings")
    labels = np.arange(300) % 3
    files = np.array([f"{number:03}.png" for number in range(300)], dtype=object)
    people = Population(labels[:240], labels[240:], ("dark", "grey", "light"), {"file": files[:240]}, {"file": files[240:]})
    drawn = draw_all(with_losses(people, labels[:240] / 3.0), scenario, validation=0.1, seed=0)[-1]
    return f"{scenario.label}: {len(drawn.forget)} of 216 pictures, {len(drawn.test_forget)} of 60 test pictures apart"


CHECKS = {"methods": _method, "scenarios": _scenario, "metrics": _metric, "datasets": _dataset, "models": _model}
