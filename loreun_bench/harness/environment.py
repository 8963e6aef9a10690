"""What a number was measured on: versions, machine, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


@cache
def describe(device: str) -> dict[str, Any]:
    """A small description for every record: under 400 bytes, no host name, no user name, no path."""
    import torch

    name = torch.cuda.get_device_name() if device == "cuda" else _cpu_name()
    return {
        "loreun_bench": package_version(), **commit(), "torch": torch.__version__,
        "python": platform.python_version(), "os": platform.system(), "device": device, "device_name": name,
        "cores": cores(),
    }  # fmt: skip


def package_version() -> str:
    """The installed version of this package."""
    try:
        return version("loreun-bench")
    except PackageNotFoundError:
        return "not installed"


def cores() -> int:
    """The CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def commit() -> dict[str, Any]:
    """The git commit of the source checkout, and whether it had uncommitted changes; nothing outside a checkout."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return {}
    try:
        head = _git(root, "rev-parse", "--short=12", "HEAD")
        return {"commit": head, "dirty": bool(_git(root, "status", "--porcelain", "--", "loreun_bench"))}
    except (OSError, subprocess.CalledProcessError):
        return {}


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(root), *words], check=True, capture_output=True, text=True).stdout.strip()


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
