"""The CUDA sources without a GPU: they compile and link for sm_90, and the machine code is looked at.

python tests/ops/test_cuda_source.py     prints registers, spills and vector accesses of every kernel
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
FLAGS = [
    "-std=c++20",
    "-O3",
    "-gencode=arch=compute_90,code=sm_90",
    "-Xptxas=-v",
    "-Xcompiler=-fPIC",
    f"-I{CSRC}",
    f"-I{CSRC}/include",
]
TYPES = {"f": "float", "d": "double", "__half": "half", "__nv_bfloat16": "bfloat16"}
NEEDS = {
    "fused_kernel": ("LDG.128", "STG.128"), "stats_kernel": ("LDG.128",), "gradient_kernel": ("LDG.128", "STG.128"),
}  # fmt: skip


def find(tool: str) -> str | None:
    """An executable of the CUDA toolkit; Triton, which torch brings along, has the disassembler too."""
    homes = [Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin"]
    homes += [Path(entry) / "triton/backends/nvidia/bin" for entry in sys.path]
    found = next((home / tool for home in homes if (home / tool).is_file()), None)
    return str(found) if found else shutil.which(tool)


NVCC, CUOBJDUMP = find("nvcc"), find("cuobjdump")
pytestmark = [
    pytest.mark.skipif(NVCC is None, reason="no nvcc"),
    pytest.mark.skipif(CUOBJDUMP is None or find("nvdisasm") is None, reason="no cuobjdump and nvdisasm"),
]


def compiled(folder: Path) -> dict[str, tuple[Path, str]]:
    """Every .cu compiled: its object, and what ptxas said."""

    def one(source: Path) -> tuple[str, tuple[Path, str]]:
        out = folder / f"{source.stem}.o"
        done = subprocess.run([NVCC, *FLAGS, "-c", str(source), "-o", str(out)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return source.name, (out, done.stderr)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(pool.map(one, sorted((CSRC / "cuda").glob("*.cu"))))


def resources(said: str) -> dict[str, dict[str, int]]:
    """ptxas's report by kernel: registers, stack, spills."""
    found, kernel = {}, ""
    for line in said.splitlines():
        if match := re.search(r"Compiling entry function '(\w+)'", line):
            kernel = match[1]
            found[kernel] = {}
        if match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            found[kernel] |= dict(zip(("stack", "spill_stores", "spill_loads"), map(int, match.groups()), strict=True))
        if match := re.search(r"Used (\d+) registers", line):
            found[kernel]["registers"] = int(match[1])
    return found


def instructions(path: Path) -> dict[str, Counter[str]]:
    """How often each memory instruction stands in each kernel's machine code."""
    env = os.environ | {"PATH": f"{Path(find('nvdisasm') or '').parent}:{os.environ['PATH']}"}
    sass = subprocess.run([CUOBJDUMP, "-sass", str(path)], capture_output=True, text=True, check=True, env=env).stdout
    found: dict[str, Counter[str]] = {}
    kernel = ""
    for line in sass.splitlines():
        if match := re.search(r"Function : (\w+)", line):
            kernel = match[1]
            found[kernel] = Counter()
        elif match := re.search(r"\b(LDG|STG|LDL|STL)(\.[\w.]+)?\b", line):
            found[kernel][match[1] + (".128" if ".128" in (match[2] or "") else "")] += 1
    return found


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("cuda"))


def test_no_kernel_spills_or_has_a_stack(objects):
    reports = {kernel: r for _, said in objects.values() for kernel, r in resources(said).items()}
    assert len(reports) >= 12  # three kernels or more of each loss and type
    for kernel, report in reports.items():
        assert report["spill_stores"] == report["spill_loads"] == report["stack"] == 0, (kernel, report)


def test_wide_kernels_load_and_store_16_bytes_and_none_uses_local_memory(objects):
    found = {kernel: count for path, _ in objects.values() for kernel, count in instructions(path).items()}
    assert found
    assert not [kernel for kernel, count in found.items() if count["LDL"] or count["STL"]]
    for name, needs in NEEDS.items():
        kernels = [kernel for kernel in found if name in kernel]
        assert len(kernels) >= 4, name  # one a type
        for kernel in kernels:
            assert all(found[kernel][need] for need in needs), (kernel, found[kernel])


def test_the_objects_link(objects, tmp_path):
    paths = [str(path) for path, _ in objects.values()]
    done = subprocess.run(
        [
            NVCC,
            "-shared",
            *paths,
            str(CSRC / "cuda/plan.cpp"),
            f"-I{CSRC}/include",
            "-std=c++20",
            "-Xcompiler=-fPIC",
            "-o",
            str(tmp_path / "kernels.so"),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        print(f"{'kernel':40} registers spill stack LDG.128 STG.128")
        for source, (path, said) in compiled(Path(folder)).items():
            code = instructions(path)
            for kernel, r in sorted(resources(said).items()):
                kind = re.search(r"\d([a-z]+_kernel)I(?:\w*TileI)?\d*(\w+?)E", kernel)
                name = f"{source.removesuffix('.cu')} {kind[1]} {TYPES[kind[2]]}" if kind else kernel
                spill = r["spill_stores"] + r["spill_loads"]
                wide = code[kernel]
                print(f"{name:40} {r['registers']:9} {spill:5} {r['stack']:5} {wide['LDG.128']:7} {wide['STG.128']:7}")
