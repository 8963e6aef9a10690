"""A batch that spans two ranks: the loss and the averaged gradient are those of the whole batch in one process.

python tests/ops/test_distributed.py RANK FOLDER    is one of the ranks; it leaves what it found in FOLDER
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from accuracy import SERVED, batch, forced
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from loreun_bench.ops import loreun_cross_entropy, loreun_linear_cross_entropy, loreun_mse_loss

pytestmark = pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="needs torch with gloo")
ROWS = 13
SHARDS = {"uneven": 9, "one row": 12, "a rank without rows": 13, "a rank of ignored rows": 8}
DTYPES = {"f64": torch.float64, "f32": torch.float32}
PATHS = ("native", "reference") if "cpu" in SERVED else ("reference",)
CASES = list(itertools.product(("cross entropy", "linear", "mse"), SHARDS, (True, False), DTYPES, PATHS))
SETTINGS = {"eta": 0.6, "direction": "forget", "loss_scale": 1.5, "distance": "ratio"}


def data(shards: str, dtype: torch.dtype) -> tuple[Tensor, ...]:
    x, target, clean = batch(ROWS, 10, dtype)
    if shards == "a rank of ignored rows":
        target[SHARDS[shards] :] = -100
    return x, target, clean, torch.linspace(0.5, 2, ROWS, dtype=dtype)


def loss_of(kind: str, output: Tensor, rows: slice, shards: str, detach: bool, group) -> tuple[Tensor, Tensor]:
    """(loss, the rows' weights)"""
    x, target, clean, ref = data(shards, output.dtype)
    options = SETTINGS | {"ref_loss": ref[rows], "detach_weights": detach, "process_group": group, "return_stats": True}
    if kind == "cross entropy":
        loss, stats = loreun_cross_entropy(output, target[rows], clean[rows], **options)
    elif kind == "linear":
        weight = x[:10] * 0.1
        loss, stats = loreun_linear_cross_entropy(output, weight, target[rows], clean[rows], chunk_size=40, **options)
    else:
        loss, stats = loreun_mse_loss(output, x[rows] * 0.5, x.flip(1)[rows], **options)
    return loss, stats.weights


def model(dtype: torch.dtype) -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Linear(10, 10).to(dtype)


def run(case: tuple, rows: slice, group) -> dict[str, Tensor]:
    """Loss, weights and gradients of one process; under DDP with a group."""
    kind, shards, detach, dtype, path = case
    net = model(DTYPES[dtype])
    whole = DistributedDataParallel(net) if group else net
    with forced(path):
        loss, weights = loss_of(kind, whole(data(shards, DTYPES[dtype])[0][rows]), rows, shards, detach, group)
        (2 * loss).backward()
    return {"loss": loss.detach(), "weights": weights, "weight.grad": net.weight.grad, "bias.grad": net.bias.grad}


def rank_main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = []
    for case in CASES:
        cut = SHARDS[case[1]]
        found.append(run(case, slice(0, cut) if rank == 0 else slice(cut, ROWS), dist.group.WORLD))
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[list[dict[str, Tensor]]]:
    folder = tmp_path_factory.mktemp("ranks")
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, __file__]
    pipes = {"stderr": subprocess.PIPE, "text": True}
    running = [subprocess.Popen([*command, rank, str(folder)], env=environment, **pipes) for rank in ("0", "1")]
    try:
        errors = [process.communicate(timeout=120)[1] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], "\n".join(errors)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("number", range(len(CASES)), ids=["-".join(map(str, case)) for case in CASES])
def test_two_ranks_are_one_batch(number, ranks):
    case = CASES[number]
    alone, both = run(case, slice(0, ROWS), None), [found[number] for found in ranks]
    tolerance = {"rtol": 1e-12, "atol": 1e-14} if case[3] == "f64" else {"rtol": 2e-5, "atol": 1e-6}
    assert float(alone["weight.grad"].abs().max()) > 0.1
    for found in both:
        for name in ("loss", "weight.grad", "bias.grad"):
            torch.testing.assert_close(found[name], alone[name], **tolerance, msg=lambda says, name=name: f"{name}: {says}")
    torch.testing.assert_close(torch.cat([found["weights"] for found in both]), alone["weights"], **tolerance)


if __name__ == "__main__":
    rank_main(int(sys.argv[1]), Path(sys.argv[2]))
