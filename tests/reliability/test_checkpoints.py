"""Pins that a stage killed at random steps, several times, ends with the result of one that was not: training, and every
built-in gradient method of classification. (tests/generation/test_checkpoints.py has the other track's.)"""

from __future__ import annotations

import os
from random import Random

import pytest
import torch
from helpers import usually
from killing import OFTEN, Stages, checkpoint, ended, killed

from loreun_bench.harness.work import execute
from loreun_bench.plugins import load_plugin

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that begin as this one is")

SMALL = {"epochs": 2, "batch_size": 64}
FEW = {"epochs": 2, "batch_size": 16}  # pictures of the forget set alone
CONFIG = {
    "name": "killed", "dataset": "digits", "seeds": 1, "device": "cpu", "noise_floor": False, "limit_images": 200,
    "train": {"epochs": 3, "batch_size": 64, "crop": 1, "flip": True}, "scenarios": [{"kind": "random", "fraction": 0.3}],
    "metrics": ["accuracy"], "weightings": ["none", "w_f+w_r", "loreun-s", "random", "falw"],
    "methods": {
        "Retrain": {}, "RL": SMALL, "RL:paired": SMALL | {"schedule": "paired", "lr_schedule": "cosine"}, "SalUn": SMALL,
        "FT": SMALL, "GA": FEW, "NegGrad+": SMALL | {"optimizer": "adam"}, "SCRUB": SMALL | {"ascents": 1},
        "SCRUB+R": SMALL | {"ascents": 1}, "SFR-on": {"steps_taken": 5, "every": 2, "batch_size": 32}, "Bad-T": SMALL,
        "Boundary-shrink": FEW, "Boundary-expand": FEW, "CF-k": SMALL, "EU-k": SMALL, "CT": SMALL,
        "DELETE": FEW, "MSG": SMALL, "l1-sparse": SMALL,
    },
}  # fmt: skip
ROWS = [
    "original", "Retrain", "RL", "RL w_f+w_r", "RL loreun-s", "RL random", "RL falw", "RL:paired w_f+w_r", "SalUn w_f+w_r",
    "FT", "GA", "NegGrad+ loreun-s", "SCRUB w_f+w_r", "SCRUB+R", "SFR-on loreun-s", "Bad-T", "Boundary-shrink", "CF-k",
    "Boundary-expand", "EU-k", "CT", "DELETE", "MSG", "l1-sparse",
]  # fmt: skip


def stages_of(config, folder):
    """The stages, planned where no file of the user's is written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOREUN_STORE", str(folder / "store"))
        patch.setenv("LOREUN_DATA", str(folder / "data"))
        return Stages({**CONFIG, **config}, folder / "store")


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    return stages_of({}, tmp_path_factory.mktemp("killed"))


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setenv("LOREUN_CHECKPOINT_MINUTES", str(OFTEN))


def check_kills(stages, row, kills=2, most=3):
    """The artifact of a stage that is killed so often, at random steps, is that of one run; so are its counts."""
    stage = stages.stages[f"random-30% seed 0 {row}"]
    whole, task, random = stages.made(stage), stages.task(stage), Random(row)
    stages.forgotten(whole)
    for _ in range(kills):
        killed(task, random.randint(2, most))
    found = stages.run(task)
    assert found.digest == whole.digest
    assert found.cost["resumed"] == kills
    counts = ("forward_samples", "backward_samples")
    assert [found.cost[name] for name in counts] == [whole.cost[name] for name in counts]
    assert not stages.folder(task).exists()


@pytest.mark.parametrize("row", usually(*ROWS[::3], of=ROWS))
def test_a_stage_that_is_killed_twice_ends_with_the_same_result(stages, row):
    check_kills(stages, row)


@pytest.mark.parametrize(
    "train",
    [
        {"optimizer": "adam", "schedule": "constant"},
        {"optimizer": "sgd", "schedule": "multistep", "milestones": [1, 2], "gamma": 0.1},
    ],
    ids=["adam", "multistep"],
)
def test_training_with_the_best_epoch_chosen_ends_the_same_after_kills(tmp_path, train):
    config = {"protocol": "paper", "train": CONFIG["train"] | train, "methods": {"Retrain": {}}, "weightings": ["none"]}
    check_kills(stages_of(config, tmp_path), "original", kills=3)


NETWORK = """
import random
import numpy as np
import torch
from torch import nn

class Noisy(nn.Sequential):
    def forward(self, x):
        scale = 1 + (random.random() + np.random.rand()) / 4 if self.training else 1
        return super().forward(x * scale)

def network(channels, classes, size):
    return Noisy(
        nn.Flatten(), nn.Linear(channels * size[0] * size[1], 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(16, classes),
    )
"""


@pytest.mark.parametrize("row", ["original", "RL w_f+w_r"])
def test_a_network_of_the_users_with_global_randomness_ends_the_same_after_kills(tmp_path, row):
    (tmp_path / "net.py").write_text(NETWORK)
    config = {"model": f"{tmp_path / 'net.py'}:network", "methods": {"RL": SMALL}, "weightings": ["w_f+w_r"]}
    check_kills(stages_of(config, tmp_path), row, kills=3)


IMPORTING = """
from pathlib import Path
import torch
from torch import nn
from helper import scale

class Reading(nn.Linear):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x):
        if self.training and self.steps == 2:
            open(Path(__file__).with_name("once.txt")).read()
        self.steps += self.training
        return super().forward(x)

def network(channels, classes, size):
    return nn.Sequential(nn.Flatten(), Reading(channels * size[0] * size[1], classes * scale))
"""


@pytest.mark.parametrize("change", [False, True])
def test_what_a_network_imports_is_another_after_a_kill(tmp_path, monkeypatch, change):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "net.py").write_text(IMPORTING)
    (tmp_path / "helper.py").write_text("scale = 1\n")
    (tmp_path / "once.txt").write_text("read in the first step")
    config = {"model": f"{tmp_path / 'net.py'}:network", "methods": {"RL": SMALL}, "weightings": ["none"]}
    stages = stages_of(config, tmp_path)
    task = stages.task(stages.stages["random-30% seed 0 original"])
    killed(task, 4)
    if change:
        (tmp_path / "helper.py").write_text("scale = 2 - 1\n")
    found = stages.run(task)
    assert ("resumed" in found.cost) != change
    assert found.manifest["used"].keys() >= {"0:helper.py", "0:once.txt"}


COUNTING = """
from torch import nn

class Counting(nn.Sequential):
    calls = 0

    def forward(self, x):
        self.calls += self.training
        return super().forward(x * (1 + self.calls % 3))

def network(channels, classes, size):
    return Counting(nn.Flatten(), nn.Linear(channels * size[0] * size[1], classes))
"""


def test_a_network_that_counts_outside_its_buffers_begins_anew(tmp_path):
    (tmp_path / "net.py").write_text(COUNTING)
    config = {"model": f"{tmp_path / 'net.py'}:network", "methods": {"RL": SMALL}, "weightings": ["none"]}
    stages = stages_of(config, tmp_path)
    stage = stages.stages["random-30% seed 0 original"]
    whole, task = stages.made(stage), stages.task(stage)
    stages.forgotten(whole)
    killed(task, 4)
    found = stages.run(task)
    assert found.digest == whole.digest
    assert "resumed" not in found.cost


PLUGIN = """
from dataclasses import dataclass
import torch
from loreun_bench import method
from loreun_bench.classification import GradientMethod

@method("mine", uses={{"retain"}})
@dataclass(frozen=True)
class Mine(GradientMethod):
    "A method."
    {declared}
    def prepare(self, model, data, context):
        context.kept |= {{"seen": torch.zeros(()), "loop": context.kept.get("loop", 0) + 1}}

    def penalty(self, model, epoch, context):
        context.kept["seen"] += 1
        return {penalty}

    def unlearn(self, model, data, context):
        super().unlearn(model, data, context)
        return super().unlearn(model, data, context)
"""
INFINITE = "torch.tensor(float('inf')) if context.kept['seen'] == context.kept['loop'] == 1 else None"
DECLARED, PENALTY = "resumable = True", "context.kept['seen'] * sum(p.square().sum() for p in model.parameters()) / 100"


def plugged(tmp_path, declared, penalty=PENALTY):
    (tmp_path / "mine.py").write_text(PLUGIN.format(declared=declared, penalty=penalty))
    load_plugin(tmp_path / "mine.py")
    return stages_of({"methods": {"mine": SMALL}, "weightings": ["none"]}, tmp_path)


def test_a_method_that_says_so_goes_on_with_what_it_keeps_and_in_its_second_loop(tmp_path):
    stages = plugged(tmp_path, DECLARED)  # of four steps a loop
    stage = stages.stages["random-30% seed 0 mine"]
    whole, task = stages.made(stage), stages.task(stage)
    stages.forgotten(whole)
    for step in (3, 5, 2):
        killed(task, step)
    assert checkpoint(stages, task, 2)
    found = stages.run(task)
    assert found.digest == whole.digest
    assert found.manifest["key"] == whole.manifest["key"]
    assert found.cost["resumed"] == 3
    assert found.cost["backward_samples"] == whole.cost["backward_samples"]


WEIGHTING = """
from dataclasses import dataclass
import torch
from loreun_bench import weighting

@weighting("by-step")
@dataclass(frozen=True)
class ByStep:
    "Another share of the batch in each step."
    resumable = True

    def weights(self, batch):
        return ((torch.arange(len(batch.labels)) + batch.step) % 3).float()
"""


def test_a_weighting_of_the_users_is_told_the_steps_that_were_done_before_the_kill(tmp_path):
    (tmp_path / "by_step.py").write_text(WEIGHTING)
    load_plugin(tmp_path / "by_step.py")
    check_kills(stages_of({"methods": {"RL": SMALL}, "weightings": ["by-step"]}, tmp_path), "RL by-step")


def test_a_method_that_does_not_say_so_begins_anew(tmp_path):
    stages = plugged(tmp_path, "")
    stage = stages.stages["random-30% seed 0 mine"]
    whole, task = stages.made(stage), stages.task(stage)
    stages.forgotten(whole)
    killed(task, 3)
    assert not stages.folder(task).exists()
    found = stages.run(task)
    assert found.digest == whole.digest
    assert "resumed" not in found.cost


def test_a_loss_that_was_not_finite_before_the_kill_is_not_forgotten(tmp_path):
    stages = plugged(tmp_path, DECLARED, INFINITE)
    task = stages.task(stages.stages["random-30% seed 0 mine"])
    killed(task, 4)
    outcome = execute(task)
    assert (outcome.status, "by step 4" in outcome.reason) == ("diverged", True)
    assert not stages.folder(task).exists()  # it would again


def test_a_stage_of_fresh_results_takes_no_checkpoint(stages):
    stage = stages.stages["random-30% seed 0 FT"]
    task = stages.task(stage, replace=True)
    killed(task, 3)
    assert stages.folder(task).exists()
    assert "resumed" not in stages.run(task).cost


def test_a_method_without_steps_begins_anew(tmp_path):
    stages = stages_of({"methods": {"SSD": {}}, "weightings": ["none"]}, tmp_path)
    task = stages.task(stages.stages["random-30% seed 0 SSD"])
    assert ended(task, 1) == 0
    assert not stages.folder(task).exists()
    assert torch.get_num_threads() == 1
