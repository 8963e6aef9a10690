"""Pins that unlearning a concept, killed at random steps, ends with the result of a run that was not, for every built-in
method that takes steps."""

from __future__ import annotations

import os
import shutil
from random import Random

import numpy as np
import pytest
import torch
from helpers import generation_config, usually
from killing import OFTEN, Stages, ended, killed
from PIL import Image

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that begin as this one is")

SMALL = {"batch_size": 3, "epochs": 2}  # two steps a pass
METHODS = {
    "RL": SMALL, "SalUn": SMALL, "CA": SMALL | {"alpha": 1.0}, "EraseDiff": SMALL, "SA": SMALL | {"fisher_pictures": 2},
    "ESD-x": {"ddim_steps": 2, "iterations": 4}, "FMN": {"batch_size": 2, "steps": 4}, "UCE": {},
}  # fmt: skip
ROWS = ["RL w_f+w_r", "RL loreun-s", "RL random", "SalUn", "CA", "EraseDiff", "SA w_r", "ESD-x", "FMN"]


def least_pipeline(random_pipeline, folder):
    """The random pipeline with a denoiser of a fifth of the layers."""
    from diffusers import UNet2DConditionModel

    shutil.copytree(random_pipeline, folder)
    shutil.rmtree(folder / "unet")
    torch.manual_seed(0)
    UNet2DConditionModel(
        sample_size=8, layers_per_block=1, block_out_channels=(8, 8), cross_attention_dim=16, attention_head_dim=2,
        norm_num_groups=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).save_pretrained(folder / "unet")  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def stages(tmp_path_factory, random_pipeline):
    return stages_in(tmp_path_factory.mktemp("killed"), random_pipeline)


def stages_in(folder, pipeline, **methods):
    """The stages of a sweep of fifteen pictures."""
    random = np.random.default_rng(0)
    for name in ("ant", "bee", "cow"):
        for split, count in (("train", 5), ("test", 1)):
            (place := folder / "pictures" / split / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(random.integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(place / f"{number}.png")
    config = generation_config(
        least_pipeline(pipeline, folder / "least-sd"), dataset=str(folder / "pictures"), methods=METHODS | methods,
        limit_steps=None,
        scenarios=[{"kind": "class", "forget_class": "bee"}],
        weightings=["none", "w_f+w_r", "w_r", "loreun-s", "random"],
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOREUN_STORE", str(folder / "store"))
        patch.setenv("LOREUN_DATA", str(folder / "data"))
        return Stages(config, folder / "store")


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setenv("LOREUN_CHECKPOINT_MINUTES", str(OFTEN))


@pytest.mark.parametrize("row", usually(*ROWS[::3], of=ROWS))
def test_a_stage_that_is_killed_twice_ends_with_the_same_result(stages, row):
    (stage,) = [each for each in stages.stages.values() if each.run.endswith(":unlearn") and each.label.endswith(f" {row}")]
    whole, task, random = stages.made(stage), stages.task(stage), Random(row)
    stages.forgotten(whole)
    for _ in range(2):
        killed(task, random.choice((2, 2, 3)))
    found = stages.run(task)
    assert found.cost["resumed"] == 2
    assert found.digest == whole.digest
    assert found.values() == whole.values()
    counts = ("forward_samples", "backward_samples")
    assert [found.cost[name] for name in counts] == [whole.cost[name] for name in counts]


def test_a_method_that_solves_takes_no_checkpoint(stages):
    (stage,) = [each for each in stages.stages.values() if each.run.endswith(":unlearn") and each.label.endswith(" UCE")]
    task = stages.task(stage)
    assert ended(task, 1) == 0
    assert not stages.folder(task).exists()
