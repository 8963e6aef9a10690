"""What the harness itself costs: stages that do nothing, by the number of cells, and the plan of a large sweep.

    python benchmarks/sweeping.py [CELLS …] [--where FOLDER] [--tries N]

Each cell is a model of one original and its evaluation, in one process. "made": every artifact is written; "cached": a
second sweep finds all of them; the median of the tries, each a process of its own, and the best. Memory is the process's
largest.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from tabulate import tabulate

from loreun_bench import config
from loreun_bench.harness import plan as planning
from loreun_bench.harness import scheduler
from loreun_bench.harness.engines.inline import InlineEngine
from loreun_bench.harness.plan import Cell, Plan
from loreun_bench.harness.records import Record
from loreun_bench.harness.stage import Output, Stage
from loreun_bench.harness.store import Store

CELLS = (250, 1000, 2500, 10_000)
SEEDS = "seeds=0-58"  # of digits-baselines with every one of LoReUn's weightings: 8800 cells and more
LARGE = ("weightings=[none, w_f, w_r, w_f+w_r, loreun-s, loreun-d]", SEEDS, "device=cpu")


def nothing(config: dict, inputs: dict, device: str) -> Output:
    """A stage that does nothing."""
    return Output({}, {"metrics": {"total": 1.0}})


def plan_of(cells: int) -> Plan:
    """A plan of so many cells."""
    run = f"{Path(__file__).stem}:nothing"
    original = Stage(run, {"name": "original"}, label="original")
    found, stages = [], [original]
    for number in range(cells):
        model = Stage(run, {"name": f"model {number}"}, {"original": original}, label="model")
        evaluation = Stage(run, {"name": f"measure {number}"}, {"model": model}, label="measure")
        record = Record("toy", "toy", "toy", "toy", f"m{number}", "none", {"split": 0})
        found.append(Cell(record, model, evaluation))
        stages += [model, evaluation]
    return Plan(tuple(found), tuple(stages))


def swept(cells: int, where: str | None) -> None:
    """Print what sweeping so many cells twice takes: seconds and megabytes."""
    plan, root = plan_of(cells), Path(tempfile.mkdtemp(dir=where))
    try:
        first = plan_of(1)  # which imports what the others need
        scheduler.run(first, InlineEngine(), Store(root / "first"), root / "first-run", "cpu", lambda _: None)
        for _ in range(2):
            start = time.perf_counter()
            scheduler.run(plan, InlineEngine(), Store(root / "store"), root / "run", "cpu", lambda _: None)
            print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    finally:
        shutil.rmtree(root)


def planned() -> tuple[int, int, float]:
    """Cells and stages of a large sweep, and the seconds that its plan takes once a small one has been made."""
    planning.build(config.load("digits-baselines", [*LARGE, "seeds=1"]))
    large = config.load("digits-baselines", list(LARGE))
    start = time.perf_counter()
    plan = planning.build(large)
    return len(plan.cells), len(plan.stages), time.perf_counter() - start


def main() -> None:
    """Measure each number of cells in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=int, nargs="*", default=CELLS)
    parser.add_argument("--where", help="a folder for the store [default: the system's for temporary files]")
    parser.add_argument("--tries", type=int, default=3, help="for each number [default: 3]")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        return swept(asked.one, asked.where)
    rows = []
    for cells in asked.cells:
        words = [sys.executable, __file__, "--one", str(cells), *(["--where", asked.where] if asked.where else [])]
        said = [subprocess.run(words, check=True, capture_output=True, text=True).stdout.split() for _ in range(asked.tries)]
        made, _, cached, memory = (sorted(map(float, each)) for each in zip(*said, strict=True))
        stages = 2 * cells + 1
        speeds = (stages / seconds for times in (made, cached) for seconds in (median(times), times[0]))
        rows.append([cells, stages, *map(round, speeds), round(memory[-1])])
    print(tabulate(rows, ["cells", "stages", "made a second", "best", "cached a second", "best", "MB"]))
    cells, stages, seconds = planned()
    print(f"\nplan of {cells} cells, {stages} stages: {seconds:.2f} s")
    return None


if __name__ == "__main__":
    main()
