"""SECURITY.md: each promise names tests that there are; and the promises that no other file holds."""

from __future__ import annotations

import ast
import os
import pickle
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from loreun_bench import plain_yaml
from loreun_bench.classification.data import lists, sources
from loreun_bench.classification.unlearning import checkpoints
from loreun_bench.errors import UserError
from loreun_bench.generation.scoring import weights

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text().partition("## Measured")[0]
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ")][1:]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split(":")[0].strip("| ")[:50])
def test_each_promise_names_tests_that_there_are(row):
    promise, tests = row.strip("|").rsplit("|", 1)
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", tests)
    assert named, promise
    for file, name in named:
        functions = [node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)]
        assert name in functions


class Code:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {shlex.quote(str(self.path))}",)


@pytest.mark.parametrize("zipped", [True, False, None])
def test_code_in_a_checkpoint_is_not_run(zipped, tmp_path):
    ran, path = tmp_path / "ran", tmp_path / "w.pt"
    if zipped is None:
        path.write_bytes(pickle.dumps({"w": Code(ran)}))
    else:
        torch.save({"w": Code(ran)}, path, _use_new_zipfile_serialization=zipped)
    for read in (lambda: checkpoints.read(path, torch.nn.Linear(2, 2)), lambda: weights.read_state(path)):
        with pytest.raises(UserError):
            read()
        assert not ran.exists()


def test_pickled_arrays_are_not_read(tmp_path):
    ran = tmp_path / "ran"
    code = np.array([Code(ran)] * 4, dtype=object)
    np.savez(tmp_path / "d.npz", x_train=code, y_train=code)
    np.save(tmp_path / "l.npy", code)
    (tmp_path / "p.npy").write_bytes(pickle.dumps(Code(ran)))
    with pytest.raises(UserError, match="no objects"):
        sources.read_npz(tmp_path / "d.npz")
    for name in ("l.npy", "p.npy"):
        with pytest.raises(UserError, match=r"no plain \.npy"):
            lists.read_list(tmp_path / name, {}, 4)
    assert not ran.exists()


@pytest.mark.parametrize(
    "text", ["a: !!python/object/apply:os.system [x]", "a: !x 1", "a: &b 1\nc: *b", "<<: *b", "a: 1\na: 2", "? [a]\n: 1"]
)
def test_yaml_is_of_plain_values_only(text):
    with pytest.raises(UserError, match=r"^here: "):
        plain_yaml.parsed(text, "here")


@pytest.mark.parametrize("value", ["1e-4", "007", "12:30", "yes", "null", "~", ".inf", "1_000", "0x10", "- a", "#", "a: b"])
def test_a_text_that_looks_like_something_else_is_written_as_text(value):
    assert plain_yaml.parsed(plain_yaml.dumped({"a": [value]}), "here") == {"a": [value]}
