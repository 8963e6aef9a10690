"""What the server that workers are forked from imports first: it leaves Ctrl-C to the parent and has one thread."""

import signal

signal.signal(signal.SIGINT, signal.SIG_IGN)

import torch  # noqa: E402

torch.set_num_threads(1)
