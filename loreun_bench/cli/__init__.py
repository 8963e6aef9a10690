"""The command line: one file a family of verbs. Only this package prints; heavy imports happen inside the verbs."""

from __future__ import annotations

import importlib
import os
import sys

import typer

from loreun_bench.cli.says import say
from loreun_bench.errors import UserError, told

FAMILIES = (
    "sweep", "tune", "browse", "tables", "compare", "audit", "verify", "export", "data", "info", "plugins", "bench", "score",
    "split", "figures", "report", "store",
)  # fmt: skip
app = typer.Typer(
    name="loreun-bench",
    help="Which unlearning method, with which loss reweighting, comes closest to retraining, and at what cost?",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 some cells failed or the machine did, 2 wrong input, 130 interrupted."""
    for family in FAMILIES:
        importlib.import_module(f"loreun_bench.cli.{family}").register(app)
    try:
        sys.exit(app(standalone_mode=False))
    except UserError as error:
        say(f"error: {error}", err=True)
        sys.exit(2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        if os.environ.get("LOREUN_DEBUG"):
            raise
        say(f"error: {told(error)}", err=True)
        sys.exit(1)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        say(f"error: {' '.join(error.format_message().split())} (see -h)", err=True)  # click's, of a wrong option
        sys.exit(2)
    except KeyboardInterrupt:
        say("interrupted", err=True)
        sys.exit(130)
