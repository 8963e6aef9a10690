"""Which paths are the user's, so that what lies there counts: not the system's, nor what is kept to save a download."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable

from loreun_bench.harness.store import data_root, default_root
from loreun_bench.plugins import is_users

SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/usr/lib", "/usr/lib64", "/usr/share", "/usr/bin", "/lib", "/lib64", "/run")
MEMORY = ("/dev/shm", "/run/media", "/run/mount", "/run/user")  # memory and disks, for the user's files
CACHES = (".cache", ".config", ".local", ".triton", ".nv", ".matplotlib", ".keras")  # of the home folder
CACHE_VARIABLES = ("XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME", "TORCHINDUCTOR_CACHE_DIR", "MPLCONFIGDIR")


def counting() -> Callable[[str, bool, bool], bool]:
    """Whether an absolute path is the user's, as the environment is now; asked with whether their code itself opens it, and
    whether that is to list it.

    In the store and the data folder that decides: what our code opens there is an artifact, or data whose hash is in the
    stage's key; a file that the user keeps beside them is opened by theirs. What the store holds changes by itself.
    """
    home = os.path.expanduser("~")
    named = [os.environ[name] for name in CACHE_VARIABLES if os.environ.get(name)]
    compiled = os.path.join(tempfile.gettempdir(), "torchinductor_")
    python = os.path.join(sys.base_prefix, sys.platlibdir, "python")
    others = (compiled, python, *_folders(*SYSTEM, *(os.path.join(home, name) for name in CACHES), *named))
    store, data, memory = _folders(str(default_root())), _folders(str(data_root())), _folders(*MEMORY)

    def counts(path: str, itself: bool, listed: bool) -> bool:
        if not is_users(path) or (listed and f"{path}{os.sep}".startswith(store)):
            return False
        return itself if path.startswith(store + data) else path.startswith(memory) or not path.startswith(others)

    return counts


def _folders(*names: str) -> tuple[str, ...]:
    return tuple(os.path.abspath(each) + os.sep for name in names for each in (name, os.path.realpath(name)))
