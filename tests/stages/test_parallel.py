"""Two processes that share a model end where one does: training, and the gradient methods of classification."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from killing import Stages
from ranked import by_two, check_same, in_double, trouble

from loreun_bench import api
from loreun_bench.errors import UserError
from loreun_bench.harness import ranks
from loreun_bench.harness.work import failed

SMALL = {"epochs": 2, "batch_size": 33}  # 126 pictures to keep: 33, 33, 33 and 27
CONFIG = {
    "name": "shared", "dataset": "digits", "seeds": 1, "device": "cpu", "precision": "fp32", "noise_floor": False,
    "limit_images": 200,
    "train": {"epochs": 2, "batch_size": 33, "crop": 1, "flip": True}, "scenarios": [{"kind": "random", "fraction": 0.3}],
    "metrics": ["accuracy"], "weightings": ["none", "w_f", "w_r", "w_f+w_r", "loreun-s", "falw"],
    "methods": {
        "Retrain": {}, "RL": SMALL, "RL:paired": SMALL | {"schedule": "paired"}, "RL:three": {"epochs": 1, "batch_size": 3},
        "SalUn": SMALL, "NegGrad+": SMALL, "l1-sparse": SMALL, "SCRUB": SMALL, "Bad-T": SMALL, "Boundary-shrink": SMALL,
        "Boundary-expand": SMALL, "CF-k": SMALL, "SSD": {},
    },
}  # fmt: skip
ROWS = [
    "original", "Retrain", "RL", "RL w_f", "RL loreun-s", "RL falw", "RL:paired w_f+w_r", "RL:three w_f+w_r",
    "SalUn w_r", "NegGrad+ w_f", "l1-sparse", "SCRUB w_r", "Bad-T", "Boundary-shrink", "Boundary-expand", "CF-k",
]  # fmt: skip


def named(row):
    return f"random-30% seed 0 {row}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(autouse=True, scope="module")
def own_folders(folder):
    """In the place of each test's own: what the file's stages are made in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOREUN_STORE", str(folder / "store"))
        patch.setenv("LOREUN_DATA", str(folder / "data"))
        yield


def planned(folder, **config):
    return Stages(CONFIG | config, folder / "store")


@pytest.fixture(scope="module")
def stages(folder):
    return planned(folder)


@pytest.fixture(scope="module")
def shared(stages, folder):
    return by_two(stages, [named(row) for row in ROWS], folder / "ranks")


@pytest.mark.parametrize("row", ROWS)
def test_two_ranks_end_where_one_process_does(row, stages, shared):
    check_same(stages.made(stages.stages[named(row)]), shared[named(row)])


def test_three_ranks_have_the_gradients_of_one_process_in_double_precision(tmp_path):
    """Rows 3, 2 and 2; of a batch that is too small all of them; and one each, of which batch norm has three."""
    found = ranks.run(3, "cpu", tmp_path / "ranks", in_double, failed)
    for alone, shared in zip(in_double(0), found, strict=True):
        for name, tensor in alone.items():
            np.testing.assert_allclose(shared[name], tensor, rtol=1e-10, atol=1e-12, err_msg=name)


def test_a_sweep_says_how_many_share_its_models(stages, folder):
    two = planned(folder, ranks=2)
    stage = two.stages[named("RL w_f")]
    assert (stage.config["ranks"], two.stages[named("original")].config["ranks"]) == (2, 2)
    assert "ranks" not in two.stages[named("SSD")].config  # which solves, on the bare module
    assert stages.stages[named("RL w_f")].config.keys() == stage.config.keys() - {"ranks"}
    artifact = two.run(replace(stages.task(stages.stages[named("RL w_f")]), stage=stage, key="two ranks"))
    for name, tensor in stages.made(stages.stages[named("RL w_f")]).tensors().items():
        torch.testing.assert_close(artifact.tensors()[name], tensor, rtol=1e-3, atol=1e-5)
    assert not list((folder / "store" / "tmp").rglob("*.ranks"))


@pytest.mark.parametrize(("kind", "status", "words"), [
    ("raises", "diverged", "the second rank's loss is NaN"), ("dies", "failed", "the process of rank 1 of 2 died"),
])  # fmt: skip
def test_a_rank_that_fails_ends_the_others(kind, status, words, tmp_path):
    with pytest.raises(Exception) as found:
        ranks.run(2, "cpu", tmp_path / "ranks", partial(trouble, kind), failed)
    outcome = failed(found.value)
    assert outcome.status == status
    assert words in outcome.reason
    assert not (tmp_path / "ranks").exists()


def test_what_cannot_be_shared_is_refused_when_it_is_planned(monkeypatch):
    with pytest.raises(UserError, match="a compiled network cannot be shared among ranks"):
        api.resolve(CONFIG | {"ranks": 2, "compile": True})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="ranks: 2 GPUs are wanted and torch finds 1"):
        api.resolve(CONFIG | {"ranks": 2, "device": "cuda"})
