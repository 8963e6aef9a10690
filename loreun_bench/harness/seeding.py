"""Seeds by name, so that every use of randomness has its own stream and none shifts another."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream called `names` under `seed`; the same everywhere, for ever."""
    text = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Global randomness, which dropout and initial weights draw from, seeded inside and restored after: torch's, and
    those of Python and NumPy, as some networks draw from them."""
    import random

    import numpy as np
    import torch

    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
