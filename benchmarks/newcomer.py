"""Runs the default sweep as a newcomer would, and reads its wall time, the time to its first row, and its peak memory.

    python benchmarks/newcomer.py [SWEEP ARGUMENTS …]

Store, data and run folder are new, so that nothing is cached. Memory is the proportional set size of the sweep and its
workers together, sampled ten times a second (Linux).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        return [pid, *(each for child in children.read_text().split() for each in family(int(child)))]
    except OSError:
        return []


def memory(pid: int) -> int:
    """Bytes that a process and its descendants hold together, shared pages counted once."""
    total = 0
    for each in family(pid):
        try:
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
            total += 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except (OSError, StopIteration):
            pass
    return total


def main() -> None:
    """Run, watch, print."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "loreun_bench", "sweep", *sys.argv[1:], "--out", f"{folder}/run"]
        variables = {**os.environ, "LOREUN_STORE": f"{folder}/store", "LOREUN_DATA": f"{folder}/data"}
        start = time.perf_counter()
        process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        peak = [0]

        def watch() -> None:
            while process.poll() is None:
                peak[0] = max(peak[0], memory(process.pid))
                time.sleep(0.1)

        threading.Thread(target=watch, daemon=True).start()
        first = None
        assert process.stderr is not None
        for line in process.stderr:
            if first is None and line.startswith("[1/"):
                first = time.perf_counter() - start
        process.wait()
        figures = {
            "command": " ".join(["sweep", *sys.argv[1:]]), "exit_code": process.returncode,
            "wall_s": round(time.perf_counter() - start, 1), "first_row_s": round(first or -1, 1),
            "peak_memory_gb": round(peak[0] / 1e9, 2), "cores": len(os.sched_getaffinity(0)),
        }  # fmt: skip
        print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
