"""Kills stages at any moment, not only between steps, and checks that each ends with the hash of one that was not killed.

    python tests/kills.py [KILLS [SEED]]

Every stage of the tests of checkpoints that trains or unlearns is killed KILLS times (5) after a random time; there is a
checkpoint after every other step or so. What a kill finds may be a stage that makes ready, a step, half a checkpoint, or
half an artifact.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from random import Random

import pytest
import torch
from generation import conftest, test_checkpoints
from killing import OFTEN, Stages
from reliability.test_checkpoints import stages_of

from loreun_bench.harness import resuming
from loreun_bench.harness.stage import Stage
from loreun_bench.harness.work import Task, execute


def struck(task: Task, after: float, random: Random) -> bool:
    """Whether the task, killed so many seconds after its start, was not done by then."""
    process = os.fork()
    if not process:
        due = resuming.due
        resuming.due = lambda: due() and random.random() < 0.5
        try:
            execute(task)
        finally:
            os._exit(0)
    time.sleep(after)
    os.kill(process, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1])


def row(stages: Stages, stage: Stage, kills: int, random: Random) -> tuple[int, int, bool]:
    """How many kills hit, how many of them were gone on from, and whether the result is the same."""
    os.environ["LOREUN_CHECKPOINT_MINUTES"] = "0"
    whole, task = stages.made(stage), stages.task(stage)
    stages.forgotten(whole)
    os.environ["LOREUN_CHECKPOINT_MINUTES"] = str(OFTEN)
    length, hits = 2 * float(whole.manifest["seconds"]), 0
    for _ in range(kills):
        hits += struck(task, random.uniform(0, length), random)
        if (done := stages.store.find(task.key)) is not None:
            stages.forgotten(done)
    found = stages.run(task)
    counts = ("forward_samples", "backward_samples")
    same = found.digest == whole.digest and all(found.cost[name] == whole.cost[name] for name in counts)
    return hits, int(found.cost.get("resumed", 0)), same


def main(kills: int = 5, seed: int = 0) -> int:
    """Kill them all; the number of results that differ."""
    torch.set_num_threads(1)
    random, wrong, total = Random(seed), 0, [0, 0]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        root = Path(folder)
        patch.setenv("LOREUN_STORE", str(root / "store"))
        patch.setenv("LOREUN_DATA", str(root / "data"))
        patch.setenv("LOREUN_CHECKPOINT_MINUTES", "0")
        pipeline, more = conftest.made_pipeline(root / "pipeline"), {"ESD-u": {"ddim_steps": 2, "iterations": 4}}
        both = stages_of({}, root / "classification"), test_checkpoints.stages_in(root / "generation", pipeline, **more)
        for stages in both:
            for stage in stages.stages.values():
                if stage.run.endswith((":train", ":unlearn")):
                    hits, resumed, same = row(stages, stage, kills, random)
                    total, wrong = [total[0] + hits, total[1] + resumed], wrong + (not same)
                    print(f"{'same' if same else 'DIFFERS'} {stage.label}: {hits} kills, {resumed} gone on from", flush=True)
    print(f"{total[0]} kills, {total[1]} gone on from, {wrong} results differ")
    return wrong


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
