"""Pins what of the user's is noted while their code runs, kind by kind: each change is told, and nothing else is."""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from loreun_bench.harness import files_used, openers
from loreun_bench.harness.watching import watched
from loreun_bench.plugins import load_module, refresh, undisturbed


class Place:
    """A plug-in in a folder of its own, which is the working directory."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.plugin, self.monkeypatch = folder, folder / "mine.py", monkeypatch
        folder.mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "path", [str(folder), *sys.path])

    def write(self, name: str, content: object = "1") -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(str(content))

    def run(self, body: str, imports: str = "") -> dict[str, str | None]:
        """What is noted while the plug-in's code runs, with nobody else on the stack."""
        lines = "\n    ".join(body.splitlines())
        head = "import os, sys\nfrom pathlib import Path\nHERE = Path(__file__).parent\n"
        self.plugin.write_text(f"{head}{imports}\ndef run():\n    {lines}\n")
        refresh(always=True)
        openers.follow()
        raised: list[BaseException] = []

        def work() -> None:
            try:
                load_module(self.plugin).run()
            except BaseException as error:
                raised.append(error)

        with undisturbed(), watched((self.plugin,), self.folder.parent / "log") as watch:
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        assert raised == []
        return watch.names()

    def changed(self, names: dict[str, str | None]) -> tuple[str, ...]:
        return files_used.changed(names, files_used.now(names, (self.plugin,)))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return Place(tmp_path / "mine", monkeypatch)


VARIABLES = {
    "item": "os.environ['WIDTH']",
    "get": "os.environ.get('WIDTH', '4')",
    "getenv": "os.getenv('WIDTH')",
    "bytes": "os.environb[b'WIDTH']",
    "in": "'WIDTH' in os.environ",
    "expandvars": "os.path.expandvars('$WIDTH/w.json')",
    "template": "__import__('string').Template('$WIDTH').substitute(os.environ)",
    "a copy": "dict(os.environ)['WIDTH']",
    "one's own copy": "os.environ.copy().get('WIDTH')",
    "merged": "({'WIDTH': '1'} | os.environ)['WIDTH']",
    "at import": "WIDTH",
    "set by default": "os.environ.setdefault('WIDTH', '5')",
    "in a process": (
        "import multiprocessing\n"
        "with multiprocessing.get_context('fork').Pool(1) as pool: pool.map(width, [1])"
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", VARIABLES)
def test_a_variable_that_the_users_code_reads(place: Place, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIDTH", "4")
    imports = "WIDTH = os.environ['WIDTH']" if way == "at import" else "def width(_): return os.environ['WIDTH']"
    names = place.run(VARIABLES[way], imports)
    assert place.changed(names) == ()
    monkeypatch.setenv("WIDTH", "5")
    assert place.changed(names) == ("$WIDTH changed",)
    monkeypatch.setenv("PWD", "/elsewhere")
    monkeypatch.delenv("WIDTH")
    assert place.changed(names) == ("$WIDTH is gone",)


@pytest.mark.parametrize("body", ["os.environ.get('WIDTH', '4')", "dict(os.environ).get('WIDTH')", "list(os.environ)"])
def test_a_variable_that_is_not_set_and_then_is(place: Place, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WIDTH", raising=False)
    names = place.run(body)
    assert place.changed(names) == ()
    monkeypatch.setenv("TERM", "another")
    monkeypatch.setenv("WIDTH", "4")
    assert place.changed(names) == ("$WIDTH is new",)


@pytest.mark.parametrize(
    "body",
    [
        "import tempfile; tempfile.gettempdir()",
        "import shutil; shutil.which('ls')",
        "import torch; torch.hub.get_dir()",
        "import subprocess; subprocess.run(['true'])",
        "os.environ['WIDTH'] = '4'; assert os.environ['WIDTH']",
        "os.environ['TERM']",
        "Path(__file__).resolve().parent",
        "import json, numpy, torch, sklearn.metrics",
        "Path('out/deep').mkdir(parents=True); Path('out').mkdir(exist_ok=True); os.makedirs('out', exist_ok=True)",
        "import tempfile; f = tempfile.mkdtemp(); os.path.exists(f + '/a'); open(f + '/a', 'w').close(); os.listdir(f)",
        "import subprocess; os.mkdir('out'); subprocess.run(['touch', 'out/a']); open('out/a'); os.path.exists('out/b')",
        "import sqlite3; sqlite3.connect('cache.db').execute('create table t (a)'); open('cache.db', 'rb').read()",
        "import sqlite3; sqlite3.connect('cache.db'); sqlite3.connect('cache.db').execute('select 1')",
        "Path('cache').exists() or Path('cache').write_text('1'); Path('cache').read_text()",
        "try: open('cache').read()\nexcept OSError: open('cache', 'w').write('1')\nopen('cache').read()",
        "import torch; Path('w.pt').exists() or torch.save(1, 'w.pt'); torch.load('w.pt', weights_only=True)",
        "import sqlite3; sqlite3.connect(':memory:'); sqlite3.connect('file:x?mode=memory', uri=True)",
        "import ctypes; ctypes.CDLL('libm.so.6'); ctypes.CDLL(None)",
    ],
)  # fmt: skip
def test_what_is_not_the_users_or_made_by_the_stage_is_not_noted(place: Place, body: str, monkeypatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.delenv("WIDTH", raising=False)
    assert place.run(body) == {}


LOOKED = {
    "Path.exists": "Path('w.json').exists()",
    "Path.is_file": "(HERE / 'w.json').is_file()",
    "os.path.exists": "os.path.exists('w.json')",
    "os.path.isfile": "os.path.isfile(HERE / 'w.json')",
    "os.path.lexists": "os.path.lexists('w.json')",
    "os.access": "os.access('w.json', os.R_OK)",
    "glob of a name": "import glob; glob.glob('w.json')",
    "Path.glob of a name": "list(HERE.glob('w.json'))",
    "stat": "try: os.stat('w.json')\nexcept OSError: pass",
    "open": "try: open('w.json')\nexcept OSError: pass",
    "numpy": "import numpy\ntry: numpy.load('w.json')\nexcept OSError: pass",
}


@pytest.mark.parametrize("way", LOOKED)
def test_a_file_that_is_looked_for_and_comes_later_or_goes(place: Place, way: str) -> None:
    names = place.run(LOOKED[way])
    assert place.changed(names) == ()
    np.save(place.folder / "w.npy", np.ones(1))
    os.rename(place.folder / "w.npy", place.folder / "w.json")
    assert set(place.changed(names)) == {"w.json is new"}
    names = place.run(LOOKED[way])
    assert place.changed(names) == ()
    (place.folder / "w.json").unlink()
    assert set(place.changed(names)) == {"w.json is gone"}


def test_a_folder_that_is_looked_for_and_listed_when_it_is_not_there(place: Place) -> None:
    for body in ("Path('parts').is_dir()", "list(Path('parts').glob('*'))", "import glob; glob.glob('parts/*')"):
        assert place.changed(names := place.run(body)) == ()
        place.write("parts/a")
        assert place.changed(names) == ("parts is new",) or place.changed(names) == ("parts/ is new",)
        (place.folder / "parts/a").unlink()
        (place.folder / "parts").rmdir()


def test_the_size_of_a_file_that_is_asked_for(place: Place) -> None:
    place.write("w.json", "1")
    for body in ("os.path.getsize('w.json')", "Path('w.json').stat().st_size", "os.stat('w.json')"):
        names = place.run(body)
        place.write("w.json", "12")
        assert place.changed(names) == ("w.json changed",)
        place.write("w.json", "1")
    names = place.run("Path('w.json').exists()")
    place.write("w.json", "12")
    assert place.changed(names) == ()


MODULES = {
    "a module": ("try: import fast\nexcept ImportError: pass", "fast.py"),
    "a package": ("try: from fast import net\nexcept ImportError: pass", "fast/__init__.py"),
    "of a package": ("import nets\ntry: from nets import fast\nexcept ImportError: pass", "nets/fast.py"),
    "by name": ("import importlib\ntry: importlib.import_module('fast')\nexcept ImportError: pass", "fast.py"),
    "find_spec": ("import importlib.util; importlib.util.find_spec('fast')", "fast.py"),
}


@pytest.mark.parametrize("kind", MODULES)
def test_a_module_that_cannot_be_imported_and_comes_later(place: Place, kind: str) -> None:
    body, file = MODULES[kind]
    place.write("nets/__init__.py", "")
    names = place.run(body)
    assert place.changed(names) == ()
    place.write(file, "net = 1")
    assert place.changed(names) in (("fast.py is new",), ("fast is new",), ("nets/fast.py is new",))


def test_a_variable_that_a_library_of_settings_reads_for_the_user(place: Place, tmp_path: Path, monkeypatch) -> None:
    for name in ("decouple", "others"):
        path = tmp_path / "site-packages" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text("import os\ndef config(name):\n    return os.environ.get(name)\n")
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    assert list(place.run("import decouple, others; decouple.config('WIDTH'); others.config('HEIGHT')")) == ["env:WIDTH"]


def test_a_library_that_is_not_installed_and_then_is(place: Place, tmp_path: Path, monkeypatch) -> None:
    libraries = tmp_path / "lib" / "site-packages"
    libraries.mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [*sys.path, str(libraries)])
    names = place.run("try: import fastlib\nexcept ImportError: pass")
    assert place.changed(names) == ()
    (libraries / "fastlib.py").write_text("")
    sys.path_importer_cache.clear()
    assert place.changed(names) == ("module fastlib is new",)


OPENED = {
    "torch.from_file": ("w.bin", "import torch; torch.from_file('w.bin', size=1, dtype=torch.uint8)"),
    "UntypedStorage": ("w.bin", "import torch; torch.UntypedStorage.from_file('w.bin', False, 1)"),
    "FloatStorage": ("w.bin", "import torch; torch.ByteStorage.from_file('w.bin', False, 1)"),
    "sqlite, a URI": ("w.db", "import sqlite3; sqlite3.connect('file:w.db?mode=ro', uri=True).execute('select * from t')"),
    "sqlite, a whole URI": ("w.db", "import sqlite3; sqlite3.connect(f'{(HERE / \"w.db\").as_uri()}?mode=ro', uri=True)"),
    "ctypes": ("w.so", "import ctypes\ntry: ctypes.CDLL('./w.so')\nexcept OSError: pass"),
    "torch.ops": ("w.so", "import torch\ntry: torch.ops.load_library('./w.so')\nexcept OSError: pass"),
}


@pytest.mark.parametrize("way", OPENED)
def test_what_opens_files_below_python(place: Place, way: str) -> None:
    file, body = OPENED[way]
    if file == "w.db":
        with sqlite3.connect(place.folder / file) as table:
            table.execute("create table t (a)")
        table.close()
    else:
        place.write(file, b"\x01")
    names = place.run(body)
    assert place.changed(names) == ()
    with open(place.folder / file, "r+b") as opened:
        opened.seek(0, os.SEEK_END)
        opened.write(b"\x02")
    assert place.changed(names) == (f"{file} changed",)


WRITES = {
    "a cache": "Path('parts/cache.json').write_text('1')",
    "torch": "import torch; torch.save(torch.ones(1), 'parts/cache.pt')",
    "safetensors": "import torch, safetensors.torch as st; st.save_file({'a': torch.ones(1)}, 'parts/cache.st')",
    "a log of the hour": "import time; Path(f'parts/log-{time.time_ns()}.txt').write_text('1')",
    "a log by a hash": "import uuid; Path(f'parts/log-{uuid.uuid4().hex}.txt').write_text('1')",
    "by a new name": "Path('parts/x').write_text('1'); os.replace('parts/x', 'parts/cache.json')",
    "a folder": "os.makedirs('parts/out/deep', exist_ok=True)",
    "in a process": (
        "import multiprocessing\n"
        "with multiprocessing.get_context('fork').Pool(1) as pool: pool.map(Path.touch, [Path('parts/cache')])"
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", WRITES)
def test_a_folder_that_is_listed_and_written_to(place: Place, way: str) -> None:
    """It is not made again for what it wrote there itself, neither now nor in the next run, but for a file of the user's."""
    place.write("parts/data-a.txt")
    body = f"os.listdir('parts')\n{WRITES[way]}"
    first = place.run(body)
    assert place.changed(first) == ()
    second = place.run(body)
    assert place.changed(first) == place.changed(second) == ()
    place.write("parts/data-b.txt")
    assert place.changed(first) == place.changed(second) == ("parts/ changed",)


@pytest.mark.parametrize("variable", ["LOREUN_STORE", "LOREUN_DATA"])
def test_a_users_file_in_the_folders_of_the_harness(place: Place, variable: str) -> None:
    place.monkeypatch.setenv(variable, str(place.folder / "ours"))
    place.write("ours/w.json")
    names = place.run("import numpy; numpy.fromfile(HERE / 'ours' / 'w.json', 'uint8')")
    place.write("ours/w.json", "2")
    assert place.changed(names) == ("ours/w.json changed",)


def test_what_the_store_holds_is_not_listed(place: Place) -> None:
    """As by a search from a folder that it lies in."""
    place.monkeypatch.setenv("LOREUN_STORE", str(place.folder / "parts" / "store"))
    place.monkeypatch.setenv("LOREUN_DATA", str(place.folder / "parts" / "data"))
    place.write("parts/store/artifacts/a")
    place.write("parts/data/mine/a.npy")
    names = place.run("list(Path('parts').rglob('*.npy'))")
    place.write("parts/store/artifacts/b")
    place.write("parts/store/used/b")
    assert place.changed(names) == ()
    place.write("parts/data/mine/b.npy")
    assert place.changed(names) == ("parts/data/mine/ changed",)


def test_what_our_code_opens_in_the_folders_of_the_harness(place: Place) -> None:
    from loreun_bench.classification.data.prepared import resolve

    resolve("digits")
    place.write("w.png", b"")
    body = "from loreun_bench.classification.data.prepared import verify; verify('digits')"
    assert place.run(body) == {}
    names = place.run("from loreun_bench.harness.files import sha256_file; sha256_file(Path('w.png'))")
    assert list(names) == ["cwd:w.png"]


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no /dev/shm here")
def test_a_users_file_in_memory(place: Place) -> None:
    path = Path("/dev/shm") / f"loreun-{os.getpid()}.json"
    path.write_text("1")
    try:
        names = place.run(f"open({str(path)!r}).read()")
        path.write_text("2")
        assert place.changed(names) == (f"{path} changed",)
    finally:
        path.unlink()


@pytest.mark.parametrize("folder", ["/run/media/me", "/run/user/1000", "/run/mount/disk", "/dev/shm"])
def test_disks_and_memory_are_not_the_system(folder: str) -> None:
    from loreun_bench.harness.places import counting

    counts = counting()
    assert counts(f"{folder}/w.json", True, False)
    assert not counts("/run/systemd/w.json", True, False)
    assert not counts("/dev/null", True, False)
