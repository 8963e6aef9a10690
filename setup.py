"""Builds the compiled operator (csrc/) through CMake and Ninja; where that cannot be done, the package installs without.

FORCE_CUDA=1            build the CUDA kernels or fail, with or without a GPU here
BUILD_NO_CUDA=1         leave them out
TORCH_CUDA_ARCH_LIST    "8.0;9.0+PTX": build them for these; by default for the GPU that is here, if one is, and
                        with FORCE_CUDA and no GPU for every one from Turing to Blackwell
MAX_JOBS                how many files are compiled at once
DEBUG=1                 no optimisation, debug information
LOREUN_NO_EXTENSION=1   build nothing: the operator runs on plain PyTorch
LOREUN_PORTABLE=1       for a wheel that is published (`make dist`): only what serves every Python and torch, or fail;
                        the CUDA kernels only with FORCE_CUDA=1
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
ARCHITECTURES = "7.5;8.0;8.6;8.9;9.0;10.0;11.0;12.0+PTX"
OLDEST_TORCH = (2, 10)
AGAIN = "install it again, the same way and with --no-deps --force-reinstall --no-cache-dir"


class Unavailable(Exception):
    """Something that the build needs is not here."""


def flag(name: str) -> bool:
    """Whether an environment switch is on."""
    return os.environ.get(name, "").lower() not in ("", "0", "off", "no", "false")


def installed_torch() -> Any:
    """torch: where pip isolates a build, which hides torch, that of the environment it installs into. Raises Unavailable."""
    if (packages := sysconfig.get_path("platlib")) not in sys.path:
        sys.path.append(packages)
    try:
        return importlib.import_module("torch")
    except ImportError:
        raise Unavailable(f"there was no torch when it was built; now that there is, {AGAIN}") from None


def find_nvcc() -> Path:
    """nvcc in CUDA_HOME, /usr/local/cuda or on PATH. Raises Unavailable."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    for home in filter(None, homes):
        if (nvcc := Path(home, "bin", "nvcc")).is_file():
            return nvcc
    if found := shutil.which("nvcc"):
        return Path(found)
    raise Unavailable("no nvcc in CUDA_HOME, /usr/local/cuda or on PATH")


def cmake_architectures(wanted: str) -> str:
    """torch's list in CMake's words: "8.0 9.0+PTX" is "80-real;90"."""
    found = []
    for item in re.findall(r"[^;\s]+", wanted):
        match = re.fullmatch(r"(\d+)\.(\d)([af]?)(\+PTX)?", item)
        if not match:
            raise SystemExit(f"TORCH_CUDA_ARCH_LIST: {item!r} is not like 9.0 or 9.0+PTX")
        major, minor, feature, ptx = match.groups()
        found.append(f"{major}{minor}{feature}" + ("" if ptx else "-real"))
    return ";".join(found)


def known_to(nvcc: Path) -> str:
    """Those of ARCHITECTURES that the compiler has: 11.0 is newer than CUDA 12, say."""
    listed = subprocess.run([str(nvcc), "--list-gpu-arch"], capture_output=True, text=True).stdout.split()
    names = {each: "compute_" + each.removesuffix("+PTX").replace(".", "") for each in ARCHITECTURES.split(";")}
    return ";".join(each for each, name in names.items() if name in listed) or ARCHITECTURES


def visible_architecture() -> str:
    """The GPU's own architecture, if one is here."""
    try:
        cuda = installed_torch().cuda
    except Unavailable:
        return ""
    return "{}.{}".format(*cuda.get_device_capability()) if cuda.is_available() else ""


def cuda_options() -> tuple[list[str], str]:
    """CMake's options for CUDA, and in words why they are so. Raises Unavailable if FORCE_CUDA cannot be met."""
    if flag("BUILD_NO_CUDA"):
        return [], "BUILD_NO_CUDA is set"
    if flag("LOREUN_PORTABLE") and not flag("FORCE_CUDA"):
        return [], "not in this wheel; where nvcc is, they are built from the sdist"
    try:
        nvcc = find_nvcc()
    except Unavailable as missing:
        if flag("FORCE_CUDA"):
            raise SystemExit(f"FORCE_CUDA is set, but there is {missing}") from None
        return [], str(missing)
    wanted = os.environ.get("TORCH_CUDA_ARCH_LIST") or ("" if flag("LOREUN_PORTABLE") else visible_architecture())
    if not wanted and not flag("FORCE_CUDA"):
        return [], "no GPU where it was built (FORCE_CUDA=1 builds them all the same)"
    architectures = cmake_architectures(wanted or known_to(nvcc))
    return [
        "-DLOREUN_CUDA=ON",
        f"-DCMAKE_CUDA_COMPILER={nvcc}",
        f"-DCUDAToolkit_ROOT={nvcc.parent.parent}",
        f"-DCMAKE_CUDA_ARCHITECTURES={architectures}",
    ], f"built for {architectures}"


def torch_options() -> list[str]:
    """CMake's options for torch, and for what is of one Python. Raises Unavailable."""
    torch = installed_torch()
    if tuple(map(int, torch.__version__.split(".")[:2])) < OLDEST_TORCH:
        raise Unavailable(f"torch {torch.__version__} is older than 2.10")
    options = [f"-DTORCH_ROOT={Path(torch.__file__).parent}"]
    if flag("LOREUN_PORTABLE"):
        return options
    options.append(f"-DPYTHON_INCLUDE={sysconfig.get_path('include')}")
    options.append(f"-DPYTHON_SUFFIX={sysconfig.get_config_var('EXT_SUFFIX')}")
    try:
        import pybind11
    except ImportError:
        return options
    return [*options, f"-DPYBIND11_INCLUDE={pybind11.get_include()}"]


def source_digest() -> str:
    """SHA-256 of the sources of the operator."""
    csrc = ROOT / "csrc"
    files = sorted(path for path in csrc.rglob("*") if path.is_file() and csrc / "sim" not in path.parents)
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def run(command: list[str]) -> None:
    """Run a build command. Raises Unavailable with the first error line."""
    done = subprocess.run(command, capture_output=True, text=True)
    print(done.stdout[-20000:])
    if done.returncode:
        print(done.stdout[-4000:], done.stderr[-4000:], file=sys.stderr)
        raise Unavailable(f"the compiler failed: {first_error(done.stderr + done.stdout)}")


def first_error(said: str) -> str:
    """The first line of an error; of one of CMake's, which says where, also the next, which says what."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    found = next((number for number, line in enumerate(lines) if "rror" in line), None)
    if found is None:
        return "see the output"
    return " ".join(lines[found : found + 1 + lines[found].endswith(":")])[:200]


def clean(folder: Path, options: list[str]) -> None:
    """Remove what an earlier build of another source folder or CUDA compiler left: CMake refuses to go on with the first,
    and with the second forgets all other options."""
    cache = folder / "CMakeCache.txt"
    if not cache.exists():
        return
    known = dict(re.findall(r"^(\w+):\w+=(.*)$", cache.read_text(errors="replace"), re.MULTILINE))
    compiler = dict(option.removeprefix("-D").split("=", 1) for option in options).get("CMAKE_CUDA_COMPILER")
    if known.get("CMAKE_HOME_DIRECTORY") != str(ROOT):
        other = "source folder"
    elif compiler and known.get("CMAKE_CUDA_COMPILER", compiler) != compiler:
        other = "CUDA compiler"
    else:
        return
    print(f"loreun_bench operator: {folder} is of another {other}, and is made anew", file=sys.stderr)
    shutil.rmtree(folder)


def compile_operator(folder: Path) -> dict[str, object]:
    """Configure and build in `folder`; returns what was built, in the words of `_build.json`. Raises Unavailable."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    for tool in ("cmake", "ninja"):
        if not shutil.which(tool):
            raise Unavailable(f"{tool} is not on PATH")
    cuda, words = cuda_options()
    clean(folder, cuda)
    folder.mkdir(parents=True, exist_ok=True)
    build_type = "Debug" if flag("DEBUG") else "Release"
    configure = ["cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", f"-DCMAKE_BUILD_TYPE={build_type}"]
    configure += torch_options()
    build = ["cmake", "--build", str(folder)]
    if jobs := os.environ.get("MAX_JOBS"):
        build += ["--parallel", jobs]
    try:
        run([*configure, *(cuda or ["-DLOREUN_CUDA=OFF"])])
        run(build)
    except Unavailable as reason:
        if not cuda or flag("FORCE_CUDA"):
            raise
        words = f"not built: {reason}"
        run([*configure, "-DLOREUN_CUDA=OFF"])
        run(build)
    report: dict[str, object] = {"operator": True, "cuda": words}
    if flag("LOREUN_PORTABLE"):
        return report
    try:
        run([*build, "--target", "_eager"])
        report["eager"] = importlib.import_module("torch").__version__
    except Unavailable as reason:
        report["eager_reason"] = str(reason)
    return report


class BuildOperator(build_ext):
    """CMake decides what is compiled; setuptools only says where it goes."""

    def run(self) -> None:
        """Build, and write down what was built and why: the `env` verb reads it."""
        package = ROOT / "loreun_bench" if self.inplace or self.editable_mode else Path(self.build_lib, "loreun_bench")
        out = package / "ops"
        folder = Path(self.build_temp).absolute() / ("portable" if flag("LOREUN_PORTABLE") else "cmake")
        try:
            if flag("LOREUN_NO_EXTENSION"):
                raise Unavailable("LOREUN_NO_EXTENSION is set")
            report = compile_operator(folder)
        except Unavailable as reason:
            if forced := next(filter(flag, ("FORCE_CUDA", "LOREUN_PORTABLE")), None):
                raise SystemExit(f"{forced} is set, but {reason}") from None
            report = {"operator": False, "reason": str(reason)}
        out.mkdir(parents=True, exist_ok=True)
        for old in (*out.glob("_*.so"), *out.glob("_source.py")):
            old.unlink()
        if report["operator"]:  # a stage's key is made of the code in ops/: this file makes csrc/ a part of it
            (out / "_source.py").write_text(
                f'"""Generated: what the operator was built from."""\n\nDIGEST = "{source_digest()}"\n'
            )
        of_this_python = folder.glob(f"_*{sysconfig.get_config_var('EXT_SUFFIX')}")  # not what other builds left there
        for module in (folder / "_operator.so", *of_this_python) if report["operator"] else ():
            shutil.copy2(module, out)
        (out / "_build.json").write_text(json.dumps(report) + "\n")
        words = f"CUDA: {report['cuda']}" if report["operator"] else f"not built ({report['reason']}); plain PyTorch is used"
        print(f"loreun_bench operator: {words}", file=sys.stderr)

    def get_outputs(self) -> list[str]:
        """What setuptools copies into an editable wheel: nothing, as the modules lie in the source folder."""
        return []

    def get_output_mapping(self) -> dict[str, str]:
        """As above."""
        return {}


setup(
    ext_modules=[Extension("loreun_bench.ops._operator", [])],
    cmdclass={"build_ext": BuildOperator},
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if flag("LOREUN_PORTABLE") else {},
)
