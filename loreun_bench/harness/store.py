"""The content-addressed store of stage artifacts: atomic, verified by hash on every load, safe to share."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loreun_bench.harness.files import locked, sha256_file, shared, sync, sync_folder, write_atomic
from loreun_bench.harness.stage import SCHEMA, Output, digest

if TYPE_CHECKING:
    from torch import Tensor

TENSORS, VALUES, MANIFEST = "tensors.safetensors", "values.json", "manifest.json"

MOST_SETS = 32  # of files that the runs of one stage used, which are kept

FIELDS = {"schema", "key", "digest", "files", "cost"}


class Corrupt(Exception):
    """An artifact's bytes do not match its manifest; it has been set aside and must be built again."""


@dataclass(frozen=True)
class Artifact:
    """A finished stage's result. `digest` covers the payload, not the cost, so that a rebuild keeps downstream keys."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 over the payload's file hashes."""
        return str(self.manifest["digest"])

    @property
    def cost(self) -> dict[str, float]:
        """What the stage cost when it was computed."""
        return dict(self.manifest["cost"])

    def tensors(self) -> dict[str, Tensor]:
        """The tensors, memory-mapped, after their hash was checked."""
        from safetensors.torch import load_file

        return load_file(self._checked(TENSORS))

    def values(self) -> dict[str, Any]:
        """The JSON values, after their hash was checked."""
        return json.loads(self._checked(VALUES).read_text())  # type: ignore[no-any-return]

    def _checked(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_file() or sha256_file(path) != self.manifest["files"].get(name):
            raise Corrupt(f"{path} does not match its manifest")
        return path


class Store:
    """Artifacts by key under one folder (`$LOREUN_STORE`)."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, key: str) -> Artifact | None:
        """The artifact with this key, or None if it is not there or its manifest is unreadable."""
        folder = self._folder(key)
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
        except (OSError, ValueError):
            return None
        if not isinstance(manifest, dict) or not manifest.keys() >= FIELDS:
            return None
        return Artifact(folder, manifest) if (manifest["schema"], manifest["key"]) == (SCHEMA, key) else None

    def verified(self, key: str) -> Artifact | None:
        """Like `find`, but an artifact whose bytes are wrong is set aside and counts as missing."""
        artifact = self.find(key)
        if artifact is None:
            return None
        try:
            if artifact.digest != digest(artifact.manifest["files"]):
                raise Corrupt(f"{artifact.folder} has a manifest that contradicts itself")
            for name in artifact.manifest["files"]:
                artifact._checked(name)
        except (Corrupt, OSError):
            self.set_aside(artifact)
            return None
        return artifact

    def put(self, key: str, output: Output, about: dict[str, Any], replace: bool = False) -> Artifact:
        """Write an artifact: payload first, manifest last, then one rename. If another process was first, theirs stays,
        unless it is to be replaced."""
        from safetensors.torch import save_file

        temporary = self.root / "tmp" / uuid.uuid4().hex
        temporary.mkdir(parents=True)
        try:
            files: dict[str, str] = {}
            if output.tensors:
                save_file({k: v.detach().cpu().contiguous().clone() for k, v in output.tensors.items()}, temporary / TENSORS)
                files[TENSORS] = sha256_file(temporary / TENSORS)
            (temporary / VALUES).write_text(json.dumps(output.values, sort_keys=True, allow_nan=True))
            files[VALUES] = sha256_file(temporary / VALUES)
            manifest = {
                "schema": SCHEMA, "key": key, "digest": digest(files), "files": files, "cost": output.cost,
                "created": time.time(), **about,
            }  # fmt: skip
            (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True))
            for path in temporary.iterdir():
                with open(path, "rb") as file:
                    sync(file.fileno())
            self._publish(temporary, key, replace)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        artifact = self.find(key)
        assert artifact is not None
        return artifact

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Inside, a sweep uses the store. The first removes what those that were killed have left half-written."""
        with shared(self.root / "tmp" / ".lock") as alone:
            for path in [*self.root.glob("tmp/[!.]*"), *self.root.glob("used/*/.*")] if alone else ():
                with contextlib.suppress(OSError):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            yield

    def set_aside(self, artifact: Artifact) -> None:
        """Move a corrupt artifact to `corrupt/`, for a look, out of the way of a rebuild."""
        grave = self.root / "corrupt" / f"{artifact.folder.name}-{uuid.uuid4().hex[:8]}"
        grave.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):
            os.replace(artifact.folder, grave)

    def progress_file(self, key: str) -> Path:
        """Where the stage that makes this artifact says how far it is."""
        return self.root / "tmp" / f"{key}.share"

    def used(self, base: str) -> list[dict[str, str | None]]:
        """For the stage with this key of its own, the files of the user's that its runs used, with the hashes that they had:
        each set of names once, the newest first."""
        try:
            found = json.loads(self._used_file(base).read_text())
        except (OSError, ValueError):
            return []
        known = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
        return [{str(name): value for name, value in each.items()} for each in known]

    def note_used(self, base: str, files: Mapping[str, str | None]) -> None:
        """Add what a run of the stage used."""
        path = self._used_file(base)
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.root / "used" / ".lock"):
            others = [each for each in self.used(base) if each.keys() != files.keys()]
            write_atomic(path, json.dumps([dict(files), *others][:MOST_SETS]))

    def _used_file(self, base: str) -> Path:
        return self.root / "used" / base[:2] / f"{base}.json"

    def _publish(self, temporary: Path, key: str, replace: bool) -> None:
        folder = self._folder(key)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if replace and folder.exists():
            old = self.root / "tmp" / uuid.uuid4().hex
            with contextlib.suppress(OSError):
                os.replace(folder, old)
            shutil.rmtree(old, ignore_errors=True)
        try:
            os.replace(temporary, folder)
        except OSError:  # the place is taken
            if self.verified(key) is not None:
                return
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(temporary, folder)
        sync_folder(folder.parent)

    def _folder(self, key: str) -> Path:
        return self.root / "artifacts" / key[:2] / key


def default_root() -> Path:
    """`$LOREUN_STORE`, or a folder in the user's cache."""
    return _cache("LOREUN_STORE", "store")


def data_root() -> Path:
    """`$LOREUN_DATA`, or a folder in the user's cache."""
    return _cache("LOREUN_DATA", "data")


def _cache(variable: str, name: str) -> Path:
    if os.environ.get(variable):
        return Path(os.environ[variable]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "loreun_bench" / name
