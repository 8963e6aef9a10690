"""What of a plan can run, what is still wanted, and what a failure takes with it. Each step costs as much as a stage has
neighbours, however large the plan."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator

from loreun_bench.harness.plan import Plan
from loreun_bench.harness.stage import Stage

WAITS, READY, RUNS, DONE, ENDED = range(5)  # ended: it failed, cannot be had, or nobody wants it any more


class Graph:
    """The stages of a plan by recipe, and its cells by their place in it.

    A stage is wanted by each unfinished stage that takes its result and by each open cell that reads it. Those that are
    ready are given out (`pop`) in the plan's order, and come back as done, failed, or to be made again.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.stages = {stage.recipe: stage for stage in plan.stages}
        self.order = {recipe: number for number, recipe in enumerate(self.stages)}
        self._users: dict[str, list[str]] = defaultdict(list)
        self._cells: dict[str, list[int]] = defaultdict(list)  # by their evaluation
        self._state = dict.fromkeys(self.stages, WAITS)
        self._wanted = dict.fromkeys(self.stages, 0)
        self._ready: list[int] = []
        self._closed: set[int] = set()
        self._recipes = list(self.stages)
        for recipe in self.stages:
            for upstream in self._inputs(recipe):
                self._users[upstream].append(recipe)
                self._wanted[upstream] += 1
        for number, cell in enumerate(plan.cells):
            self._cells[cell.evaluation.recipe].append(number)
            for recipe in self._read_by(number):
                self._wanted[recipe] += 1
        self._open = {recipe: self._lacks(recipe) for recipe in self.stages}
        for recipe, lacks in self._open.items():
            if not lacks:
                self._make_ready(recipe)

    def pop(self) -> Stage | None:
        """The first of those that are ready; None if none is."""
        while self._ready:
            recipe = self._recipes[heapq.heappop(self._ready)]
            if self._state[recipe] == READY:
                return self.stages[recipe]
        return None

    def wants(self, recipe: str) -> bool:
        """Whether a stage that was given out is still to be made, and can be."""
        return self._state[recipe] == READY

    def begin(self, recipe: str) -> None:
        """A stage is under way."""
        self._state[recipe] = RUNS

    def done(self, recipe: str) -> list[int]:
        """A stage's result is there. Returns the cells that it completes."""
        self._state[recipe] = DONE
        for user in self._users[recipe]:
            if self._state[user] == WAITS:
                self._open[user] -= 1
                if not self._open[user]:
                    self._make_ready(user)
        self._leave(recipe)
        return self._still_open(recipe)

    def fail(self, failed: str) -> tuple[list[int], list[str]]:
        """A stage has failed. Returns the cells that this ends, and the stages: those that need it, and those that nobody
        wants any more."""
        cells: list[int] = []
        ended, unwanted = [failed], list[str]()
        for recipe in ended:
            self._state[recipe] = ENDED
            cells += self._still_open(recipe)
            ended += [user for user in dict.fromkeys(self._users[recipe]) if self._end(user)]
        for recipe in ended:
            unwanted += self._leave(recipe)
        for number in cells:
            unwanted += self.close(number)
        return cells, ended[1:] + unwanted

    def close(self, number: int) -> list[str]:
        """A cell has its record. Returns the stages that end with that, as nobody wants them any more."""
        self._closed.add(number)
        return [gone for recipe in self._read_by(number) for gone in self._unwant(recipe)]

    def again(self, recipe: str, lost: list[str]) -> None:
        """A stage is to be made again, once `lost`, those of its inputs whose results are gone, are."""
        for each in lost:
            if self._state[each] == DONE:
                for user in self._users[each]:
                    if self._state[user] in (WAITS, READY):
                        self._open[user], self._state[user] = self._open[user] + 1, WAITS
                self._put_back(each)
        self._put_back(recipe)

    def unused(self, recipe: str) -> bool:
        """Whether a stage's result is read by no stage and no cell any more."""
        return not self._wanted[recipe]

    def _still_open(self, evaluation: str) -> list[int]:
        return [number for number in self._cells[evaluation] if number not in self._closed]

    def _put_back(self, recipe: str) -> None:
        if self._state[recipe] == DONE:
            for upstream in self._inputs(recipe):
                self._wanted[upstream] += 1
        self._open[recipe] = self._lacks(recipe)
        self._state[recipe] = WAITS
        if not self._open[recipe]:
            self._make_ready(recipe)

    def _inputs(self, recipe: str) -> set[str]:
        return {stage.recipe for stage in self.stages[recipe].inputs.values()}

    def _lacks(self, recipe: str) -> int:
        return sum(self._state[upstream] != DONE for upstream in self._inputs(recipe))

    def _make_ready(self, recipe: str) -> None:
        self._state[recipe] = READY
        heapq.heappush(self._ready, self.order[recipe])

    def _end(self, user: str) -> bool:
        """Whether this ends a stage that was still to come."""
        if self._state[user] not in (WAITS, READY):
            return False
        self._state[user] = ENDED
        return True

    def _read_by(self, number: int) -> Iterator[str]:
        cell = self.plan.cells[number]
        yield cell.evaluation.recipe
        if cell.model is not None and cell.model.recipe in self.stages:
            yield cell.model.recipe

    def _leave(self, recipe: str) -> list[str]:
        """A stage wants its inputs no more."""
        return [gone for upstream in self._inputs(recipe) for gone in self._unwant(upstream)]

    def _unwant(self, recipe: str) -> list[str]:
        """One fewer wants a stage; the stages that end with that."""
        self._wanted[recipe] -= 1
        if self._wanted[recipe] or not self._end(recipe):
            return []
        return [recipe, *self._leave(recipe)]
