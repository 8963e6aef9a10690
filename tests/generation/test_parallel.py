"""Two processes that share a denoiser end where one does."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import generation_config
from killing import Stages
from PIL import Image
from ranked import by_two, check_same

SMALL = {"batch_size": 3, "epochs": 1, "lr": 1e-3}  # which moves weights by a hundredth
METHODS = {
    "RL": SMALL | {"epochs": 2}, "SA": SMALL | {"batch_size": 4, "fisher_pictures": 2},  # five pictures: 4 and 1
    "SalUn": SMALL, "CA": SMALL | {"alpha": 1.0},
    "ESD-x": {"ddim_steps": 2, "iterations": 2, "batch_size": 3, "lr": 1e-3}, "FMN": {},
}  # fmt: skip
ROWS = ["RL w_f+w_r", "RL loreun-s", "SA w_r", "SalUn w_f", "CA", "ESD-x"]


def named(row):
    return f"class-bee seed 0 {row}"


def planned(folder, pipeline, **config):
    made = generation_config(
        pipeline, dataset=str(folder / "pictures"), methods=METHODS, limit_steps=None, precision="fp32",
        scenarios=[{"kind": "class", "forget_class": "bee"}], weightings=["none", "w_f", "w_r", "w_f+w_r", "loreun-s"],
    )  # fmt: skip
    return Stages(made | config, folder / "store")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("shared"), np.random.default_rng(0)
    for name in ("ant", "bee", "cow"):
        for split, count in (("train", 5), ("test", 1)):
            (place := folder / "pictures" / split / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(random.integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(place / f"{number}.png")
    return folder


@pytest.fixture(autouse=True, scope="module")
def own_folders(folder):
    """In the place of each test's own: what the file's stages are made in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOREUN_STORE", str(folder / "store"))
        patch.setenv("LOREUN_DATA", str(folder / "data"))
        yield


@pytest.fixture(scope="module")
def stages(folder, random_pipeline):
    return planned(folder, random_pipeline)


@pytest.fixture(scope="module")
def shared(stages, folder):
    return by_two(stages, [named(row) for row in ROWS], folder / "ranks")


@pytest.mark.parametrize("row", ROWS)
def test_two_ranks_end_where_one_process_does(row, stages, shared):
    check_same(stages.made(stages.stages[named(row)]), shared[named(row)], together=True)


def test_what_looks_into_the_denoiser_runs_in_one_process(folder, random_pipeline):
    two = planned(folder, random_pipeline, ranks=2)
    assert two.stages[named("RL w_f")].config["ranks"] == 2
    assert "ranks" not in two.stages[named("FMN")].config
    assert "ranks" not in two.stages[named("original")].config
