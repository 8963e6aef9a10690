"""Pins that what a plug-in changes of the process that plans, whatever it is, is put back."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from loreun_bench.plugins import undisturbed

CHANGES = {  # what a plug-in does → how the process that plans tells that it was done
    "umask": ("os.umask(0o077)", "oct(umask())"),
    "a signal's handler": ("signal.signal(signal.SIGINT, signal.SIG_IGN)", "signal.getsignal(signal.SIGINT)"),
    "blocked signals": ("signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})", "signal.pthread_sigmask(0, ())"),
    "an alarm": ("signal.alarm(1)", "signal.getitimer(signal.ITIMER_REAL)"),
    "a limit": (
        "resource.setrlimit(resource.RLIMIT_NOFILE, (50, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))",
        "resource.getrlimit(resource.RLIMIT_NOFILE)",
    ),
    "cores": ("os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})", "os.sched_getaffinity(0)"),
    "locale": ("locale.setlocale(locale.LC_ALL, 'C.UTF-8')", "locale.setlocale(locale.LC_ALL)"),
    "a time zone": ("os.environ['TZ'] = 'Asia/Tokyo'; time.tzset()", "time.localtime(0).tm_hour"),
    "standard output": ("os.dup2(os.open(os.devnull, os.O_WRONLY), 1)", "os.fstat(1).st_ino, os.fstat(1).st_dev"),
    "no standard output": ("os.close(1)", "os.fstat(1).st_ino, os.fstat(1).st_dev"),
    "output that does not wait": ("os.set_blocking(1, False)", "os.get_blocking(1)"),
    "sys.stdout": ("sys.stdout = None", "sys.stdout is sys.__stdout__"),
    "warnings": ("warnings.simplefilter('error')", "warnings.filters"),
    "how warnings are shown": ("warnings.showwarning = None", "warnings.showwarning"),
    "logging": (
        "logging.basicConfig(level=0); logging.disable()",
        "logging.root.handlers, logging.root.level, logging.root.manager.disable",
    ),
    "a library's logger": ("logging.getLogger('PIL').disabled = True", "logging.getLogger('PIL').disabled"),
    "sys.path": ("sys.path.insert(0, '/nowhere')", "sys.path"),
    "no sys.path": ("sys.path.clear()", "sys.path"),
    "another sys.path": ("sys.path = ['/nowhere']", "sys.path"),
    "finders": ("sys.meta_path.insert(0, Finder())", "sys.meta_path"),
    "no finders": ("sys.meta_path.clear()", "sys.meta_path"),
    "excepthook": ("sys.excepthook = print", "sys.excepthook"),
    "a tracer": ("sys.settrace(lambda *_: None)", "sys.gettrace()"),
    "recursion": ("sys.setrecursionlimit(200)", "sys.getrecursionlimit()"),
    "garbage": ("gc.disable()", "gc.isenabled()"),
    "sockets": ("socket.setdefaulttimeout(0.001)", "socket.getdefaulttimeout()"),
    "arguments": ("sys.argv[:] = ['other']", "sys.argv"),
    "NumPy's errors": ("np.seterr(all='raise')", "np.geterr()"),
    "NumPy's format": ("np.set_printoptions(precision=1)", "np.get_printoptions()"),
    "threads of torch": ("torch.set_num_threads(7)", "torch.get_num_threads()"),
    "torch's device": ("torch.set_default_device('meta')", "torch.empty(1).device"),
    "determinism": ("torch.use_deterministic_algorithms(True)", "torch.are_deterministic_algorithms_enabled()"),
    "precision": ("torch.set_float32_matmul_precision('medium')", "torch.get_float32_matmul_precision()"),
    "autocast": ("torch.set_autocast_enabled('cpu', True)", "torch.is_autocast_enabled('cpu')"),
    "cuDNN": ("torch.backends.cudnn.benchmark = True", "torch.backends.cudnn.benchmark"),
    "a hook of all modules": (
        "torch.nn.modules.module.register_module_forward_hook(lambda m, i, o: o * 0)",
        "torch.nn.Identity()(torch.ones(1))",
    ),
    "a hook of all optimisers": (
        "sys.modules['torch.optim.optimizer'].register_optimizer_step_pre_hook(print)",
        "sys.modules['torch.optim.optimizer']._global_optimizer_pre_hooks",
    ),
    "what checkpoints may hold": (
        "torch.serialization.add_safe_globals([Finder])", "torch.serialization.get_safe_globals()",
    ),
    "a function of torch": ("torch.nn.functional.linear = None", "torch.nn.functional.linear"),
    "a library": ("sys.modules['json'] = Finder", "sys.modules['json']"),
    "broken pictures": ("ImageFile.LOAD_TRUNCATED_IMAGES = True", "ImageFile.LOAD_TRUNCATED_IMAGES"),
    "huge pictures": ("Image.MAX_IMAGE_PIXELS = 3", "Image.MAX_IMAGE_PIXELS"),
}  # fmt: skip
HEAD = "import gc, locale, logging, os, resource, signal, socket, sys, time, warnings\n"
PLUGIN = HEAD + "import numpy as np\nimport torch\nfrom PIL import Image, ImageFile\nclass Finder:\n    pass\n"
LOOK = HEAD + """
import json
from pathlib import Path
from loreun_bench.plugins import load_plugin

def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask

def look(what):
    import numpy as np, torch, PIL.Image as Image, PIL.ImageFile as ImageFile
    return repr(eval(what))

folder, CHANGES = Path(sys.argv[1]), json.loads(sys.argv[2])
found = {}
"""
EACH = """
for name, (_, what) in CHANGES.items():
    before = look(what)
    load_plugin(folder / f"{name}.py")
    found[name] = before, look(what)
    (folder / "found.json").write_text(json.dumps(found))
"""
FIRST = """
assert "torch" not in sys.modules
if len(sys.argv) > 3:
    load_plugin(folder / "all.py")
(folder / "found.json").write_text(json.dumps({name: look(what) for name, (_, what) in CHANGES.items()}))
"""
OF_LIBRARIES = ("threads of torch", "a hook of all modules", "a function of torch", "broken pictures", "NumPy's errors")


def looked(folder: Path, script: str, names: list[str], *words: str) -> dict[str, Any]:
    """What a process has found that loads plug-ins which do these things."""
    text = json.dumps({name: CHANGES[name] for name in names})
    for name in names:
        (folder / f"{name}.py").write_text(PLUGIN + CHANGES[name][0])
    (folder / "all.py").write_text(PLUGIN + "\n".join(CHANGES[name][0] for name in names))
    done = subprocess.run([sys.executable, "-c", LOOK + script, folder, text, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return found


@pytest.fixture(scope="module")
def after_each(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return looked(tmp_path_factory.mktemp("each"), EACH, list(CHANGES))


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_plug_in_changes_is_put_back(after_each: dict[str, Any], name: str) -> None:
    before, after = after_each[name]
    assert after == before


def test_also_what_it_changes_in_libraries_that_it_is_the_first_to_import(tmp_path: Path) -> None:
    without = looked(tmp_path, FIRST, list(OF_LIBRARIES))
    assert looked(tmp_path, FIRST, list(OF_LIBRARIES), "with") == without


def test_what_a_plug_in_registers_for_the_end_of_its_process_does_not_run_at_the_end_of_this_one(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("import atexit, os\natexit.register(os._exit, 7)\n")
    text = f"from loreun_bench.plugins import load_plugin\nload_plugin({str(tmp_path / 'evil.py')!r})"
    assert subprocess.run([sys.executable, "-c", text]).returncode == 0


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="needs limits of processes")
def test_a_limit_that_cannot_be_raised_again_is_refused(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (50, 60))\n")
    os.chmod(tmp_path, 0o755)
    text = (
        "import os, resource, torch, loreun_bench.plugins as plugins\n"
        "usual = resource.setrlimit\n"
        "def setrlimit(number, value):\n"  # as for whoever is not root
        "    if value[1] > resource.getrlimit(number)[1]: raise ValueError('not allowed to raise maximum limit')\n"
        "    usual(number, value)\n"
        "resource.setrlimit = setrlimit\n"
        f"plugins.load_plugin({str(tmp_path / 'evil.py')!r})"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert "UserError: a user's file has lowered RLIMIT_NOFILE of the process that plans" in done.stderr


def test_a_module_that_is_replaced_meanwhile_lends_its_identity_to_no_other() -> None:
    """As a plug-in's own is, when it is read anew: another module then had its id, counted as one that was there before, and
    was never read again, nor did it give way to another project's."""
    sys.modules["passing"] = ModuleType("passing")
    alive = weakref.ref(sys.modules["passing"])
    with undisturbed():
        del sys.modules["passing"]
        gc.collect()
        assert alive() is not None
    gc.collect()
    assert alive() is None
