"""An unlearned pipeline, written in diffusers' format."""

from __future__ import annotations

import json
import shutil

import torch

import loreun_bench
from loreun_bench.generation.pipeline import pipelines
from loreun_bench.harness.store import Store, default_root

CONFIG = {
    "track": "generation", "name": "drawn", "seeds": 1, "scenarios": [{"kind": "class", "forget_class": "seven"}],
    "sampling": {"steps": 1, "guidance": 1.0, "images": 1, "batch_size": 10}, "limit_steps": 1, "metrics": ["ua"],
    "methods": {"ESD-x": {"iterations": 1}}, "weightings": ["none"],
}  # fmt: skip


def test_an_unlearned_pipeline_is_a_folder_that_diffusers_loads(command, tmp_path, monkeypatch):
    monkeypatch.setenv("LOREUN_STORE", str(tmp_path / "store"))
    folder = shutil.copytree(pipelines.find("digits").folder, tmp_path / "mine")
    index = json.loads((folder / "model_index.json").read_text())
    more = {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"], "requires_safety_checker": True}
    (folder / "model_index.json").write_text(json.dumps(index | more))  # as Stable Diffusion's; we leave it unread
    records = loreun_bench.sweep(CONFIG | {"pipeline": str(folder)}, out=tmp_path / "run", workers=0)
    record = next(r for r in records if r.method == "ESD-x")
    code, out, _ = command("export", tmp_path / "run", "--row", "ESD-x", "--to", tmp_path / "new")
    assert (code, "of the denoiser moved" in out) == (0, True)
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "new", low_cpu_mem_usage=False)
    moved = Store(default_root()).find(record.artifact).tensors()
    own = pipeline.unet.state_dict()
    before = pipelines.load(pipelines.find("digits").folder, "cpu", "fp32").unet.state_dict()
    assert moved
    assert all(torch.equal(own[name], moved.get(name, before[name])) for name in own)
    code, _, err = command("export", tmp_path / "run", "--row", "ESD-x", "--to", tmp_path / "new")
    assert (code, "it is there already" in err) == (2, True)
    code, out, _ = command("export", tmp_path / "run", "--row", "Original", "--to", tmp_path / "old")
    assert (code, out.startswith("0 of ")) == (0, True)
    code, out, _ = command("verify", tmp_path / "run")
    assert (code, "2 of 2 computed again are equal to the last digit" in out) == (0, True)
