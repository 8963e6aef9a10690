"""What `show protocols` says: each difference that `paper` repeats, and each that it does not."""

from __future__ import annotations

import importlib

import pytest

from loreun_bench.harness.protocol import explained
from loreun_bench.registry import TRACKS


@pytest.mark.parametrize("track", TRACKS)
def test_show_protocols_lists_what_is_repeated_and_what_is_not(command, track):
    module = importlib.import_module(f"loreun_bench.{track}.unlearning.protocols")
    code, out, _ = command("show", "protocols", "paper", "--track", track)
    assert code == 0
    repeated, left = out.split("Where neither protocol")
    assert explained(module.Protocol)
    assert all(f"{name}: {why}" in repeated for name, why in explained(module.Protocol).items())
    assert module.NOT_REPEATED
    assert all(f"- {sentence}" in left for sentence in module.NOT_REPEATED)
