"""An unlearned pipeline as a folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from loreun_bench.errors import UserError
from loreun_bench.generation.config import GenerationConfig
from loreun_bench.generation.pipeline import pipelines
from loreun_bench.generation.pipeline.files import INDEX, PARTS, read_json
from loreun_bench.harness.files import written
from loreun_bench.harness.records import Record
from loreun_bench.harness.stage import digest
from loreun_bench.harness.store import Artifact


def export(config: GenerationConfig, record: Record, artifact: Artifact, to: Path) -> str:
    """Write the pipeline in diffusers' format, its denoiser unlearned, and return what is to be said. UserError if the
    folder is there, or the pipeline that was unlearned has changed."""
    found = pipelines.find(config.pipeline)
    if record.conditions.get("pipeline") not in (None, digest(found.files)[:8]):
        raise UserError(f"pipeline {found.folder} is not the one that was unlearned: it has changed since")
    if to.exists():
        raise UserError(f"--to {to}: it is there already; an unlearned pipeline is a new folder")
    moved = artifact.tensors() if artifact.values().get("moved") else {}
    unet = pipelines.load(found.folder, "cpu", "fp32").unet
    if unknown := unet.load_state_dict(moved, strict=False).unexpected_keys:
        raise UserError(f"the unlearned weights do not fit the pipeline: {unknown[0]}")
    with written(to):
        for name in found.files:
            if not name.startswith("unet/"):
                (to / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(found.folder / name, to / name)
        (to / INDEX).write_text(json.dumps(_index(found.folder), indent=2))
        unet.save_pretrained(to / "unet")  # type: ignore[operator]
    return f"{len(moved)} of {len(unet.state_dict())} tensors of the denoiser moved → {to}"


def _index(folder: Path) -> dict[str, Any]:
    """The pipeline's index, without parts that are not written, such as Stable Diffusion's safety checker: diffusers would
    look for them."""
    found = read_json(folder / INDEX, f"{folder} is not a pipeline in diffusers' format")
    left_out = {name for name, value in found.items() if isinstance(value, list) and name not in PARTS}
    more = {"requires_safety_checker": False} if "safety_checker" in left_out else {}
    return found | {name: [None, None] for name in left_out} | more
