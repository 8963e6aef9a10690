"""What each setting of the fast CIFAR-10 recipe is worth: test accuracy and time with it and without it.

    python benchmarks/recipe.py [VARIANT …] [--epochs 10] [--seeds 1] [--threads 1] [--precision auto]

Trains on all 50,000 training images (`data prepare cifar10` once before) and appends a line for each training to
benchmarks/results/recipe.jsonl; what is there already is not trained again. --show prints the table of what is there.
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


def trained(data: Dataset, name: str, seed: int, epochs: int, precision: str) -> dict[str, Any]:
    """Train once; what came of it."""
    recipe, settings = VARIANTS[name]
    model, context = begun("airbench", settings, Recipe(epochs=epochs, **RECIPE | recipe), seed, precision)
    everybody = torch.arange(len(data.train))
    start = time.perf_counter()
    fit(model, ImageSet(data.train, everybody, data.train_labels), None, context)
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
    """The mean of each variant that was trained, at the same length and precision."""
    rows: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for line in RESULTS.read_text().splitlines():
        row = json.loads(line)
        rows.setdefault((row["epochs"], row["precision"], row["threads"], row["variant"]), []).append(row)
    shown = [
        [
            *key,
            f"{statistics.mean(r['test_acc'] for r in found):.2f}",
            f"{statistics.mean(r['test_acc_flip'] for r in found):.2f}",
            len(found),
            min(r["seconds"] for r in found),
        ]
        for key, found in rows.items()
    ]
    head = ["epochs", "precision", "threads", "variant", "test accuracy", "with its mirror", "n", "seconds"]
    return tabulate(shown, head, disable_numparse=True)


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", default=list(VARIANTS))
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
        for name in asked.variants:
            about = {
                "variant": name, "seed": seed, "epochs": asked.epochs, "precision": precision, "threads": asked.threads,
                "device_name": environment.describe("cpu")["device_name"],
            }  # fmt: skip
            known = RESULTS.read_text().splitlines() if RESULTS.exists() else []
            if not any(about.items() <= json.loads(line).items() for line in known):
                row = about | environment.commit() | trained(data, name, seed, asked.epochs, precision)
                with RESULTS.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    print(table())


if __name__ == "__main__":
    main()
