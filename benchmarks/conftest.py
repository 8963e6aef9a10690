"""What the benchmarks share. `make bench` runs them, saves the figures, and compares them with the committed ones.

    python -m pytest benchmarks [--device cuda] [--quick] [--record] [-k 'operator and fp32']

A benchmark is a function that hands one call to `row`: its group, its name in it, whose code it is, and the call.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest
import torch
from changes import changes

from loreun_bench.bench.session import Session
from loreun_bench.errors import UserError
from loreun_bench.harness import environment
from loreun_bench.ops.functional import backend

RESULTS = Path(__file__).parent / "results"
# What is saved of the plug-in's figures: those that `pytest-benchmark compare` wants.
FIGURES = ("min", "max", "mean", "stddev", "median", "iqr", "ops", "outliers", "rounds", "iterations")
REPORT = pytest.StashKey[list[str]]()
COPIES: dict[str, float] = {}  # seconds of the copy that is the roofline of a group


def pytest_addoption(parser):
    group = parser.getgroup("loreun_bench")
    group.addoption("--device", default="auto", help="auto, cpu or cuda")
    group.addoption("--quick", action="store_true", help="the smallest cases, nothing compiled: to see that it runs")
    group.addoption("--record", action="store_true", help="save the figures in benchmarks/results, to be committed")


def pytest_configure(config):
    """One thread; on a GPU the clock waits for the device."""
    torch.set_num_threads(1)
    option = config.option
    try:
        option.device = Session(option.device).device
    except UserError as error:
        raise pytest.UsageError(str(error)) from None
    if option.record:
        option.benchmark_json = committed_file(option.device)
    if option.device == "cuda":
        option.benchmark_timer = "conftest.device_clock"


def committed_file(device):
    return RESULTS / f"suite-{device}-torch{'.'.join(torch.__version__.split('.')[:2])}.json"


def device_clock():
    torch.cuda.synchronize()
    return time.perf_counter()


@pytest.fixture
def device(request):
    return request.config.option.device


@pytest.fixture
def row(benchmark):
    """Times a call as a row. role: ours, a peer, or the copy that is the group's roofline and comes first."""

    def run(group, name, role, call, **about):
        benchmark.group, benchmark.name = group, name
        benchmark.extra_info |= {"role": role} | about
        benchmark(call)
        if benchmark.stats:
            least = benchmark.stats["min"]
            if role == "floor":
                COPIES[group] = least
            if group in COPIES:
                benchmark.extra_info["x_copy"] = least / COPIES[group]

    return run


@pytest.hookimpl(hookwrapper=True)
def pytest_benchmark_group_stats(benchmarks):
    """The table has no column of ours: × copy stands beside the name."""
    width = max((len(bench["name"]) for bench in benchmarks), default=0)
    for bench in benchmarks:
        if "x_copy" in bench["extra_info"]:
            bench["name"] = f"{bench['name']:{width}} × copy {bench['extra_info']['x_copy']:7.2f}"
    yield


def pytest_benchmark_generate_machine_info(config):
    device = config.option.device
    return environment.describe(device) | {"backend": backend(device), "threads": torch.get_num_threads()}


def pytest_benchmark_generate_commit_info():
    return environment.commit()


def pytest_benchmark_update_json(config, output_json):
    """Small enough to be committed; what became slower or faster is told at the end."""
    for bench in output_json["benchmarks"]:
        stats = {name: bench["stats"][name] for name in FIGURES}
        rows = {"stats": stats, "extra_info": bench["extra_info"]}
        for figures in rows.values():
            figures |= {name: float(f"{value:.4g}") for name, value in figures.items() if isinstance(value, float)}
        for name in ("options", "params", "param"):
            del bench[name]
        bench |= rows
    path = committed_file(config.option.device)
    config.stash[REPORT] = changes(last_committed(path), output_json, path.name)


def last_committed(path):
    """The result of this name in the last commit; None outside a checkout, too."""
    try:
        shown = subprocess.run(["git", "show", f"HEAD:./{path.name}"], cwd=path.parent, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return json.loads(shown.stdout)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter, config):
    for line in config.stash.get(REPORT, ()):
        terminalreporter.write_line(line)
    if REPORT in config.stash and (path := config.option.benchmark_json):
        path.write_text(one_row_a_line(json.loads(path.read_text())))


def one_row_a_line(result):
    """Half as long as the plug-in writes it, and a difference shows which rows are others."""
    rows = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in result.pop("benchmarks"))
    return f'{json.dumps(result, indent=1)[:-2]},\n "benchmarks": [\n{rows}\n ]\n}}\n'
