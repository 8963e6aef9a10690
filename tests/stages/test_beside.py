"""Pins that code of the user's finds the modules beside it, wherever a sweep is started, and never another project's."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import usually

import loreun_bench
from loreun_bench.errors import UserError
from loreun_bench.plugins import call_reference

CONFIG = {
    "name": "beside", "dataset": "digits", "seeds": 1, "device": "cpu", "train": {"epochs": 1}, "noise_floor": False,
    "scenarios": [{"kind": "random", "fraction": 0.2}], "methods": {"RL": {"epochs": 1}}, "weightings": ["none"],
    "metrics": ["accuracy", "loss"], "limit_images": 300,
}  # fmt: skip
METHOD = """
{imports}
from dataclasses import dataclass
import torch
from loreun_bench import method

@method("{name}", uses={{"forget"}})
@dataclass(frozen=True)
class Own:
    "Scales a weight."
    def unlearn(self, model, data, context):
        {body}
        with torch.no_grad():
            next(model.parameters()).mul_(by)
        return model
"""
NET = """
from pathlib import Path
from torch import nn
{imports}
def net(channels, classes, size):
    {body}
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], width), nn.ReLU(), nn.Linear(width, classes))
"""
LAZY = """
from torch import nn
class Net(nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.last = nn.Linear(inputs, classes)
    def forward(self, x):
        from nets.tiny import WIDTH
        assert WIDTH == {width}
        return self.last(x.flatten(1) * WIDTH)
def net(channels, classes, size):
    return Net(channels * size[0] * size[1], classes)
"""
SHAPES: dict[str, tuple[dict[str, str], str, str]] = {  # files, imports, body
    "a module": ({"tiny.py": "WIDTH = 4\n"}, "from tiny import WIDTH", "width = WIDTH"),
    "in the function": ({"tiny.py": "WIDTH = 4\n"}, "", "from tiny import WIDTH as width"),
    "by its name": ({"nets/tiny.py": "WIDTH = 4\n"}, "import importlib",
                    "width = importlib.import_module('nets.tiny').WIDTH"),
    "a package": ({"nets/__init__.py": "", "nets/tiny.py": "WIDTH = 4\n"}, "import nets.tiny", "width = nets.tiny.WIDTH"),
    "without __init__": ({"nets/tiny.py": "WIDTH = 4\n"}, "import nets.tiny", "width = nets.tiny.WIDTH"),
    "a folder in it": ({"nets/deep/tiny.py": "WIDTH = 4\n"}, "", "from nets.deep.tiny import WIDTH as width"),
    "a module that imports one": (
        {"nets/tiny.py": "from utils import WIDTH\n", "utils.py": "WIDTH = 4\n"}, "", "from nets.tiny import WIDTH as width"
    ),
    "relatively": (
        {"nets/__init__.py": "from .tiny import WIDTH\n", "nets/tiny.py": "from . import more\nWIDTH = more.WIDTH\n",
         "nets/more.py": "WIDTH = 4\n"}, "from nets import WIDTH", "width = WIDTH"
    ),
    "a file in the package": (
        {"nets/__init__.py": "", "nets/w.txt": "4"}, "from importlib import resources\nimport nets",
        "width = int(resources.files(nets).joinpath('w.txt').read_text())",
    ),
    "a file in the folder": ({"nets/tiny.py": "", "nets/w.txt": "4"}, "from importlib import resources\nimport nets.tiny",
                             "width = int(resources.files(nets).joinpath('w.txt').read_text())"),
    "pickled": (
        {"nets/tiny.py": "class Box:\n    width = 4\n"}, "import pickle",
        "width = pickle.loads(b'\\x80\\x03cnets.tiny\\nBox\\n.').width",
    ),
}  # fmt: skip


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def sweep(folder: Path, name: str = "run", workers: int = 1, **change: Any) -> dict[str, dict[str, float]]:
    """The metrics of every row of a sweep."""
    plugins = change.pop("plugins", ())
    records = loreun_bench.sweep(CONFIG | change, folder / name, workers=workers, plugins=plugins)
    assert [record.reason for record in records if record.status != "ok"] == []
    return {record.method: record.metrics for record in records}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep is started from a folder that has nothing to do with the project."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")


@pytest.mark.parametrize("kind", usually("without __init__", "a file in the folder", of=SHAPES))
def test_what_lies_beside_is_found_from_any_folder(tmp_path: Path, kind: str) -> None:
    files, imports, body = SHAPES[kind]
    write(tmp_path / "mine", {**files, "mine.py": NET.format(imports=imports, body=body)})
    path = list(sys.path)
    sweep(tmp_path, model=f"{tmp_path}/mine/mine.py:net")
    assert sys.path == path


@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_imported_only_when_the_network_runs(tmp_path: Path, workers: int) -> None:
    write(tmp_path / "mine", {"mine.py": LAZY.format(width=4), "nets/tiny.py": "WIDTH = 4\n"})
    sweep(tmp_path, workers=workers, model=f"{tmp_path}/mine/mine.py:net")


@pytest.mark.parametrize("workers", [0, 1])
def test_two_projects_with_modules_of_the_same_names_do_not_mix(tmp_path: Path, workers: int) -> None:
    """One after the other in one process, and the first again; one has a module where the other has a package."""
    for name, width in (("one", 4), ("two", 5)):
        write(tmp_path / name, {"mine.py": LAZY.format(width=width), "nets/tiny.py": f"WIDTH = {width}\n"})
    other = NET.format(imports="import nets", body="width = nets.WIDTH")
    write(tmp_path / "three", {"mine.py": other, "nets.py": "WIDTH = 6"})
    found = {}
    for number, name in enumerate(("one", "three", "two", "one")):
        found[number] = sweep(tmp_path, f"run-{number}", workers, model=f"{tmp_path}/{name}/mine.py:net")
    assert found[0] == found[3] != found[2]


def test_in_one_sweep_a_row_of_each_project_has_its_own(tmp_path: Path) -> None:
    body = "from utils import by\n        from nets.tiny import WIDTH\n        assert WIDTH == by"
    for name, by in (("one", 2.0), ("two", 3.0)):
        text = METHOD.format(name=name, imports="import utils", body=body)
        write(tmp_path / name, {"m.py": text, "utils.py": f"by = {by}\n", "nets/tiny.py": f"WIDTH = {by}\n"})
    plugins = [tmp_path / name / "m.py" for name in ("one", "two")]
    both = sweep(tmp_path, methods={"one": {}, "two": {}}, plugins=plugins)
    assert both["one"] != both["two"]
    alone = sweep(tmp_path, "alone", methods={"two": {}}, plugins=plugins[1:])
    assert alone["two"] == both["two"]


@pytest.mark.parametrize("when", ["at import", "in the function"])
def test_one_row_of_two_projects_with_modules_of_one_name_is_refused(tmp_path: Path, when: str) -> None:
    net = NET.format(imports="import utils", body="width = utils.WIDTH")
    write(tmp_path / "one", {"mine.py": net, "utils.py": "WIDTH = 4\n"})
    imports, body = ("", "from utils import by") if when == "in the function" else ("import utils", "by = utils.by")
    text = METHOD.format(name="own", imports=imports, body=body)
    write(tmp_path / "two", {"m.py": text, "utils.py": "by = 2.0\n"})
    with pytest.raises(UserError, match=r"'utils' is a module beside the user's files in .*rename one"):
        sweep(tmp_path, model=f"{tmp_path}/one/mine.py:net", methods={"own": {}}, plugins=[tmp_path / "two" / "m.py"])


def test_one_row_in_which_names_meet_only_when_it_runs_fails(tmp_path: Path) -> None:
    write(tmp_path / "one", {"mine.py": NET.format(imports="", body="width = 4"), "utils.py": "by = 9.0\n"})
    text = METHOD.format(name="own", imports="", body="from utils import by")
    write(tmp_path / "two", {"m.py": text, "utils.py": "by = 2.0\n"})
    change = CONFIG | {"model": f"{tmp_path}/one/mine.py:net", "methods": {"own": {}}}
    records = loreun_bench.sweep(change, tmp_path / "run", workers=1, plugins=[tmp_path / "two" / "m.py"])
    row = next(record for record in records if record.method == "own")
    assert row.status == "failed"
    assert "'utils' is a module beside" in row.reason


def test_what_lies_beside_hides_no_module_from_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `shutil.py` of the user's is the user's alone: argparse, which imports it when it is used, gets Python's."""
    text = (
        "import argparse, sys\n"
        "def library():\n    argparse.HelpFormatter('x')\n    return sys.modules['shutil']\n"
        "def own():\n    import shutil\n    return shutil\n"
    )
    write(tmp_path / "mine", {"shutil.py": "MINE = True\n", "mine.py": text})
    for name, mine in (("library", False), ("own", True)):
        monkeypatch.delitem(sys.modules, "shutil")
        assert hasattr(call_reference(f"{tmp_path}/mine/mine.py:{name}", "function"), "MINE") == mine
    monkeypatch.delitem(sys.modules, "shutil")
    assert not hasattr(importlib.import_module("shutil"), "MINE")


@pytest.mark.parametrize("track", ["classification", "generation"])
def test_check_finds_what_lies_beside_in_both_tracks(tmp_path: Path, monkeypatch: Any, command: Any, track: str) -> None:
    write(tmp_path / "mine", {"nets/tiny.py": "WIDTH = 4\n"})
    monkeypatch.chdir(tmp_path / "mine")
    assert command("new", "method", "own", "--track", track)[0] == 0
    path = tmp_path / "mine" / "own.py"
    path.write_text(path.read_text() + "\n\nfrom nets.tiny import WIDTH\n")
    monkeypatch.chdir(tmp_path / "elsewhere")
    code, out, err = command("check", path)
    assert (code, err) == (0, ""), out + err
