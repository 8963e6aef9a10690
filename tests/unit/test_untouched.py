"""What a plug-in replaced in the process that plans is put back."""

from __future__ import annotations

import json

import pytest
import torch

from loreun_bench import untouched
from loreun_bench.plugins import load_plugin
from loreun_bench.training import loop


def test_replaced_functions_methods_and_classes_are_put_back():
    function, method, cls, own = torch.nn.functional.conv2d, torch.nn.Linear.forward, torch.nn.ReLU, loop.run_steps
    restore = untouched.remember()
    torch.nn.functional.conv2d = None
    torch.nn.Linear.forward = lambda self, x: x
    torch.nn.ReLU = torch.nn.Identity
    loop.run_steps = lambda *args, **options: None
    json.dumps = str
    told = restore()
    assert {"torch.nn.functional.conv2d", "Linear.forward", "json.dumps"} <= set(told)
    assert torch.nn.functional.conv2d is function
    assert torch.nn.Linear.forward is method
    assert torch.nn.ReLU is cls
    assert loop.run_steps is own
    assert json.dumps({"a": 1}) == '{"a": 1}'


def test_a_plug_in_that_replaces_a_function_leaves_the_planner_its_own(tmp_path):
    function = torch.nn.functional.batch_norm
    (tmp_path / "hostile.py").write_text("import torch\ntorch.nn.functional.batch_norm = None\n")
    load_plugin(tmp_path / "hostile.py")
    assert torch.nn.functional.batch_norm is function


def test_nothing_is_touched_where_nothing_was_replaced():
    assert untouched.remember()() == []


@pytest.mark.parametrize("name", ["added", "loads"])
def test_what_a_library_has_since_the_last_time_is_remembered_as_it_is_now(monkeypatch, name):
    untouched.remember()()
    mine = lambda text: text  # noqa: E731
    monkeypatch.setattr(json, name, mine, raising=False)
    restore = untouched.remember()
    setattr(json, name, len)
    assert restore() == [f"json.{name}"]
    assert getattr(json, name) is mine
