"""What each setting of the fast CIFAR-10 recipe is worth, and what bf16 costs: test accuracy and time with and without it.

    python benchmarks/recipe.py [VARIANT …] [--network airbench] [--widths 64,256,256] [--images 50000] [--epochs 10]
                                [--seeds 1] [--threads 1] [--precision auto]

Trains on CIFAR-10 (`data prepare cifar10` once before) and appends a line for each training to
benchmarks/results/recipe.jsonl; what is there already is not trained again. --show prints the table of what is there
(±: standard deviation over seeds). ResNet-18 has one variant, `recipe`: SGD as in the paper's presets, in few epochs.
"""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor, nn

from loreun_bench.classification.config import Recipe
from loreun_bench.classification.data.images import Dataset, load_dataset
from loreun_bench.classification.data.prepared import resolve, verified
from loreun_bench.classification.models.layers import Mirrored
from loreun_bench.classification.scoring.evaluation import predict
from loreun_bench.classification.unlearning.fitting import fit
from loreun_bench.classification.unlearning.method import Context, ImageSet
from loreun_bench.classification.unlearning.networks import adapt, build_model
from loreun_bench.classification.unlearning.protocols import PROTOCOLS
from loreun_bench.harness import environment
from loreun_bench.harness.engines.local import PRELOAD
from loreun_bench.training.clock import Meter
from loreun_bench.training.loop import automatic

CLASSES = 10
RESULTS = Path(__file__).parent / "results" / "recipe.jsonl"
RECIPE: dict[str, Any] = {
    "lr": 1.5, "batch_size": 1024, "momentum": 0.85, "nesterov": True, "weight_decay": 1.3e-3, "bias_lr": 64, "crop": 2,
    "flip": "alternating", "label_smoothing": 0.2,
}  # fmt: skip
RESNET: dict[str, Any] = {"lr": 0.1, "batch_size": 256, "crop": 4, "flip": True, "schedule": "one-cycle"}
NETWORKS = {"airbench": RECIPE, "resnet18": RESNET}
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # what of the recipe, and of the model, is otherwise
    "recipe": ({}, {}),
    "first layer learns": ({}, {"whiten": False}),
    "random start": ({}, {"dirac": False}),
    "random flips": ({"flip": True}, {}),
    "labels as they are": ({"label_smoothing": 0.0}, {}),
    "biases learn as all else": ({"bias_lr": 1.0}, {}),
    "plain momentum": ({"nesterov": False}, {}),
}


def begun(name: str, settings: dict[str, Any], recipe: Recipe, seed: int, precision: str) -> tuple[nn.Module, Context]:
    """A fresh model for pictures of CIFAR-10, and how it is to be trained on a CPU."""
    torch.manual_seed(seed)

    def fresh() -> nn.Module:
        return adapt(build_model(name, settings, 3, CLASSES, (32, 32)), CLASSES, "channels_last")

    return fresh(), Context(
        device="cpu", precision=precision, protocol=PROTOCOLS["corrected"], recipe=recipe, phases={}, seed=seed,
        meter=Meter("cpu"), fresh=fresh,
    )  # fmt: skip


def trained(data: Dataset, about: dict[str, Any]) -> dict[str, Any]:
    """Train once; what came of it."""
    recipe, settings = VARIANTS[about["variant"]]
    if about["widths"]:
        settings = settings | {"widths": about["widths"]}
    made = Recipe(epochs=about["epochs"], **NETWORKS[about["network"]] | recipe)
    model, context = begun(about["network"], settings, made, about["seed"], about["precision"])
    first = torch.arange(about["images"])
    start = time.perf_counter()
    fit(model, ImageSet(data.train, first, data.train_labels[first]), None, context)
    seconds = time.perf_counter() - start
    logits = predict(model, data.test, torch.arange(len(data.test)))
    mirrored = predict(Mirrored(model), data.test, torch.arange(len(data.test)))
    return {
        "test_acc": accuracy(logits, data.test_labels), "test_acc_flip": accuracy(mirrored, data.test_labels),
        "seconds": round(seconds, 1),
    }  # fmt: skip


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """In percent."""
    return 100 * float((logits.argmax(1) == labels).float().mean())


def table() -> str:
    """The mean of each variant that was trained, by network, length and precision."""
    rows: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in map(json.loads, RESULTS.read_text().splitlines()):
        network = " ".join([row["network"], *(map(str, row["widths"]))])
        rows.setdefault((network, row["images"], row["epochs"], row["precision"], row["variant"]), []).append(row)
    shown = [[*key, *(_mean(found, name) for name in ("test_acc", "test_acc_flip")), len(found),
              f"{min(r['seconds'] for r in found):.0f}"] for key, found in sorted(rows.items())]  # fmt: skip
    head = ["network", "images", "epochs", "precision", "variant", "test accuracy", "with its mirror", "n", "seconds, least"]
    return tabulate(shown, head, disable_numparse=True)


def _mean(found: list[dict[str, Any]], name: str) -> str:
    """Over seeds, with what it varies by."""
    values = [row[name] for row in found]
    return f"{statistics.mean(values):.2f}" + (f" ±{statistics.stdev(values):.2f}" if len(values) > 1 else "")


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", default=list(VARIANTS))
    parser.add_argument("--network", choices=NETWORKS, default="airbench")
    parser.add_argument("--widths", type=lambda text: [int(n) for n in text.split(",")], default=[64, 256, 256])
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--show", action="store_true")
    asked = parser.parse_args()
    importlib.import_module(PRELOAD)  # which keeps memory from step to step, as in a sweep's processes
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(asked.threads)
    precision = automatic("cpu") if asked.precision == "auto" else asked.precision
    info = resolve("cifar10")
    data = load_dataset(verified(info.file, info.sha256), tuple(info.mean), tuple(info.std), info.classes, "cpu")
    for seed in range(0 if asked.show else asked.seeds):
        for name in asked.variants if asked.network == "airbench" else ["recipe"]:
            about = {
                "network": asked.network, "widths": asked.widths if asked.network == "airbench" else [],
                "images": asked.images, "variant": name, "seed": seed, "epochs": asked.epochs, "precision": precision,
                "threads": asked.threads, "device_name": environment.describe("cpu")["device_name"],
            }  # fmt: skip
            known = RESULTS.read_text().splitlines() if RESULTS.exists() else []
            if not any(about.items() <= json.loads(line).items() for line in known):
                row = about | environment.commit() | trained(data, about)
                with RESULTS.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    print(table())


if __name__ == "__main__":
    main()
