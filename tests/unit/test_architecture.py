"""The house: imports point down, in no circle; only the command line prints; files and functions stay small."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

from loreun_bench.classification import planning as classification
from loreun_bench.generation import planning as generation
from loreun_bench.harness.rows import class_files
from loreun_bench.registry import registry

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "loreun_bench"
FILES = sorted(PACKAGE.rglob("*.py"))
FLOORS = [
    "errors",
    "lazy",
    "names",
    "versions",
    "reading",
    "plain_yaml",
    "pictures",
    "finders",
    "untouched",
    "whose",
    "beside",
    "surroundings",
    "plugins",
    "registry",
    "decorators",
    "ops",
    "weightings",
    "config",
    "harness",
    "training",
    "report",
    "classification",
    "generation",
    "bench",
    "api",
    "cli",
]


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path, typing=False):
    """The modules of this package that a file imports, function bodies included; typing: those for types, too."""
    tree = ast.parse(path.read_text())
    typing_only = set() if typing else {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    known = {name_of(file) for file in FILES}
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("loreun_bench"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else node.module


def floor(module):
    parts = module.split(".")
    return FLOORS.index(parts[1]) if len(parts) > 1 and parts[1] in FLOORS else len(FLOORS)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_down(path):
    if len(name_of(path).split(".")) == 1:
        return  # the package itself, lazy
    for module in imports(path):
        if module != "loreun_bench":
            assert floor(module) <= floor(name_of(path)), f"{name_of(path)} imports {module}"


def test_report_and_tracks_do_not_know_each_other_and_the_harness_knows_no_track():
    for path in FILES:
        own = name_of(path)
        for module in imports(path):
            for track in ("loreun_bench.classification", "loreun_bench.generation"):
                others = {"loreun_bench.report", "loreun_bench.classification", "loreun_bench.generation"} - {track}
                if own.startswith("loreun_bench.report"):
                    assert not module.startswith(track), own
                if own.startswith(track):
                    assert not module.startswith(tuple(others)), own


def test_no_file_imports_in_a_circle():
    """Not even for types: two files that know each other are one."""
    graph = {name_of(path): set(imports(path, typing=True)) - {name_of(path), "loreun_bench"} for path in FILES}
    graphlib.TopologicalSorter(graph).prepare()


def test_only_the_command_line_prints():
    for path in FILES:
        if path.parent.name == "cli":
            continue
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        assert not [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"], path


def test_files_and_functions_are_small_and_public_names_documented():
    for path in FILES:
        text = path.read_text()
        assert text.count("\n") < 400, path
        tree = ast.parse(text)
        assert ast.get_docstring(tree), path
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert node.end_lineno - node.lineno < 50, f"{path.name}:{node.lineno} {node.name}"
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path.name}: {node.name}"


def test_torch_load_is_always_weights_only_and_nothing_is_unpickled():
    for path in FILES:
        text = path.read_text()
        assert "pickle.load" not in text, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                options = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert options.get("weights_only") == "True", path


KEYED_OTHERWISE = {
    *(f"classification/data/{name}.py" for name in ("arrays", "folders", "lists", "plain", "prepared", "returned")),
    *(f"classification/{name}.py" for name in ("config", "data/sources", "data/splits")),  # by what they return
    "classification/datasets/cifar100.py",  # so too, for CIFAR-20
    *(f"generation/{name}.py" for name in ("data/whole", "pipeline/checks", "scoring/optional")),  # refuse, change nothing
    "classification/models/libraries.py", "generation/datasets/folder.py",  # where a model or data are theirs
    "generation/unlearning/anchors.py",  # with the methods whose base it has
}  # fmt: skip


def reached(start):
    """All files of the package that some files import, at the top or within, themselves included."""
    named, found, left = {name_of(path): path for path in FILES}, set(), list(start)
    while left:
        path = left.pop()
        if path not in found:
            found.add(path)
            left += [named[module] for module in imports(path) if module in named]
    return found


@pytest.mark.parametrize(
    ("track", "listed", "rooms"),
    [
        ("classification", classification.TRAINING_CODE, ("methods", "models", "datasets")),
        ("classification", classification.SPLIT_CODE, ("scenarios",)),
        ("classification", (*classification.EVALUATION_CODE, PACKAGE / "ops"), ("metrics",)),
        ("generation", generation.TRAINING, ("methods", "datasets")),
        ("generation", (*generation.EVALUATION, *generation.TRAINING, *PACKAGE.glob("*/scoring/model.py")), ("metrics",)),
    ],
)
def test_what_a_stage_imports_of_its_track_is_in_the_key_of_its_result(track, listed, rooms):
    known = {file for path in listed for file in (path.rglob("*.py") if path.is_dir() else [path])}
    items = {file for room in rooms for file in (PACKAGE / track / room).glob("*.py")}
    entries = {file for file in items if "\n@" in file.read_text()}
    own = reached(known - {PACKAGE / track / "stages.py"}) - entries  # that a row has is in its key, with its bases:
    for entry in (each for room in rooms for each in registry(room, track).entries() if each.file in entries):
        own |= reached({entry.file}) - {entry.file, *(class_files(entry.item) if isinstance(entry.item, type) else ())}
    own -= known
    found = {path.relative_to(PACKAGE).as_posix() for path in own if path.name != "__init__.py"}
    assert {name for name in found if name.startswith((f"{track}/", "ops/", "training/", "weightings/"))} <= KEYED_OTHERWISE
