"""bench: the operator against its peers, and what the weighting costs per training step."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loreun_bench.cli.says import say

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
    from loreun_bench.cli.progress import Shares

    session = Session(device, threads, quick, style, out)
    options = (shape or (), dtype or (), provider or (), repeats, seconds, not no_compile)
    for text in session.run_ops(Shares(), *options):
        say(text, end="")
    for line in session.failed:
        say(f"failed: {line}", err=True)
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
    from loreun_bench.cli.progress import Shares

    for text in Session(device, threads, quick, style, out).run_rte(Shares(), steps):
        say(text, end="")
