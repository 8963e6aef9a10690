"""The machine code of the compiled CUDA kernels, without a GPU.

python tests/ops/cuda_code.py FOLDER     prints registers, stack and vector accesses of every kernel below a build folder
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

TYPES = {"f": "float", "d": "double", "__half": "half", "__nv_bfloat16": "bfloat16"}
WIDE = {
    "fused_kernel": ("LDG.128", "STG.128"), "stats_kernel": ("LDG.128",), "gradient_kernel": ("LDG.128", "STG.128"),
}  # fmt: skip


def found() -> bool:
    """Whether the tools are here."""
    return None not in (_tool("cuobjdump"), _tool("nvdisasm"))


def kernels(folder: Path) -> dict[str, Counter[str]]:
    """Of each kernel in the objects below `folder`: REG, STACK and LOCAL, and how often each memory instruction is there."""
    used: dict[str, Counter[str]] = {}
    for path in folder.rglob("*.cu.o"):
        kernel = ""
        for line in _said("-res-usage", path):
            if match := re.match(r" *Function (\w+):", line):
                kernel = match[1]
            elif kernel and "REG:" in line:
                used[kernel] = Counter({name: int(value) for name, value in re.findall(r"(\w+):(\d+)", line)})
                kernel = ""
        for line in _said("-sass", path):
            if match := re.search(r"Function : (\w+)", line):
                kernel = match[1]
            elif match := re.search(r"\b(LDG|STG|LDL|STL)(\.[\w.]+)?\b", line):
                used[kernel][match[1] + (".128" if ".128" in (match[2] or "") else "")] += 1
    return used


def _said(option: str, path: Path) -> list[str]:
    env = os.environ | {"PATH": f"{Path(_tool('nvdisasm') or '').parent}:{os.environ['PATH']}"}
    words = [_tool("cuobjdump") or "", option, str(path)]
    return subprocess.run(words, capture_output=True, text=True, check=True, env=env).stdout.splitlines()


def _tool(name: str) -> str | None:
    """An executable of the CUDA toolkit; Triton, which torch brings along, has the disassembler too."""
    homes = [Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin"]
    homes += [Path(entry) / "triton/backends/nvidia/bin" for entry in sys.path]
    there = next((home / name for home in homes if (home / name).is_file()), None)
    return str(there) if there else shutil.which(name)


if __name__ == "__main__":
    print(f"{'kernel':40} registers stack LDG.128 STG.128")
    for kernel, used in sorted(kernels(Path(sys.argv[1])).items()):
        kind = re.search(r"\d([a-z]+_kernel)I(?:\w*TileI)?\d*(\w+?)E", kernel)
        name = f"{kind[1]} {TYPES[kind[2]]}" if kind else kernel[:40]
        print(f"{name:40} {used['REG']:9} {used['STACK']:5} {used['LDG.128']:7} {used['STG.128']:7}")
