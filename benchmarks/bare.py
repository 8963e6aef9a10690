"""`loreun-bench bench` for a bare machine: torch, numpy and tabulate are enough, typer and pydantic are not needed.

python benchmarks/bare.py ops|rte [--device cuda] [--seconds 3] [--quick] [--no-compile] [--format md] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from loreun_bench.bench.session import STYLES, Session
from loreun_bench.errors import UserError


def main() -> int:
    """Measure and print. Exit codes: 1 if the operator could not run, 2 for wrong input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("ops", "rte"))
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--seconds", type=float, default=10.0, help="ops: time for each shape, after warm-up")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--format", default="text", choices=STYLES)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    try:
        session = Session(options.device, 1, options.quick, options.format, options.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    titles: set[str] = set()

    def listen(title: str, share: float) -> None:
        if title not in titles:
            titles.add(title)
            print(f"{share:4.0%} {title}", file=sys.stderr, flush=True)

    texts = (
        session.run_ops(listen, seconds=options.seconds, compiled=not options.no_compile)
        if options.verb == "ops"
        else session.run_rte(listen)
    )
    for text in texts:
        print(text, end="", flush=True)
    for line in session.failed:
        print(f"failed: {line}", file=sys.stderr)
    return 1 if session.failed else 0


if __name__ == "__main__":
    sys.exit(main())
