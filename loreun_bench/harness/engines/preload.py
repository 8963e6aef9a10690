"""What the server that workers are forked from imports first: it leaves Ctrl-C to the parent and has one thread.

Nothing is computed here: a process is forked safely only while torch has started no threads.
"""

import contextlib
import ctypes
import signal

signal.signal(signal.SIGINT, signal.SIG_IGN)

# What a step frees, up to 1 GiB, the next one takes again; else glibc returns it, and a fifth of the time makes new pages.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
with contextlib.suppress(AttributeError, OSError):  # other libraries have no such setting
    for parameter in (TRIM_THRESHOLD, MMAP_THRESHOLD):
        ctypes.CDLL(None).mallopt(parameter, 1 << 30)

import torch  # noqa: E402

torch.set_num_threads(1)

import torch._dynamo  # noqa: E402  # which an optimiser's first step imports, in more than a second

from loreun_bench.harness.environment import commit  # noqa: E402

commit()  # which asks git, once for all processes
