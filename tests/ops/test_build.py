"""setup.py: its switches, what it says when something is missing, and that the package then runs on plain PyTorch; what the
sdist and the wheel hold."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import cuda_code
import pytest
import setuptools

ROOT = Path(__file__).parents[2]
BESIDE = {"setup.py", "pyproject.toml", "CMakeLists.txt", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md"}
SOURCES = (*BESIDE, "CITATION.cff", "SECURITY.md", "csrc", "loreun_bench")
SWITCHES = (
    "BUILD_NO_CUDA",
    "FORCE_CUDA",
    "CUDA_HOME",
    "CUDA_PATH",
    "TORCH_CUDA_ARCH_LIST",
    "LOREUN_NO_EXTENSION",
    "LOREUN_PORTABLE",
    "DEBUG",
    "CXX",
)
BUILT = shutil.ignore_patterns("_*.so", "_build.json", "_source.py", "__pycache__")
BESIDE_PYTHON = Path(sys.executable).parent / "cmake"  # setup.py looks there first
TORCHS_CUDA = Path(importlib.util.find_spec("torch").origin).parent / "lib/libtorch_cuda.so"
NVCC = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"), "bin/nvcc")
COMPILES_CUDA = NVCC.is_file() and TORCHS_CUDA.exists()
needs_cuda = pytest.mark.skipif(not COMPILES_CUDA, reason="no nvcc in CUDA_HOME or /usr/local/cuda, or a torch without CUDA")
needs_compiler = pytest.mark.skipif(not all(map(shutil.which, ("cmake", "c++"))), reason="needs CMake and a C++ compiler")
TRY = """
import json, torch
from loreun_bench.ops import loreun_cross_entropy, native
from loreun_bench.ops.functional import backend
x = torch.linspace(-3, 3, 40).view(8, 5).requires_grad_()
loss = loreun_cross_entropy(x, torch.arange(8) % 5, eta=0.3, direction="forget")
loss.backward()
print(json.dumps([backend("cpu"), native.state()[1], loss.item(), x.grad.abs().sum().item()]))
"""


def copied(folder: Path) -> Path:
    """A copy of the sources, without what was built; no CUDA toolkit is found at the usual place."""
    copy = folder / "tree"
    copy.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=BUILT)
        else:
            shutil.copy(ROOT / name, copy)
    setup = copy / "setup.py"
    setup.write_text(setup.read_text().replace('"/usr/local/cuda"]', f'"{folder}/nowhere"]'))
    (copy / "csrc/torch/eager.cpp").write_text("#error left out: the package works without, and this file takes a minute\n")
    return copy


@pytest.fixture
def tree(tmp_path) -> Path:
    return copied(tmp_path)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A build with CUDA."""
    tree = copied(tmp_path_factory.mktemp("built"))
    done = build(tree, FORCE_CUDA="1", CUDA_HOME=str(NVCC.parents[1]), TORCH_CUDA_ARCH_LIST="9.0")
    assert done.returncode == 0, done.stderr
    return tree


def environment(**change: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    clean["PATH"] = os.pathsep.join(p for p in clean["PATH"].split(os.pathsep) if not Path(p, "nvcc").exists())
    return clean | {"MAX_JOBS": "2", "OMP_NUM_THREADS": "1"} | change


def python(arguments: list[str], cwd: Path, **change: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment(**change), capture_output=True, text=True)


def build(tree: Path, **change: str) -> subprocess.CompletedProcess[str]:
    return python(["setup.py", "build_ext", "--inplace"], tree, **change)


def use(cwd: Path) -> list:
    """[backend, why, loss, sum of the gradient] of a call in a new process."""
    done = python(["-c", TRY], cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def report(tree: Path) -> dict:
    return json.loads((tree / "loreun_bench/ops/_build.json").read_text())


@pytest.fixture
def setup_py(monkeypatch):
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: None)
    spec = importlib.util.spec_from_file_location("setup_of_the_operator", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("wanted", "cmake"),
    [
        ("9.0", "90-real"),
        ("9.0+PTX", "90"),
        ("8.0 8.6;9.0+PTX", "80-real;86-real;90"),
        (" 7.5;\n12.0 ", "75-real;120-real"),
        ("9.0a", "90a-real"),
        ("10.0f+PTX", "100f"),
    ],
)
def test_architectures_are_torchs(wanted, cmake, setup_py):
    assert setup_py.cmake_architectures(wanted) == cmake


@pytest.mark.parametrize("wanted", ["90", "Hopper", "9.0-PTX", "sm_90", "9.0,8.0", "9"])
def test_other_architectures_are_refused_in_one_line(wanted, setup_py):
    with pytest.raises(SystemExit, match=r"TORCH_CUDA_ARCH_LIST: .* is not like 9.0 or 9.0\+PTX"):
        setup_py.cmake_architectures(wanted)


@pytest.mark.parametrize(("value", "on"), [("1", True), ("yes", True), ("0", False), ("OFF", False), ("", False)])
def test_switches(value, on, setup_py, monkeypatch):
    monkeypatch.setenv("FORCE_CUDA", value)
    assert setup_py.flag("FORCE_CUDA") is on


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs CMake")
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, "FORCE_CUDA is set, but there is no nvcc in CUDA_HOME, /usr/local/cuda or on PATH"),
        ({"CUDA_HOME": "/no/such/folder"}, "FORCE_CUDA is set, but there is no nvcc in CUDA_HOME"),
        ({"LOREUN_NO_EXTENSION": "1"}, "FORCE_CUDA is set, but LOREUN_NO_EXTENSION is set"),
        (
            {"TORCH_CUDA_ARCH_LIST": "Hopper", "CUDA_HOME": "toolkit"},
            "TORCH_CUDA_ARCH_LIST: 'Hopper' is not like",
        ),
        ({"TORCH_CUDA_ARCH_LIST": "9.0", "CUDA_HOME": "toolkit"}, "FORCE_CUDA is set, but the compiler failed: "),
    ],
    ids=["no nvcc", "wrong CUDA_HOME", "no extension", "architectures", "broken nvcc"],
)
def test_a_forced_build_fails_in_one_clear_line(change, says, tree):
    broken_nvcc(tree)
    done = build(tree, FORCE_CUDA="1", **change)
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1].startswith(says)
    assert "Traceback" not in done.stderr
    assert not (tree / "loreun_bench/ops/_build.json").exists()


def broken_nvcc(tree: Path) -> None:
    nvcc = tree / "toolkit/bin/nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text("#!/bin/sh\nexit 1\n")
    nvcc.chmod(0o755)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"LOREUN_NO_EXTENSION": "1"}, "LOREUN_NO_EXTENSION is set"),
        pytest.param(
            {"CXX": "false", "BUILD_NO_CUDA": "1"},
            "the compiler failed: ",
            marks=pytest.mark.skipif(shutil.which("cmake") is None, reason="needs CMake"),
        ),
    ],
    ids=["switched off", "no compiler"],
)
def test_without_a_build_old_modules_are_removed_and_plain_pytorch_runs(change, reason, tree):
    old = tree / "loreun_bench/ops/_operator.so"
    old.write_text("built earlier")
    done = build(tree, **change)
    assert done.returncode == 0, done.stderr
    assert not old.exists()
    found = report(tree)
    assert found["operator"] is False
    assert found["reason"].startswith(reason)
    assert f"not built ({found['reason']}); plain PyTorch is used" in done.stderr
    assert use(tree)[:2] == ["reference", found["reason"]]


@pytest.mark.skipif(BESIDE_PYTHON.exists(), reason=f"{BESIDE_PYTHON} cannot be hidden")
def test_it_installs_without_cmake(tree, tmp_path):
    where = tmp_path / "installed"
    pip = ["-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target", str(where), "."]
    done = python(pip, tree, PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert report(where) == {"operator": False, "reason": "cmake is not on PATH"}
    assert use(where)[:2] == ["reference", "cmake is not on PATH"]


@needs_compiler
@needs_cuda
def test_a_build_with_cuda_finds_torchs_current_stream_and_says_what_it_needs(built):
    """Without a GPU. (Linked as a weak symbol it was never found, in any torch, and every call failed.)"""
    ask = "import json; from loreun_bench.ops import native as n; found = n._library(); "
    ask += "print(json.dumps([found.loreun_finds_stream(), found.loreun_cuda_version().decode(), n.state()[1]]))"
    stream, version, why = json.loads(python(["-c", ask], built).stdout)
    assert stream is True
    assert float(version) >= 12
    assert f"built for 90-real with CUDA {version}" in why
    assert "not used: they need a driver of CUDA" in why or Path("/dev/nvidiactl").exists()


@needs_compiler
@needs_cuda
@pytest.mark.skipif(not cuda_code.found(), reason="no cuobjdump and nvdisasm")
def test_no_cuda_kernel_spills_and_wide_ones_load_and_store_16_bytes(built):
    kernels = cuda_code.kernels(built)
    assert len(kernels) >= 12  # three kernels or more of each loss and type
    for kernel, used in kernels.items():
        assert used["STACK"] == used["LOCAL"] == used["LDL"] == used["STL"] == 0, (kernel, used)
    for name, needs in cuda_code.WIDE.items():
        wide = [kernel for kernel in kernels if name in kernel]
        assert len(wide) >= 4, name  # one a type
        for kernel in wide:
            assert all(kernels[kernel][need] for need in needs), (kernel, kernels[kernel])


@pytest.mark.slow
@needs_compiler
def test_a_cuda_build_that_fails_leaves_the_cpu_kernels(tree):
    """CUDA is asked for and broken, everything else works."""
    broken_nvcc(tree)
    done = build(tree, CUDA_HOME="toolkit", TORCH_CUDA_ARCH_LIST="9.0", DEBUG="1")
    assert done.returncode == 0, done.stderr
    found = report(tree)
    assert found["operator"] is True
    assert re.match("not built: the compiler failed: CMake Error at .* CUDA", found["cuda"])
    assert "left out" in found["eager_reason"]
    name, why, loss, slope = use(tree)
    assert name.startswith("cpu-")
    assert found["cuda"] in why
    (tree / "loreun_bench/ops/_operator.so").unlink()
    plain = use(tree)
    assert plain[0] == "reference"
    assert "does not load" in plain[1]
    assert [loss, slope] == pytest.approx(plain[2:], rel=1e-5)


@pytest.mark.parametrize(
    ("home", "compiler", "other"),
    [
        (None, "/cuda-13/bin/nvcc", None),
        (None, None, None),
        ("/moved/away", "/cuda-13/bin/nvcc", "source folder"),
        (None, "/cuda-12/bin/nvcc", "CUDA compiler"),
    ],
)
def test_what_another_source_folder_or_cuda_compiler_left_is_made_anew(setup_py, tmp_path, capsys, home, compiler, other):
    """CMake refuses to go on with it, or forgets where torch is, and the install then had no operator, in silence."""
    folder = tmp_path / "cmake"
    folder.mkdir()
    known = f"# made by CMake\nCMAKE_HOME_DIRECTORY:INTERNAL={home or setup_py.ROOT}\n"
    known += f"CMAKE_CUDA_COMPILER:FILEPATH={compiler}\n" if compiler else ""
    (folder / "CMakeCache.txt").write_text(known)
    setup_py.clean(folder, ["-DLOREUN_CUDA=ON", "-DCMAKE_CUDA_COMPILER=/cuda-13/bin/nvcc"])
    assert folder.exists() is (other is None)
    assert (f"is of another {other}, and is made anew" if other else "") in capsys.readouterr().err
    setup_py.clean(folder, [])
    setup_py.clean(tmp_path / "nothing", [])


def inside(folder: Path, *left_out: str) -> set[str]:
    """The files in a folder, from there on, without what is made of them."""
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix() for path in found if path.name not in left_out}


def make(what: str, tree: Path, folder: Path, **change: str) -> Path:
    """The sdist or the wheel, built as pip does it."""
    done = python(["-c", f"from setuptools import build_meta; build_meta.build_{what}({str(folder)!r})"], tree, **change)
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("*.whl" if what == "wheel" else "*.tar.gz")
    return made


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    """An sdist, unpacked, of a folder in which the operator was built before."""
    folder = tmp_path_factory.mktemp("sdist")
    tree = copied(folder)
    for name in ("_operator.so", "_build.json", "_source.py"):
        (tree / "loreun_bench/ops" / name).write_text("")
    with tarfile.open(make("sdist", tree, folder)) as packed:
        packed.extractall(folder / "unpacked")
    (unpacked,) = (folder / "unpacked").iterdir()
    return unpacked


def test_the_sdist_has_the_package_and_what_the_operator_is_built_from(sdist):
    built = {"_operator.so", "_build.json", "_source.py"}
    tree = sdist.parents[1] / "tree"
    assert inside(sdist / "loreun_bench") == inside(tree / "loreun_bench", *built)
    assert inside(sdist / "csrc") == {name for name in inside(tree / "csrc") if not name.startswith("sim/")}
    assert {path.name for path in sdist.iterdir() if path.is_file()} >= BESIDE
    assert {path.name for path in sdist.iterdir() if path.is_dir()} == {"csrc", "loreun_bench", "loreun_bench.egg-info"}


def test_the_wheel_has_every_file_of_the_package_and_no_other(sdist, tmp_path):
    wheel = make("wheel", sdist, tmp_path, LOREUN_NO_EXTENSION="1")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    package = {f"loreun_bench/{name}" for name in inside(sdist / "loreun_bench")}
    assert {name for name in names if name.startswith("loreun_bench/")} == {*package, "loreun_bench/ops/_build.json"}
    assert {name.partition("/")[2] for name in names if ".dist-info/" in name} == {
        "METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt", "licenses/LICENSE"
    }  # fmt: skip


def test_the_version_is_the_same_wherever_it_stands():
    (ours,) = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert re.findall(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE) == [ours]
    assert re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0] == ours
    assert set(re.findall(r"loreun_bench-([\d.]+\d)", (ROOT / "docs/install.md").read_text())) == {ours}


def test_the_operators_digest_is_of_its_sources_wherever_they_lie(setup_py, tmp_path, monkeypatch):
    here = setup_py.source_digest()
    shutil.copytree(ROOT / "csrc", tmp_path / "sim" / "csrc")
    monkeypatch.setattr(setup_py, "ROOT", tmp_path / "sim")
    assert setup_py.source_digest() == here
    (tmp_path / "sim" / "csrc" / "cpu" / "driver.cpp").write_text("")
    assert setup_py.source_digest() != here


@pytest.mark.slow
@needs_compiler
def test_a_wheel_that_is_published_is_of_no_one_python_and_torch(sdist, tmp_path):
    wheel = make("wheel", sdist, tmp_path, LOREUN_PORTABLE="1", DEBUG="1")
    assert "-cp310-abi3-" in wheel.name
    packed = zipfile.ZipFile(wheel)
    assert [name for name in packed.namelist() if name.endswith(".so")] == ["loreun_bench/ops/_operator.so"]
    assert not re.search(rb"\0_?Py[A-Z_]", packed.read("loreun_bench/ops/_operator.so"))  # a symbol of Python's
    packed.extractall(tmp_path / "installed")
    assert use(tmp_path / "installed")[0].startswith("cpu-")


def test_a_wheel_that_is_published_is_not_made_without_the_operator(tree):
    done = build(tree, LOREUN_PORTABLE="1", LOREUN_NO_EXTENSION="1")
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1] == "LOREUN_PORTABLE is set, but LOREUN_NO_EXTENSION is set"


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs CMake")
def test_an_installation_before_torchs_says_to_install_it_again(tree):
    """pip builds before it installs, so that in an empty environment there is no torch."""
    hidden = "import runpy, sys; sys.modules['torch'] = None; sys.argv = ['setup.py', 'build_ext', '--inplace']; "
    done = python(["-c", hidden + "runpy.run_path('setup.py', run_name='__main__')"], tree)
    assert done.returncode == 0, done.stderr
    assert report(tree)["reason"].startswith("there was no torch when it was built; now that there is, install it again")


def test_an_isolated_build_finds_the_torch_of_the_environment(setup_py, tmp_path, monkeypatch):
    """pip's isolation takes the environment's packages from sys.path; where they are Python still says."""
    (tmp_path / "torch.py").write_text("")
    monkeypatch.setattr(setup_py.sysconfig, "get_path", {"platlib": str(tmp_path)}.get)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "torch")
    assert setup_py.installed_torch().__file__ == str(tmp_path / "torch.py")
