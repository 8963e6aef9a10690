"""A table, and a page, from their records: read, compared, rendered, as `leaderboard` and `report` do it."""

from __future__ import annotations

import gc
import random

import pytest

from loreun_bench.harness.records import Record, encode, load_records
from loreun_bench.report import leaderboard, table
from loreun_bench.report.page.page import Sources, render

SIZES, QUICK = (5_000, 100_000), (500,)
ROWS, SEEDS = 100, 5  # of a scenario
pytestmark = pytest.mark.benchmark(min_rounds=1, max_time=1.0, warmup=False)


def pytest_generate_tests(metafunc):
    sizes = QUICK if metafunc.config.option.quick else SIZES
    if "rows" in metafunc.fixturenames:
        sizes = sizes[:1]
    metafunc.parametrize("size", sizes, ids=[f"{size} records" for size in sizes])


@pytest.fixture
def run(tmp_path, size):
    return made(tmp_path, size, ROWS)


def made(folder, size, rows):
    """Twelve metrics a record; rows, so many a scenario, are Retrain, Retrain-2 and methods with six weightings each."""
    noise = random.Random(0)
    names = ["Retrain", "Retrain-2", *(f"M{k // 7}" for k in range(rows - 2))]
    with open(folder / "records.jsonl", "wb") as file:
        for number in range(size):
            scenario, row, seed = number // (rows * SEEDS), number // SEEDS % rows, number % SEEDS
            accuracies = {f"{part}_acc": noise.uniform(80, 99) for part in ("forget", "retain", "test", "val")}
            others = {key: noise.uniform(0, 9) for key in ("forget_loss", "retain_loss", "test_loss", "batchnorm_shift")}
            attacks = {key: noise.uniform(10, 60) for key in ("mia_confidence", "mia_auc", "mia_m_entropy", "mia_tpr_1fpr")}
            weighting = "none" if row < 2 or (row - 2) % 7 == 0 else f"w{(row - 2) % 7}"
            file.write(encode(Record(
                "classification", "digits", "small-cnn", f"class-{scenario}", names[row], weighting,
                dict.fromkeys(("split", "train", "unlearn", "eval"), seed), metrics=accuracies | others | attacks,
                cost={"rte_s": noise.uniform(1, 2), "cpu_s": 2.0}, artifact=f"{number:064x}",
                counts={key: [round(10 * value), 1000] for key, value in accuracies.items()},
            )))  # fmt: skip
    return folder


def test_table(row, run, size):
    def call():
        return leaderboard.render(table.build([("run", load_records(run))]))

    gc.disable()  # as the verb does
    try:
        row(f"table of {size} records", "read, compared, rendered", "ours", call)
    finally:
        gc.enable()


@pytest.mark.parametrize("rows", [40])
def test_page(row, tmp_path, size, rows):
    """Some 25 tables in one HTML file."""
    made(tmp_path, size, rows)

    def call():
        return render(table.build([("run", load_records(tmp_path))]), Sources([]))

    gc.disable()
    try:
        row(f"page of {size} records", "read, compared, rendered", "ours", call)
    finally:
        gc.enable()
