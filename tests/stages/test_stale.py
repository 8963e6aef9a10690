"""Pins that no result is taken from the store once a file of the user's that it was made with has changed (case 4)."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import usually
from safetensors.torch import save_file

import loreun_bench
from loreun_bench import config as configuration
from loreun_bench.errors import UserError
from loreun_bench.harness.plan import build, forecast
from loreun_bench.harness.records import Record
from loreun_bench.harness.store import Store, default_root
from loreun_bench.harness.unseen import unseen

CONFIG = {
    "name": "stale", "dataset": "digits", "seeds": 1, "device": "cpu", "precision": "fp32", "noise_floor": False,
    "train": {"epochs": 1},
    "scenarios": [{"kind": "random", "fraction": 0.2}], "methods": {"RL": {"epochs": 1}}, "weightings": ["none"],
    "metrics": ["accuracy", "loss"], "limit_images": 300,
}  # fmt: skip
NET = """
import os, sys
from pathlib import Path
from torch import nn
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
{imports}
def net(channels, classes, size):
    {body}
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], int(width)), nn.ReLU(),
                         nn.Linear(int(width), classes))
"""
METHOD = """
import json
from dataclasses import dataclass
from pathlib import Path
import torch
from loreun_bench import method

@method("own", uses={{"forget"}}{files})
@dataclass(frozen=True)
class Own:
    "Scales a weight by what a file says."
    def unlearn(self, model, data, context):
        {body}
        with torch.no_grad():
            next(model.parameters()).mul_(by)
        return model
"""


class Project:
    """A folder of the user's, and sweeps with it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.runs = folder, 0
        self.heard: list[Any] = []

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def sweep(self, workers: int = 0, **change: Any) -> dict[str, dict[str, float]]:
        """The metrics of every row; what listeners hear is in `heard`."""
        self.runs += 1
        self.heard.clear()
        plugins = change.pop("plugins", ())
        out = change.pop("out", self.folder.parent / f"run-{self.folder.name}-{self.runs}")
        options = {"workers": workers, "plugins": plugins, "listen": self.heard.append}
        records: list[Record] = loreun_bench.sweep(CONFIG | change, out, **options)
        assert [record.reason for record in records if record.status != "ok"] == []
        return {record.method: record.metrics for record in records}

    @property
    def notes(self) -> list[str]:
        return [event.text for event in self.heard if event.kind == "note"]

    @property
    def started(self) -> int:
        return sum(event.kind == "started" for event in self.heard)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    return Project(tmp_path / "mine")


def number(path: Path, value: int) -> None:
    """A file that holds one number, in the format of its ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, np.array(value))
    elif path.suffix == ".pt":
        torch.save({"width": torch.tensor(value)}, path)
    elif path.suffix == ".safetensors":
        save_file({"width": torch.tensor(value)}, path)
    elif path.suffix == ".py":
        path.write_text(f"WIDTH = {value}\n")
    else:
        path.write_text(json.dumps(value))


IMPORTS: dict[str, tuple[str, str, str]] = {  # file, imports, body
    "a package": ("nets/tiny.py", "from nets.tiny import WIDTH", "width = WIDTH"),
    "a package, in the function": ("nets/deep/tiny.py", "", "from nets.deep.tiny import WIDTH as width"),
    "a module of a module": ("tiny_of.py", "from nets_of import width_of", "width = width_of()"),
    "numpy": ("w.npy", "import numpy as np", "width = np.load(HERE / 'w.npy')"),
    "torch": ("w.pt", "import torch", "width = torch.load(HERE / 'w.pt', weights_only=True)['width']"),
    "safetensors": (
        "w.safetensors", "from safetensors.torch import load_file", "width = load_file('w.safetensors')['width']",
    ),
    "safe_open": (
        "w.safetensors", "from safetensors import safe_open",
        "with safe_open(HERE / 'w.safetensors', 'pt') as file: width = file.get_tensor('width')",
    ),
    "at import": ("w.json", "import json\nWIDTH = json.loads((HERE / 'w.json').read_text())", "width = WIDTH"),
    "os.open": ("w.json", "", "width = os.read(os.open(HERE / 'w.json', os.O_RDONLY), 9)"),
    "another folder": ("../beside/w.json", "import json", "width = json.loads((HERE.parent / 'beside/w.json').read_text())"),
    "from the working directory": ("data/w.json", "import json", "width = json.load(open('data/w.json'))"),
    "a library's thread": (
        "w.json", "import json\nfrom concurrent.futures import ThreadPoolExecutor",
        "with ThreadPoolExecutor(1) as pool: width = pool.submit(Path.read_text, HERE / 'w.json').result()",
    ),
    "a process of its own": (
        "w.json", "import multiprocessing",
        "with multiprocessing.get_context('fork').Pool(1) as pool: width = pool.map(Path.read_text, [HERE / 'w.json'])[0]",
    ),
}  # fmt: skip
ONLY_IN_OWN = ("a library's thread",)  # in the caller's process, a thread may be anybody's
HERE = [(kind, 0) for kind in IMPORTS if kind not in ONLY_IN_OWN]
OWN = [(kind, 1) for kind in IMPORTS]
USUAL = [*HERE[:8:3], ("a library's thread", 1), ("a process of its own", 1)]


@pytest.mark.parametrize(("kind", "workers"), usually(*USUAL, of=[*HERE, *OWN]))
def test_a_file_that_the_model_function_imports_or_opens(project: Project, kind: str, workers: int) -> None:
    file, imports, body = IMPORTS[kind]
    path = project.folder / file
    project.write("nets_of.py", "import tiny_of\ndef width_of():\n    return tiny_of.WIDTH\n")
    model = project.write("mine.py", NET.format(imports=imports, body=body))
    number(path, 4)
    first = project.sweep(workers, model=f"{model}:net")
    assert project.sweep(workers, model=f"{model}:net") == first
    assert project.started == 0
    before = path.stat()
    number(path, 5)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # the same size, and as if within the same instant
    plan = build(configuration.load(CONFIG | {"model": f"{model}:net"}))
    told = {words for each in forecast(plan, Store(default_root())) for words in each.changed}
    second = project.sweep(workers, model=f"{model}:net")
    assert second != first
    assert len(project.notes) == 1
    assert path.name in project.notes[0]
    assert {word.rpartition("/")[2] for word in told} == {f"{path.name} changed"}
    number(path, 4)
    assert project.sweep(workers, model=f"{model}:net") == first
    assert project.started == 0
    if path.suffix == ".py":
        path.write_text("# a comment\n" + path.read_text())
        assert project.sweep(workers, model=f"{model}:net") == first
        assert project.started == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_a_json_that_a_method_reads_while_it_unlearns(project: Project, workers: int) -> None:
    body = "by = json.loads((Path(__file__).parent / 'by.json').read_text())"
    file = project.write("own.py", METHOD.format(body=body, files=""))
    change = {"methods": {"RL": {"epochs": 1}, "own": {}}, "plugins": [file]}
    number(project.folder / "by.json", 2)
    first = project.sweep(workers, **change)
    number(project.folder / "by.json", 3)
    second = project.sweep(workers, **change)
    assert first["own"] != second["own"]
    assert first["RL"] == second["RL"]
    assert project.started == 2  # the method, and the measuring of it
    assert project.notes == ["by.json changed: what used it is made again"]
    artifacts = [json.loads(p.read_text()) for p in default_root().glob("artifacts/*/*/manifest.json")]
    used = [each["used"] for each in artifacts if each["run"].endswith(":unlearn") and each["used"]]
    assert [list(each) for each in used] == [["0:by.json"]] * 2
    assert len({each["0:by.json"] for each in used}) == 2


def test_a_file_that_is_not_there_yet_and_one_that_is_gone(project: Project) -> None:
    body = (
        "by = 2.0\n        try:\n            by = float(open(Path(__file__).parent / 'by.txt').read())\n"
        "        except FileNotFoundError:\n            pass"
    )
    file = project.write("own.py", METHOD.format(body=body, files=""))
    change = {"methods": {"own": {}}, "plugins": [file]}
    first = project.sweep(**change)
    project.write("by.txt", "5")
    assert project.sweep(**change)["own"] != first["own"]
    assert project.notes == ["by.txt is new: what used it is made again"]
    (project.folder / "by.txt").unlink()
    assert project.sweep(**change) == first
    assert project.started == 0


def test_a_file_more_in_a_folder_that_the_user_lists(project: Project) -> None:
    body = "by = 2.0 + len(list((Path(__file__).parent / 'parts').glob('*.json')))"
    file = project.write("own.py", METHOD.format(body=body, files=""))
    project.write("parts/a.json", "1")
    change = {"methods": {"own": {}}, "plugins": [file]}
    first = project.sweep(**change)
    project.write("parts/b.json", "1")
    assert project.sweep(**change)["own"] != first["own"]


@pytest.mark.parametrize("how", ["files=", "FILES"])
def test_files_that_are_declared(project: Project, how: str) -> None:
    """torch._C.PyTorchFileReader opens below Python, and no wrapper knows it."""
    body = (
        "reader = torch._C.PyTorchFileReader(str(Path(__file__).parent / 'parts' / 'w.pt'))\n"
        "        by = 1 + reader.get_record('data/0')[0]"
    )
    text = METHOD.format(body=body, files=', files=["parts/*.pt"]' if how == "files=" else "")
    file = project.write("own.py", text + ('\nFILES = ["parts/*.pt"]\n' if how == "FILES" else ""))
    number(project.folder / "parts" / "w.pt", 2)
    change = {"methods": {"own": {}}, "plugins": [file]}
    first = project.sweep(**change)
    number(project.folder / "parts" / "w.pt", 3)
    assert project.sweep(**change)["own"] != first["own"]
    assert project.notes == ["parts/*.pt changed: what used it is made again"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_table_that_a_data_function_reads_and_a_module_beside_it(project: Project, workers: int) -> None:
    project.write("shift.py", "BY = 1\n")
    project.write("rows.csv", "2\n")
    file = project.write(
        "mine.py",
        "import sys\nfrom pathlib import Path\nimport numpy as np\nsys.path.insert(0, str(Path(__file__).parent))\n"
        "import shift\n"
        "def data():\n"
        "    labels = np.arange(200) % 4\n"
        "    images = np.random.default_rng(0).integers(0, 50, (200, 6, 7, 1)) + 50 * labels[:, None, None, None]\n"
        "    images = (images + 20 * int(open('rows.csv').read()) * shift.BY).astype(np.uint8)\n"
        "    return images[:150], labels[:150], images[150:], labels[150:]\n",
    )
    change = {"dataset": f"{file}:data", "limit_images": None, "out": project.folder.parent / "run"}
    found = [project.sweep(workers, **change)]
    assert project.notes == []
    project.write("rows.csv", "3\n")
    found.append(project.sweep(workers, **change))
    (note,) = project.notes
    assert note.startswith("changed since the last run")
    assert note.endswith(": data, normalised by; its rows are made again")
    project.write("shift.py", "BY = 2\n")
    found.append(project.sweep(workers, **change))
    assert len({json.dumps(each, sort_keys=True) for each in found}) == 3


def test_a_copy_of_a_project_uses_its_own_files_and_shares_what_is_equal(project: Project, monkeypatch) -> None:
    project.write("nets/tiny.py", "WIDTH = 4\n")
    project.write("mine.py", NET.format(imports="from nets.tiny import WIDTH", body="width = WIDTH"))
    first = project.sweep(model="mine.py:net", workers=1)
    copy = Project(project.folder.parent / "copy")
    shutil.copytree(project.folder, copy.folder)
    monkeypatch.chdir(copy.folder)
    assert copy.sweep(model="mine.py:net", workers=1) == first
    assert copy.started == 0
    copy.write("nets/tiny.py", "WIDTH = 5\n")
    assert copy.sweep(model="mine.py:net", workers=1) != first
    monkeypatch.chdir(project.folder)
    assert project.sweep(model="mine.py:net", workers=1) == first
    assert project.started == 0


def test_a_copy_does_not_take_the_originals_file_that_lies_outside_its_folder(project: Project, monkeypatch) -> None:
    text = NET.format(imports="import json", body="width = json.loads((HERE.parent / 'w.json').read_text())")
    for name, width in (("one", 4), ("two", 5)):
        project.write(f"../{name}/code/mine.py", text)
        number(project.folder.parent / name / "w.json", width)
    found = []
    for name in ("one", "two"):
        monkeypatch.chdir(project.folder.parent / name / "code")
        found.append(project.sweep(model="mine.py:net"))
    assert found[0] != found[1]


def test_fresh_makes_every_result_anew_and_keeps_the_old_until_then(project: Project) -> None:
    first = project.sweep()
    times = written()
    records = loreun_bench.sweep(CONFIG, project.folder.parent / "fresh", workers=0, fresh=True, listen=project.heard.append)
    assert {r.method: r.metrics for r in records} == first
    after = written()
    assert after.keys() == times.keys()
    assert all(after[key] > times[key] for key in times)


def test_results_of_other_versions_are_said_once(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.sweep()
    assert project.notes == []
    for path in default_root().glob("artifacts/*/*/manifest.json"):
        manifest = json.loads(path.read_text())
        assert {"python", "torch", "loreun_bench"} <= manifest["versions"].keys()
        manifest["versions"]["torch"] = "2.0.1"
        del manifest["check"]  # as those have none that were made before there was one
        path.write_text(json.dumps(manifest))
    project.sweep()
    (note,) = project.notes
    assert note.startswith("6 results were made with torch 2.0.1 (now ")
    assert "--fresh" in note


def written() -> dict[str, int]:
    return {p.parent.name: p.stat().st_mtime_ns for p in default_root().glob("artifacts/*/*/manifest.json")}


def test_a_table_that_a_plug_in_data_set_reads(project: Project) -> None:
    project.write("rows.csv", "2")
    file = project.write(
        "mine.py",
        "from pathlib import Path\nimport numpy as np\nfrom loreun_bench import dataset\n"
        "from loreun_bench.classification import Arrays\n"
        "@dataset('shades', shape=(6, 7, 1), classes=4, embedded=True)\n"
        "def shades(root, download):\n"
        "    'Shades.'\n"
        "    labels = np.arange(200) % 4\n"
        "    images = np.random.default_rng(0).integers(0, 50, (200, 6, 7, 1)) + 50 * labels[:, None, None, None]\n"
        "    images = (images + int((Path(__file__).parent / 'rows.csv').read_text())).astype(np.uint8)\n"
        "    return Arrays(images[:150], labels[:150], images[150:], labels[150:])\n",
    )
    change = {"dataset": "shades", "limit_images": None, "plugins": [file]}
    first = project.sweep(**change)
    project.write("rows.csv", "40")
    assert project.sweep(**change) != first
    project.write("rows.csv", "2")
    assert project.sweep(**change) == first
    assert project.started == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_plug_ins_that_keep_their_methods_in_modules_beside_them(project: Project, workers: int) -> None:
    files = []
    for name in ("one", "two"):
        text = METHOD.format(body="by = 2.0", files="").replace('"own"', f'"{name}"')
        project.write(f"{name}/parts_{name}.py", text)
        body = f"import sys\nsys.path.insert(0, {str(project.folder / name)!r})\nimport parts_{name}\n"
        files.append(project.write(f"{name}/all.py", body))
    change = {"methods": {"one": {}, "two": {}}, "plugins": files}
    first = project.sweep(workers, **change)
    parts = project.folder / "two" / "parts_two.py"
    parts.write_text(parts.read_text().replace("by = 2.0", "by = 3.0"))
    second = project.sweep(workers, **change)
    assert (first["one"] == second["one"], first["two"] == second["two"]) == (True, False)


def test_a_plug_in_that_is_edited_between_two_sweeps_of_one_process_is_read_again(project: Project) -> None:
    text = METHOD.format(body="by = self.by", files="").replace(
        "    def unlearn", "    by: float = 2.0\n    def unlearn"
    )
    file = project.write("own.py", text)
    first = project.sweep(methods={"own": {}}, plugins=[file])
    project.write("own.py", text.replace("by: float = 2.0", "by: float = 3.0\n    more: int = 1"))
    assert project.sweep(methods={"own": {"more": 2}}, plugins=[file]) != first
    project.write("own.py", text.replace('"own"', '"other"'))
    with pytest.raises(UserError, match="unknown method 'own'"):
        project.sweep(methods={"own": {}}, plugins=[file])


READS: dict[str, tuple[str, str, str]] = {  # what a method reads: its body, what makes another of it, what is told
    "a variable": ("import os; by = float(os.environ.get('BY', '2'))", "$BY=3", "$BY is new"),
    "a module": (
        "try:\n            from faster import by\n        except ImportError:\n            by = 2.0",
        "faster.py", "faster.py is new",
    ),
    "a flag": ("by = 3.0 if (Path(__file__).parent / 'flag').exists() else 2.0", "flag", "flag is new"),
    "in the data folder": (
        "import os; p = Path(os.environ['LOREUN_DATA']) / 'by'; by = float(p.read_text()) if p.exists() else 2.0",
        "../data/by", "by is new",
    ),
    "a folder with a cache": (
        "f = Path(__file__).parent / 'parts'; by = 2.0 + len(list(f.glob('*.txt')))\n        import time\n"
        "        (f / 'cache.json').write_text(str(time.time())); (f / f'log-{time.time_ns()}.out').write_text('1')",
        "parts/b.txt", "parts/ changed",
    ),
}  # fmt: skip


ASKED = [(kind, workers) for kind in READS for workers in (0, 1)]


@pytest.mark.parametrize(("kind", "workers"), usually(*ASKED[::3], of=ASKED))
def test_what_a_method_asks_for(project: Project, kind: str, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    body, changes, told = READS[kind]
    file = project.write("own.py", METHOD.format(body=body, files=""))
    project.write("parts/a.txt", "1")
    monkeypatch.syspath_prepend(project.folder)
    change = {"methods": {"own": {}}, "plugins": [file]}
    first = project.sweep(workers, **change)
    for _ in range(2):
        assert project.sweep(workers, **change) == first
        assert project.started == 0
    if changes.startswith("$"):
        monkeypatch.setenv(*changes[1:].split("="))
    else:
        project.write(changes, "by = 3.0" if changes.endswith(".py") else "3")
    assert project.sweep(workers, **change)["own"] != first["own"]
    (note,) = project.notes
    assert told in note
    project.sweep(workers, **change)
    assert project.started == 0


USES = {
    "pyarrow": "import pyarrow", "subprocess": "import subprocess", "os.system": "import os; os.system('true')",
    "os.popen": "from os import popen", "os.posix_spawn": "import os as o; o.posix_spawn",
    "asyncio.create_subprocess_exec": "import asyncio; asyncio.create_subprocess_exec",
    "pty": "import importlib; importlib.import_module('pty')",
    "multiprocessing.spawn": "import multiprocessing as m; m.get_context('spawn')",
}  # fmt: skip


@pytest.mark.parametrize("where", ["own.py", "of_own.py", "deep/own/of_own.py"])
@pytest.mark.parametrize("used", USES)
def test_what_shows_no_file_is_asked_for(project: Project, used: str, where: str) -> None:
    """In a module, too, that only a function would import."""
    module = where.removesuffix(".py").replace("/", ".")
    imports = "" if where == "own.py" else f"def f():\n    import {module}\n"
    project.write("deep/own/__init__.py", "from . import beside\n")
    project.write("deep/own/beside.py", "")
    file = project.write("own.py", imports)
    lazy = f"def g():\n    {USES[used]}\n"
    (project.folder / where).write_text(lazy + imports)
    (line,) = unseen([file])
    assert line.startswith(f"{Path(where).name} uses {used}, whose files are not seen: declare")
    assert "FILES = […] in own.py" in line


def test_what_shows_no_file_is_not_asked_for_by_names_that_mean_something_else(project: Project) -> None:
    uses = "os.path, sh.rows, git.log, numpy.sh, f.get_context('fork'), torch.utils.data"
    file = project.write("own.py", f"import os, numpy, torch.utils.data\ndef f(sh, git):\n    return {uses}\n")
    assert unseen([file]) == []


def test_what_is_opened_below_python_is_asked_for(project: Project, command) -> None:
    text = METHOD.format(body="context.meter.forward_samples += 1\n        by = 2.0", files="")
    lazy = text.replace("by = 2.0", "by = 2.0\n        if not by:\n            import of_own")
    project.write("of_own.py", "import os\ndef f():\n    os.system('true')\n")
    file = project.write("own.py", lazy)
    code, out, _ = command("check", file)
    assert code == 0
    assert "of_own.py uses os.system, whose files are not seen: declare" in out
    words = ("digits", "--plugin", file, "--set", "methods={own: {}}", "--set", "weightings=[none]", "--set", "seeds=1")
    words += ("--set", "scenarios=[{kind: random, fraction: 0.1}]", "--set", "train.epochs=1")
    assert "note: of_own.py uses os.system" in command("plan", *words)[1]
    assert "note: of_own.py uses os.system" in command("sweep", *words, "--out", "run", "--workers", 0)[2]
    project.write("own.py", lazy.replace('"forget"}', '"forget"}, files=["x.parquet"]'))
    assert "os.system" not in command("check", file)[1] + command("plan", *words)[1]


def test_the_command_line_says_which_file_changed_and_makes_results_anew(project: Project, command) -> None:
    project.write("nets/tiny.py", "WIDTH = 4\n")
    project.write("mine.py", NET.format(imports="from nets.tiny import WIDTH", body="width = WIDTH"))
    project.write("c.yaml", json.dumps(CONFIG | {"model": "mine.py:net"}))
    assert command("sweep", "c.yaml", "--workers", 0)[0] == 0
    project.write("nets/tiny.py", "WIDTH = 5\n")
    assert "to run (nets/tiny.py changed)" in command("plan", "c.yaml")[1]
    _, _, err = command("sweep", "c.yaml", "--workers", 0)
    assert err.count("nets/tiny.py changed") == 1
    assert "note: nets/tiny.py changed: what used it is made again" in err
    times = written()
    assert command("sweep", "c.yaml", "--workers", 0, "--fresh")[0] == 0
    assert sum(written()[key] > times[key] for key in times) == 6
