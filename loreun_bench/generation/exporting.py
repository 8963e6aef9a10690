"""An unlearned pipeline as a folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from loreun_bench.errors import UserError
from loreun_bench.generation.config import GenerationConfig
from loreun_bench.generation.pipeline import pipelines
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
        for name in ("model_index.json", *found.files):
            if not name.startswith("unet/"):
                (to / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(found.folder / name, to / name)
        unet.save_pretrained(to / "unet")  # type: ignore[operator]
    return f"{len(moved)} of {len(unet.state_dict())} tensors of the denoiser moved → {to}"
