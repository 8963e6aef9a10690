"""Packages that only some scorers need: an error that names the extra where one is not installed."""

from __future__ import annotations

import importlib.util

from loreun_bench.errors import UserError


def fidelity() -> None:
    """UserError if torch-fidelity is not installed."""
    _need("torch_fidelity", "fid and kid need torch-fidelity: pip install 'loreun-bench[fid]'")


def nudenet() -> None:
    """UserError if NudeNet is not installed."""
    _need("nudenet", "nudity needs NudeNet: pip install 'loreun-bench[nudity]'")


def _need(package: str, says: str) -> None:
    try:
        found = importlib.util.find_spec(package)
    except ValueError:  # sys.modules holds None, as after a failed import
        found = None
    if found is None:
        raise UserError(says)
