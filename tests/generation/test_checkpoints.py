"""Pins that unlearning a concept, killed at random steps, ends with the result of a run that was not, for every built-in
method that takes steps."""

from __future__ import annotations

import os
from random import Random

import pytest
from helpers import generation_config
from killing import OFTEN, Stages, ended, killed

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that begin as this one is")

SMALL = {"batch_size": 2, "epochs": 1}
METHODS = {
    "RL": {"batch_size": 100, "epochs": 4}, "SalUn": {"batch_size": 100, "epochs": 3}, "CA": SMALL | {"alpha": 1.0},
    "EraseDiff": SMALL, "SA": SMALL | {"fisher_pictures": 4}, "ESD-x": {"ddim_steps": 2}, "ESD-u": {"ddim_steps": 2},
    "FMN": {"steps": 5}, "UCE": {},
}  # fmt: skip
ROWS = [
    "RL", "RL w_f+w_r", "RL loreun-s", "RL random", "SalUn", "CA", "EraseDiff", "SA w_r", "ESD-x", "ESD-u", "FMN",
]  # fmt: skip


@pytest.fixture(scope="module")
def stages(tmp_path_factory, random_pipeline):
    folder = tmp_path_factory.mktemp("killed")
    config = generation_config(
        random_pipeline, classifier="small", methods=METHODS, limit_steps=4,
        weightings=["none", "w_f+w_r", "w_r", "loreun-s", "random"],
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOREUN_STORE", str(folder / "store"))
        patch.setenv("LOREUN_DATA", str(folder / "data"))
        return Stages(config, folder / "store")


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setenv("LOREUN_CHECKPOINT_MINUTES", str(OFTEN))


@pytest.mark.parametrize("row", ROWS)
def test_a_stage_that_is_killed_twice_ends_with_the_same_result(stages, row):
    (stage,) = [each for each in stages.stages.values() if each.run.endswith(":unlearn") and each.label.endswith(f" {row}")]
    whole, task, random = stages.made(stage), stages.task(stage), Random(row)
    stages.forgotten(whole)
    for _ in range(2):
        killed(task, random.randint(1, 2))
    found = stages.run(task)
    assert found.digest == whole.digest
    assert found.values() == whole.values()
    counts = ("forward_samples", "backward_samples")
    assert [found.cost[name] for name in counts] == [whole.cost[name] for name in counts]


def test_a_method_that_solves_takes_no_checkpoint(stages):
    (stage,) = [each for each in stages.stages.values() if each.run.endswith(":unlearn") and each.label.endswith(" UCE")]
    task = stages.task(stage)
    assert ended(task, 1) == 0
    assert not stages.folder(task).exists()
