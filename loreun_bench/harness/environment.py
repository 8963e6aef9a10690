"""What a number was measured on: versions, machine, commit."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "torchvision", "diffusers", "transformers")
WATCHED = ("python", "loreun_bench", *LIBRARIES)


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


def versions() -> dict[str, str]:
    """What a result may depend on beside its code: Python, this package, and those of LIBRARIES that are imported."""
    found = {"python": platform.python_version(), "loreun_bench": package_version()}
    for name in LIBRARIES:
        if name in sys.modules:
            found[name] = str(getattr(sys.modules[name], "__version__", "?"))
    return found


def others(made: dict[str, Any]) -> str:
    """The versions that a result was made under and that are others now, in words; nothing if it is none."""
    differ = {name: value for name, value in made.items() if name in WATCHED and value.partition("+")[0] != _now(name)}
    return ", ".join(f"{name} {value} (now {_now(name)})" for name, value in differ.items())


@cache
def _now(name: str) -> str:
    if name == "python":
        return platform.python_version()
    try:
        return version(name.replace("_", "-")).partition("+")[0]
    except PackageNotFoundError:
        return "not installed"


@cache
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
