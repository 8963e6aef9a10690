"""bench: the operator against its peers, and what the weighting costs per training step."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

bench = typer.Typer(help="The operator against its peers; the cost of reweighting per training step.")
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda")]
Threads = Annotated[int, typer.Option("--threads", min=1, help="CPU threads of torch")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE.json", help="write the figures as JSON, too")]
Style = Annotated[str, typer.Option("--format", help="text or md")]


def register(app: typer.Typer) -> None:
    """Add the family."""
    app.add_typer(bench, name="bench")


@bench.command()
def ops(
    shape: Annotated[
        list[str] | None, typer.Option("--shape", help="256x10: cross entropy; 8x4x64x64: MSE; 256x10+256x10: a step")
    ] = None,
    dtype: Annotated[list[str] | None, typer.Option("--dtype", help="fp32, bf16, fp16 or fp64")] = None,
    provider: Annotated[list[str] | None, typer.Option("--provider", help="only this one, such as ours or copy")] = None,
    device: Device = "auto",
    threads: Threads = 1,
    repeats: Annotated[int, typer.Option("--repeats", min=2, help="samples of each side, at most")] = 30,
    seconds: Annotated[float, typer.Option("--seconds", min=0, help="time for each shape, about, after warm-up")] = 10.0,
    quick: Annotated[bool, typer.Option("--quick", help="small shapes, three samples: to see that it runs")] = False,
    no_compile: Annotated[bool, typer.Option("--no-compile", help="leave torch.compile out")] = False,
    out: Out = None,
    style: Style = "text",
) -> None:
    """Time, memory and error of the weighted losses: ours, eager, compiled, and the roofline. Exit code 1: ours failed."""
    from loreun_bench.bench.session import Session

    session = Session(device, threads, quick, style, out)
    options = (shape or (), dtype or (), provider or (), repeats, seconds, not no_compile)
    for text in session.run_ops(_Progress(), *options):
        print(text, end="", flush=True)
    for line in session.failed:
        print(f"failed: {line}", file=sys.stderr)
    if session.failed:
        raise typer.Exit(1)


@bench.command()
def rte(
    device: Device = "auto",
    threads: Threads = 1,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="samples of each side instead of the usual")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="small CNN only, two samples: to see that it runs")] = False,
    out: Out = None,
    style: Style = "text",
) -> None:
    """Time of a training step with and without weighting, side by side in the harness's loop."""
    from loreun_bench.bench.session import Session

    for text in Session(device, threads, quick, style, out).run_rte(_Progress(), steps):
        print(text, end="")


class _Progress:
    """What is under way and the time left, on stderr: one line that changes on a terminal, a line a case elsewhere."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._title = ""

    def __call__(self, title: str, share: float) -> None:
        spent = time.monotonic() - self._start
        left = f"{_clock(spent * (1 - share) / share)} left" if share > 0 else "time left: ?"
        if sys.stderr.isatty():
            end = "" if share < 1 else "\n"
            print(f"\r\x1b[K{share:4.0%} {title} ({left})", end=end, file=sys.stderr, flush=True)
        elif title != self._title:
            print(f"{share:4.0%} {title} ({left})", file=sys.stderr, flush=True)
        self._title = title


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
