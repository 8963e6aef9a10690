"""An unlearned classifier as a file."""

from __future__ import annotations

import json
from pathlib import Path

from loreun_bench.classification.config import ClassificationConfig
from loreun_bench.errors import UserError
from loreun_bench.harness.files import write_atomic, written
from loreun_bench.harness.records import Record
from loreun_bench.harness.store import Artifact


def export(config: ClassificationConfig, record: Record, artifact: Artifact, to: Path) -> str:
    """Write the weights as safetensors, under the names of the network's state_dict, and return what is to be said. The
    file's metadata says which network, data and normalisation they are of. UserError if it does not end in .safetensors."""
    from safetensors.torch import save

    if to.suffix != ".safetensors":
        raise UserError(f"--to {to}: an unlearned classifier is a file that ends in .safetensors")
    about = {
        "model": config.model, "model_settings": config.model_settings, "dataset": record.dataset,
        "scenario": record.scenario, "method": record.method, "weighting": record.weighting, "seeds": record.seeds,
        "conditions": record.conditions,
    }  # fmt: skip
    tensors = artifact.tensors()
    with written(to):
        to.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(to, save(tensors, {"format": "pt", "loreun_bench": json.dumps(about, sort_keys=True)}))
    return f"{len(tensors)} tensors of {Path(config.model).name} → {to}"
