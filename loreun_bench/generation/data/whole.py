"""Whether pictures can be decoded: each file's bytes are tried once on this machine, before anything runs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from loreun_bench import pictures
from loreun_bench.harness.files import locked
from loreun_bench.harness.stage import code_digest
from loreun_bench.harness.store import data_root


def check(paths: Sequence[Path], hashes: Sequence[str], what: str) -> None:
    """UserError that names the pictures which cannot be decoded. hashes: of the files' bytes; what was whole under one of
    them is not decoded again."""
    memory = _memory()
    known = set(memory.read_text(encoding="ascii").split()) if memory.is_file() else set()
    new = {sha256: path for path, sha256 in zip(paths, hashes, strict=True) if sha256 not in known}
    for _ in pictures.each_of(list(new.values()), _try, f"pictures of {what} (tried)"):
        pass
    if new:
        with contextlib.suppress(OSError):  # they are tried again then
            memory.parent.mkdir(parents=True, exist_ok=True)
            with locked(data_root() / ".lock"), open(memory, "a", encoding="ascii") as file:
                file.write("".join(f"{sha256}\n" for sha256 in new))


def _try(path: Path) -> None:
    pictures.upright(path, small=True)


def _memory() -> Path:
    """The hashes of the files that this reader, with this library, can decode."""
    import PIL

    return data_root() / f"whole-{code_digest(Path(str(pictures.__file__)))[:8]}-{PIL.__version__}.txt"
