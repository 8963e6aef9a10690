"""Openers of libraries that read below Python are called as they were."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from loreun_bench.harness import openers


@pytest.mark.parametrize("how", ["by place", "by name"])
def test_a_path_may_be_given_by_place_or_by_name(tmp_path, how):
    path, read = tmp_path / "w.safetensors", []
    save_file({"a": torch.ones(2)}, path)
    told = openers._telling(safe_open, read.append, 0)
    file = told(path, framework="pt") if how == "by place" else told(filename=path, framework="pt")
    with file as opened:
        assert opened.get_tensor("a").tolist() == [1, 1]
    assert read == [path]
