"""Checkpoints of one loop: what is gone on from, what is not, and what that costs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from loreun_bench.errors import UserError
from loreun_bench.harness import resuming
from loreun_bench.training import clock
from loreun_bench.training.clock import Meter
from loreun_bench.training.context import RunContext
from loreun_bench.training.loop import epoch, run_steps
from loreun_bench.training.optimiser import make_optimiser
from loreun_bench.training.snapshots import Snapshots, resumable

STEPS = 8


class Killed(BaseException):
    """In the middle of a step."""


class Run:
    """A linear model trained for STEPS steps of random batches and noise; its steps are told."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.folder, self.seed, self.steps, self.cost = folder, seed, list[int](), dict[str, float]()

    def to(self, end: int | None = None, anew: bool = False) -> torch.Tensor:
        """The weights after all steps; Killed in step `end`, counted from 0 over all runs."""
        self.steps = []
        return resuming.run(self.folder, "cpu", anew, lambda: self._stage(end))

    def killed(self, end: int) -> None:
        with pytest.raises(Killed):
            self.to(end)

    def _stage(self, end: int | None) -> torch.Tensor:
        context = RunContext(
            device="cpu", precision="fp32", protocol=None, phases={}, seed=self.seed, meter=Meter("cpu"), resumable=True
        )
        torch.manual_seed(0)
        model, number = torch.nn.Linear(3, 1), iter(range(STEPS))
        optimiser = make_optimiser(model.parameters(), "adam", 0.1, 0.0, 0.0)

        def batches():
            for _ in range(STEPS // 2):
                for positions in epoch(4, 2, context.stream("order")):
                    self.now = next(number)
                    yield positions

        def objective(positions):
            if self.now == end:
                raise Killed
            self.steps.append(self.now)
            noise = torch.randn(2, 3, generator=context.stream("noise"))
            context.meter.forward_samples += 2
            return (model(noise + positions[:, None])).square().mean()

        with context.meter:
            run_steps(model, batches(), objective, optimiser, snapshots=Snapshots(context))
        self.cost = context.meter.cost()
        return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setenv("LOREUN_CHECKPOINT_MINUTES", "1e-9")


@pytest.fixture
def run(tmp_path, often):
    return Run(tmp_path / "kept" / "key")


@pytest.fixture
def whole(tmp_path) -> torch.Tensor:
    return Run(tmp_path / "whole").to()


def test_a_loop_goes_on_where_it_was_killed_and_ends_the_same(run, whole):
    run.killed(3)
    run.killed(6)
    assert run.steps == [3, 4, 5]
    assert torch.equal(run.to(), whole)
    assert run.steps == [6, 7]
    assert run.cost["forward_samples"] == 2 * STEPS
    assert run.cost["resumed"] == 2


def test_a_run_that_was_not_killed_says_nothing_of_going_on(run):
    run.to()
    assert "resumed" not in run.cost


def test_what_is_to_be_made_anew_takes_no_checkpoint(run, whole):
    run.killed(3)
    assert torch.equal(run.to(anew=True), whole)
    assert run.steps == list(range(STEPS))


@pytest.mark.parametrize("minutes", ["0", "60"])
def test_nothing_is_kept_before_it_is_time(run, whole, monkeypatch, minutes):
    monkeypatch.setenv("LOREUN_CHECKPOINT_MINUTES", minutes)
    run.killed(5)
    assert not run.folder.exists()
    assert torch.equal(run.to(), whole)


@pytest.mark.parametrize("minutes", ["often", "-1", "nan", "inf"])
def test_a_variable_that_is_no_number_of_minutes_is_refused(run, monkeypatch, minutes):
    monkeypatch.setenv("LOREUN_CHECKPOINT_MINUTES", minutes)
    with pytest.raises(UserError, match="LOREUN_CHECKPOINT_MINUTES"):
        run.to()


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "manifest"])
def test_a_damaged_checkpoint_is_dropped_and_the_stage_begins_anew(run, whole, damage):
    run.killed(4)
    (payload,), (manifest,) = run.folder.glob("*.pt"), run.folder.glob("*.json")
    content = payload.read_bytes()
    if damage == "flipped":
        payload.write_bytes(content[:700] + bytes([content[700] ^ 1]) + content[701:])
    elif damage == "cut":
        payload.write_bytes(content[: len(content) // 2])
    elif damage == "gone":
        payload.unlink()
    else:
        manifest.write_text(manifest.read_text()[:-20])
    assert torch.equal(run.to(), whole)
    assert run.steps == list(range(STEPS))


def test_a_checkpoint_made_with_another_number_of_threads_is_dropped(run):
    run.killed(4)
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        run.to()
    finally:
        torch.set_num_threads(before)
    assert run.steps == list(range(STEPS))


def test_a_checkpoint_of_other_batches_is_dropped_and_the_stage_begins_anew(run, tmp_path):
    run.killed(4)
    other = Run(run.folder, seed=1)
    assert torch.equal(other.to(), Run(tmp_path / "other", seed=1).to())
    assert other.steps == list(range(STEPS))
    assert "resumed" not in other.cost


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(run, whole, monkeypatch):
    real, times = torch.save, iter(range(3))

    def save(state, path):
        if next(times, None) is None:
            path.write_bytes(b"half of it")
            raise Killed
        real(state, path)

    monkeypatch.setattr(torch, "save", save)
    run.killed(STEPS)
    monkeypatch.setattr(torch, "save", real)
    assert torch.equal(run.to(), whole)
    assert run.steps == [3, 4, 5, 6, 7]
    assert len(list(run.folder.glob("*.pt"))) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a limit on the size of files")
def test_a_disk_without_room_for_a_checkpoint_does_not_fail_the_stage(run, whole):
    import resource

    process = os.fork()
    if not process:
        code = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
            code = 0 if torch.equal(run.to(), whole) and not [*run.folder.glob("*.*")] else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


def test_checkpoints_that_nobody_goes_on_from_are_removed_in_time(run):
    old, young = run.folder.parent / "old", run.folder.parent / "young"
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    run.to()
    assert not old.exists()
    assert young.exists()


def test_the_time_of_runs_that_were_killed_counts_and_that_of_saving_does_not(run, monkeypatch):
    now, real = [0.0], torch.save
    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])

    def slow(state, path):
        now[0] += 1000
        real(state, path)

    monkeypatch.setattr(torch, "save", slow)
    inner = Snapshots.after

    def step(self, *given):
        now[0] += 1
        inner(self, *given)

    monkeypatch.setattr(Snapshots, "after", step)
    run.killed(3)
    run.killed(5)
    run.to()
    assert run.cost["rte_s"] == STEPS


def test_making_ready_once_more_counts(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])
    with Meter("cpu") as killed:
        now[0] += 3
        kept = killed.state_dict()
    with Meter("cpu") as meter:
        now[0] += 2
        meter.load_state_dict(kept)
        now[0] += 4
    assert meter.cost()["rte_s"] == 9


class Own:
    """A plug-in's."""


class Declared:
    """A plug-in's that says so."""

    resumable = True


class Derived(Declared):
    """Another's, which does not."""


def test_only_code_of_ours_or_that_says_so_itself_goes_on():
    from loreun_bench.registry import registry

    ours = registry("methods").get("SalUn").item()
    assert resumable(ours, registry("weightings").get("random").item())
    assert resumable(ours, Declared())
    assert not resumable(ours, Own())
    assert not resumable(ours, Derived())
