"""env: versions, devices, folders, and which operator backend is active."""

from __future__ import annotations

import typer

from loreun_bench.cli.says import say


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(env)


def env() -> None:
    """Print versions, devices, folders, and which operator backend is active and why."""
    import torch

    from loreun_bench.harness import environment
    from loreun_bench.harness.store import data_root, default_root
    from loreun_bench.ops import native
    from loreun_bench.ops.functional import backend
    from loreun_bench.training.loop import automatic

    device = "cuda" if torch.cuda.is_available() else "cpu"
    for key, value in environment.describe(device).items():
        say(f"{key:14} {value}")
    say(f"{'torch CUDA':14} {torch.version.cuda or 'none'}; GPUs: {torch.cuda.device_count()}")
    say(f"{'precision':14} auto is {automatic(device)} here")
    say(f"{'operator':14} {backend(device)} ({native.state()[1]})")
    if native.state()[0]:
        python = "in Python, slower to call; what is built where it is installed has it in C++, for one torch and Python"
        say(f"{'autograd':14} {'in C++' if native.eager() else python}")
    say(f"{'store':14} {default_root()}")
    say(f"{'data':14} {data_root()}")
