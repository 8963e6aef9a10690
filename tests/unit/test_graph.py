"""Pins what of a plan runs, in which order, and what a failure ends: against a plain search on random plans."""

from __future__ import annotations

import random

import pytest

from loreun_bench.harness.graph import Graph
from loreun_bench.harness.plan import Cell, Plan
from loreun_bench.harness.records import Record
from loreun_bench.harness.stage import Stage


def drawn(seed: int, size: int = 30, cells: int = 12) -> tuple[Plan, random.Random]:
    """A random plan: each stage takes up to three of those before it; each cell measures one and reads one of its inputs."""
    luck = random.Random(seed)
    stages: list[Stage] = []
    for number in range(size):
        upstream = luck.sample(stages, min(len(stages), luck.randint(0, 3)))
        stages.append(Stage("toy:run", {"name": number}, {f"i{k}": each for k, each in enumerate(upstream)}))
    found = []
    for number in range(cells):
        evaluation = luck.choice(stages)
        model = luck.choice([*evaluation.inputs.values(), None])
        found.append(Cell(Record("toy", "toy", "toy", "toy", f"m{number}", "none", {"split": 0}), model, evaluation))
    needed = [stage for stage in stages if any(stage.recipe in closure(cell.evaluation) for cell in found)]
    return Plan(tuple(found), tuple(needed)), luck


def closure(stage: Stage) -> set[str]:
    return {stage.recipe}.union(*map(closure, stage.inputs.values()))


def ran(plan: Plan, luck: random.Random, failing: set[str]) -> tuple[list[str], dict[int, bool]]:
    """The stages in the order in which they are given out, up to three at a time, and whether each cell was completed."""
    graph, order, outcome = Graph(plan), list[str](), dict[int, bool]()
    running: list[Stage] = []
    while True:
        while len(running) < 3 and (stage := graph.pop()) is not None:
            graph.begin(stage.recipe)
            order.append(stage.recipe)
            running.append(stage)
        if not running:
            return order, outcome
        stage = running.pop(luck.randrange(len(running)))
        if stage.recipe in failing:
            outcome |= dict.fromkeys(graph.fail(stage.recipe)[0], False)
        else:
            for number in graph.done(stage.recipe):
                outcome[number] = True
                assert graph.close(number) == []


@pytest.mark.parametrize("seed", range(40))
def test_every_cell_ends_as_a_plain_search_says_and_nothing_runs_twice_or_in_vain(seed: int) -> None:
    plan, luck = drawn(seed)
    failing = {stage.recipe for stage in plan.stages if luck.random() < 0.15}
    order, outcome = ran(plan, luck, failing)
    assert outcome == {n: not closure(cell.evaluation) & failing for n, cell in enumerate(plan.cells)}
    assert len(order) == len(set(order))
    good = [closure(cell.evaluation) for n, cell in enumerate(plan.cells) if outcome[n]]
    assert set().union(*good) <= set(order)
    place = {recipe: number for number, recipe in enumerate(order)}
    for stage in plan.stages:
        if stage.recipe in place:
            assert all(place[upstream.recipe] < place[stage.recipe] for upstream in stage.inputs.values())


def test_after_a_failure_only_what_other_cells_want_is_run() -> None:
    shared, wanted, unwanted = (Stage("toy:run", {"name": name}) for name in ("shared", "wanted", "unwanted"))
    bad = Stage("toy:run", {"name": "bad"}, {"shared": shared})
    doomed = Stage("toy:run", {"name": "doomed"}, {"bad": bad, "deep": Stage("toy:run", {"name": "d"}, {"u": unwanted})})
    fine = Stage("toy:run", {"name": "fine"}, {"wanted": wanted})
    records = [Record("toy", "toy", "toy", "toy", name, "none", {}) for name in ("a", "b")]
    cells_ = Cell(records[0], None, doomed), Cell(records[1], None, fine)
    plan = Plan(cells_, (shared, bad, unwanted, doomed.inputs["deep"], doomed, wanted, fine))
    graph = Graph(plan)
    assert graph.pop() is shared
    graph.begin(shared.recipe)
    graph.done(shared.recipe)
    assert graph.pop() is bad
    graph.begin(bad.recipe)
    cells, ended = graph.fail(bad.recipe)
    assert cells == [0]
    assert {plan_name(plan, recipe) for recipe in ended} == {"doomed", "d", "unwanted"}
    assert graph.pop() is wanted


def plan_name(plan: Plan, recipe: str) -> str:
    return next(str(stage.config["name"]) for stage in plan.stages if stage.recipe == recipe)


@pytest.mark.parametrize("seed", range(40))
def test_what_is_lost_is_made_again_before_what_needs_it(seed: int) -> None:
    """Whenever a stage would begin, one of its inputs may turn out to be lost, once a stage."""
    plan, luck = drawn(seed)
    graph, there, retried, closed = Graph(plan), set[str](), set[str](), set[int]()
    known = set[str]()  # of what is there, what the graph has not been told is lost
    running: list[Stage] = []
    while True:
        while len(running) < 3 and (stage := graph.pop()) is not None:
            assert {upstream.recipe for upstream in stage.inputs.values()} <= known
            graph.begin(stage.recipe)
            running.append(stage)
        if not running:
            break
        stage = running.pop(luck.randrange(len(running)))
        inputs = [upstream.recipe for upstream in stage.inputs.values()]
        if inputs and stage.recipe not in retried and luck.random() < 0.3:
            there.discard(luck.choice(inputs))
        lost = [recipe for recipe in inputs if recipe not in there]
        if lost:
            retried.add(stage.recipe)
            known -= set(lost)
            graph.again(stage.recipe, lost)
            continue
        there.add(stage.recipe)
        known.add(stage.recipe)
        for number in graph.done(stage.recipe):
            closed.add(number)
            graph.close(number)
    assert closed == set(range(len(plan.cells)))


def test_a_result_is_kept_for_as_long_as_a_stage_or_a_cell_reads_it() -> None:
    model = Stage("toy:run", {"name": "model"})
    first, second = (Stage("toy:run", {"name": name}, {"model": model}) for name in ("first", "second"))
    record = Record("toy", "toy", "toy", "toy", "m", "none", {})
    graph = Graph(Plan((Cell(record, model, first), Cell(record, None, second)), (model, first, second)))
    graph.done(model.recipe)
    assert graph.done(first.recipe) == [0]
    graph.close(0)
    assert graph.unused(first.recipe)
    assert not graph.unused(model.recipe)
    assert graph.done(second.recipe) == [1]
    assert graph.unused(model.recipe)
