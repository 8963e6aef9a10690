"""The emulation that executes the CUDA source on the CPU, on tiny kernels of its own, right and wrong on purpose."""

from __future__ import annotations

import ctypes
import re

import pytest
import torch
from emulation import CSRC, STRUCTS, Gpu, Guarded, build, missing
from torch import Tensor

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))
LAUNCH_FAILURE, TOO_LARGE, INVALID_VALUE = 719, 720, 1


class SelfTest:
    """The kernels of selftest.cu. Each is run on several seeds: right is right on all, a bug must show on at least one."""

    KERNELS = ("block_sum", "everyone", "last_block", "warp_functions", "divergent", "rotate")

    def __init__(self, folder) -> None:
        self.gpu = Gpu(build([CSRC / "sim/selftest.cu"], folder, "selftest.so"))

    def run(self, kernel: str, *, bug=0, count=0, blocks=1, threads=64, shared=0, cooperative=0, seed=1, sms=4):
        """(error, what was written)"""
        self.gpu.configure(sms=sms, seed=seed)
        into, out = Guarded(torch.arange(4096.0) % 17), torch.full((1024,), torch.nan)
        out[2 * blocks] = 0  # last_block's counter
        pointers = ctypes.c_void_p(into.pointer()), ctypes.c_void_p(out.data_ptr())
        number = self.KERNELS.index(kernel)
        error = self.gpu.lib.selftest(number, *pointers, count, bug, blocks, threads, shared, cooperative)
        return error, out

    def outcomes(self, kernel: str, right: Tensor, **options):
        """Of every seed: an error code, or whether the result is right."""
        runs = (self.run(kernel, seed=seed, **options) for seed in range(8))
        return [error or torch.equal(out[: len(right)], right) for error, out in runs]


@pytest.fixture(scope="module")
def selftest(tmp_path_factory) -> SelfTest:
    return SelfTest(tmp_path_factory.mktemp("selftest"))


def mod17(start: int, end: int) -> Tensor:
    return torch.arange(start, end).float() % 17


# name: kernel, what it should write, options, {bug: the error it causes, or None if the result is wrong}
SELF_TESTS = {
    "block sum": (
        "block_sum", mod17(0, 1600).view(16, 100).sum(1), {"count": 100, "blocks": 16, "threads": 256, "shared": 32},
        {1: None, 2: None, 3: LAUNCH_FAILURE, 4: LAUNCH_FAILURE, 5: LAUNCH_FAILURE},
    ),
    "grid sync": ("everyone", torch.full((16,), 136.0), {"blocks": 16, "threads": 96, "cooperative": 1}, {1: None}),
    "last block": ("last_block", torch.full((16,), 136.0), {"blocks": 16, "shared": 16}, {1: None}),
    "divergence": ("divergent", torch.full((64,), 2.0), {"shared": 256}, {1: LAUNCH_FAILURE, 2: None}),
    "rotation": ("rotate", mod17(0, 256).roll(-3), {"count": 3, "threads": 256, "shared": 1024}, {1: None}),
    "warp": (
        "warp_functions",
        torch.stack([
            torch.arange(32).sub(1).clamp(0),
            torch.tensor([i + 2 if i % 16 < 14 else i for i in range(32)]),
            torch.arange(32) // 8 * 8,
            torch.full((32,), 0x55555555),
            *(torch.full((32,), value) for value in (16, 1, 0)),
            torch.tensor([i ^ 1 if i < 16 else i for i in range(32)]),
        ]).flatten().float(),
        {"threads": 32}, {1: LAUNCH_FAILURE},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SELF_TESTS)
def test_self(selftest, capfd, name):
    kernel, right, options, bugs = SELF_TESTS[name]
    assert selftest.outcomes(kernel, right, **options) == [True] * 8
    assert capfd.readouterr().err == ""
    for bug, error in bugs.items():
        found = selftest.outcomes(kernel, right, bug=bug, **options)
        if error is None:
            assert False in found, f"bug {bug} is never seen"
        else:
            assert found == [error] * 8
            assert "emulated launch failed" in capfd.readouterr().err


def test_same_seed_same_run(selftest):
    """Wrong results included."""
    options = {"count": 3, "threads": 256, "shared": 1024, "bug": 1}
    runs = [selftest.run("rotate", seed=seed, **options)[1].nan_to_num() for seed in (5, 5, 6)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_limits(selftest, capfd):
    """What a GPU refuses is refused."""
    everyone = {"blocks": 64, "threads": 256}
    assert selftest.run("everyone", cooperative=1, sms=8, **everyone)[0] == 0
    assert selftest.run("everyone", cooperative=1, sms=7, **everyone)[0] == TOO_LARGE
    assert selftest.run("everyone", **everyone)[0] == LAUNCH_FAILURE
    assert "not cooperative" in capfd.readouterr().err
    assert selftest.run("everyone", shared=227 * 1024 + 1, cooperative=1)[0] == INVALID_VALUE
    before = selftest.gpu.launches()
    selftest.run("everyone", cooperative=1)
    assert selftest.gpu.launches() == before + 1


def test_structs_match_the_header():
    """The fields of params.h, in its order."""
    text = re.sub(r"//.*", "", (CSRC / "include/loreun/params.h").read_text())
    for name, struct in STRUCTS.items():
        (body,) = re.findall(rf"struct {name} {{(.*?)}};", text, re.S)
        fields = [re.findall(r"\w+", field)[-1] for field in re.split(r"[,;]", body) if field.strip()]
        assert fields == [field for field, _ in struct._fields_]
