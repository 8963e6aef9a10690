"""The content-addressed store of stage artifacts: atomic, verified by hash on every load, safe to share."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loreun_bench.harness.files import in_folder, locked, sealed, sha256_file, sync, sync_folder, unsealed, write_atomic
from loreun_bench.harness.stage import SCHEMA, Output, digest
from loreun_bench.plugins import signature
from loreun_bench.versions import Newer

if TYPE_CHECKING:
    from torch import Tensor

TENSORS, VALUES, MANIFEST = "tensors.safetensors", "values.json", "manifest.json"
PICTURES, BESIDE = "pictures", "beside"  # the folder of what artifacts name beside them; what a packed one calls that

MOST_SETS = 32  # of files that the runs of one stage used, which are kept
SYNC_FROM = 1.0  # seconds that an artifact took, from which it is forced to disk; what is lost of others is made again
RACY = 0.1  # seconds after a file's last change in which its times cannot tell another change

KINDS: dict[str, type] = {"digest": str, "files": dict, "cost": dict, "used": dict, "environment": dict, "versions": dict}
FIELDS = {"schema", "key", "digest", "files", "cost"}


class Corrupt(Exception):
    """An artifact's bytes do not match its manifest; it has been set aside and must be built again."""

    def __str__(self) -> str:
        return f"{super().__str__()}: run the sweep again"


@dataclass(frozen=True)
class Artifact:
    """A finished stage's result. `digest` covers the payload, not the cost, so that a rebuild keeps downstream keys."""

    at: str  # its folder; no Path: to make one takes as long as to open a file
    manifest: dict[str, Any]

    @property
    def folder(self) -> Path:
        """The folder of its files."""
        return Path(self.at)

    @property
    def key(self) -> str:
        """Its key in the store."""
        return str(self.manifest["key"])

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

        path = self._checked(TENSORS)
        try:
            return load_file(path)
        except Exception as error:  # the library's own, of a file that has just gone
            raise Corrupt(f"{path} cannot be read: {error}") from error

    def values(self) -> dict[str, Any]:
        """The JSON values, after their hash was checked."""
        path = f"{self.at}/{VALUES}"
        content = _content(path)
        if hashlib.sha256(content).hexdigest() != self.manifest["files"].get(VALUES):
            raise Corrupt(f"{path} does not match its manifest")
        return json.loads(content)  # type: ignore[no-any-return]

    def beside(self) -> dict[str, str]:
        """The hashes of the files that it names in a folder beside the artifacts, such as pictures; most have none."""
        values = self.values()
        return dict(values["files"]) if "folder" in values and isinstance(values.get("files"), dict) else {}

    def _checked(self, name: str) -> str:
        path = f"{self.at}/{name}"
        with contextlib.suppress(OSError):  # it may go at any moment
            found = signature(path)
            if found is not None and _hash(path, found) == self.manifest["files"].get(name):
                return path
        raise Corrupt(f"{path} does not match its manifest")


def _content(path: Path | str) -> bytes:
    """What is in a file; nothing if it is not there, or goes meanwhile."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""


def _hash(path: str, found: tuple[int, ...]) -> str:
    """The hash of a file, taken once a process as long as its signature is the same, which of two changes at once may
    show one."""
    return sha256_file(path) if abs(time.time() - found[2] / 1e9) < RACY else _known_hash(path, found)


@lru_cache(maxsize=1 << 14)
def _known_hash(path: str, _: tuple[int, ...]) -> str:
    return sha256_file(path)


@dataclass(frozen=True)
class Store:
    """Artifacts by key under one folder (`$LOREUN_STORE`), as a sweep sees it: what it writes is below `tmp` until whole."""

    root: Path
    sweep: str = "alone"

    @cached_property
    def tmp(self) -> Path:
        """Where this sweep keeps what goes with it."""
        return self.root / "tmp" / self.sweep

    def find(self, key: str) -> Artifact | None:
        """The artifact with this key, or None if it is not there or its manifest is unreadable."""
        folder = self._folder(key)
        manifest = _manifest(folder)
        if not manifest.keys() >= FIELDS:
            return None
        return Artifact(folder, manifest) if (manifest["schema"], manifest["key"]) == (SCHEMA, key) else None

    def verified(self, key: str) -> Artifact | None:
        """Like `find`, but an artifact whose bytes are wrong is set aside and counts as missing."""
        artifact = self.find(key)
        return artifact if artifact is not None and self.sound(artifact) else None

    def sound(self, artifact: Artifact) -> bool:
        """Whether an artifact's bytes are what its manifest says; if not it is set aside."""
        try:
            if artifact.digest != digest(artifact.manifest["files"]):
                raise Corrupt(f"{artifact.at} has a manifest that contradicts itself")
            for name in artifact.manifest["files"]:
                artifact._checked(name)
        except (Corrupt, OSError, ValueError):
            self.set_aside(artifact)
            return False
        return True

    def put(self, key: str, output: Output, about: dict[str, Any], replace: bool = False) -> Artifact:
        """Write an artifact: payload first, manifest last, then one rename. If another process was first, theirs stays,
        unless it is to be replaced. UserError if it is of a newer schema, whose place is never taken."""
        lasting = about.get("seconds", SYNC_FROM) >= SYNC_FROM
        temporary = self._new_folder()
        try:
            files = _write_payload(temporary, output)
            manifest = {
                "schema": SCHEMA, "key": key, "digest": digest(files), "files": files, "cost": output.cost,
                "created": time.time(), **about,
            }  # fmt: skip
            _write(f"{temporary}/{MANIFEST}", sealed(manifest))
            if self._publish(temporary, key, replace, lasting):
                return Artifact(self._folder(key), manifest)
        finally:
            if os.path.exists(temporary):
                shutil.rmtree(temporary, ignore_errors=True)
        artifact = self.find(key)
        if artifact is None:
            raise Corrupt(f"{self._folder(key)} vanished as soon as it was written")
        return artifact

    def packed(self, artifact: Artifact) -> dict[str, bytes]:
        """An artifact's files, and the pictures that it names beside the artifacts, to be sent to another store. Raises
        Corrupt if it is not there whole."""
        if not self.sound(artifact):
            raise Corrupt(f"what '{artifact.manifest.get('label')}' left is missing or was corrupt and is set aside")
        files = {name: _content(artifact.folder / name) for name in (*artifact.manifest["files"], MANIFEST)}
        return files | {f"{BESIDE}/{name}": content for name, content in self.pictures(artifact)}

    def unpack(self, key: str, files: Mapping[str, bytes], replace: bool = False) -> Artifact:
        """Put what another store has packed into this one, as `put` does. Raises Corrupt if its bytes are not what its
        manifest says."""
        temporary = self._new_folder()
        try:
            manifest = json.loads(files[MANIFEST])
            for name in (*manifest["files"], MANIFEST):
                _write(f"{temporary}/{Path(name).name}", files[name])
            artifact = Artifact(temporary, manifest)
            for name in manifest["files"]:
                artifact._checked(name)
            if (manifest["key"], manifest["digest"]) != (key, digest(manifest["files"])):
                raise Corrupt(f"what was sent as {key} is another artifact")
            for name, sha256 in artifact.beside().items():
                content = files[f"{BESIDE}/{name}"]
                if hashlib.sha256(content).hexdigest() != sha256:
                    raise Corrupt(f"{name} did not arrive as it was sent")
                write_atomic(self.folder_of_pictures(artifact) / Path(name).name, content)
            self._publish(temporary, key, replace, manifest.get("seconds", SYNC_FROM) >= SYNC_FROM)
        except (KeyError, TypeError, ValueError) as error:
            raise Corrupt(f"what was sent as {key} is not whole: {error}") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        found = self.find(key)
        if found is None:
            raise Corrupt(f"{self._folder(key)} vanished as soon as it was written")
        return found

    def pictures(self, artifact: Artifact) -> Iterator[tuple[str, bytes]]:
        """The name and the content of each of an artifact's pictures. Raises Corrupt if one is missing or changed: the
        artifact is then set aside, so that a rerun makes it anew."""
        folder = self.folder_of_pictures(artifact)
        for name, sha256 in artifact.beside().items():
            path = folder / Path(name).name
            content = _content(path)
            if hashlib.sha256(content).hexdigest() != sha256:
                path.unlink(missing_ok=True)
                self.set_aside(artifact)
                raise Corrupt(f"picture {name} was missing or changed and is set aside")
            yield name, content

    def folder_of_pictures(self, artifact: Artifact) -> Path:
        """Where an artifact's pictures are."""
        return self.root / PICTURES / Path(str(artifact.values().get("folder", ""))).name

    def set_aside(self, artifact: Artifact) -> None:
        """Move a corrupt artifact to `corrupt/`, for a look, out of the way of a rebuild."""
        grave = self.root / "corrupt" / f"{artifact.folder.name}-{uuid.uuid4().hex[:8]}"
        with contextlib.suppress(OSError):
            in_folder(grave.parent, lambda: os.replace(artifact.at, grave))

    def progress_file(self, key: str) -> str:
        """Where the stage that makes this artifact says how far it is."""
        return f"{self.tmp}/{key}.share"

    def used(self, base: str) -> list[dict[str, str | None]]:
        """For the stage with this key of its own, the files of the user's that its runs used, with the hashes that they had:
        each set of names once, the newest first."""
        try:
            found = json.loads(self._used_file(base).read_text())
        except (OSError, ValueError, RecursionError):
            return []
        known = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
        return [{str(name): value for name, value in each.items()} for each in known]

    def note_used(self, base: str, files: Mapping[str, str | None]) -> None:
        """Add what a run of the stage used."""
        with locked(self.root / "used" / ".lock"):
            others = [each for each in self.used(base) if each.keys() != files.keys()]
            write_atomic(self._used_file(base), json.dumps([dict(files), *others][:MOST_SETS]))

    def _used_file(self, base: str) -> Path:
        return self.root / "used" / base[:2] / f"{base}.json"

    def _new_folder(self) -> str:
        """A folder for an artifact that is not whole yet."""
        folder = f"{self.tmp}/{uuid.uuid4().hex}"
        in_folder(self.tmp, lambda: os.mkdir(folder))
        return folder

    def _publish(self, temporary: str, key: str, replace: bool, lasting: bool) -> bool:
        """Give an artifact its place; False if another has it and stays."""
        folder = self._folder(key)
        for path in Path(temporary).iterdir() if lasting else ():
            with open(path, "rb") as file:
                sync(file.fileno())
        if replace and os.path.exists(folder):
            _refuse_newer(folder)
            old = self.tmp / uuid.uuid4().hex
            with contextlib.suppress(OSError):
                os.replace(folder, old)
            shutil.rmtree(old, ignore_errors=True)
        try:
            in_folder(os.path.dirname(folder), lambda: os.replace(temporary, folder))
        except OSError:
            if not os.path.exists(folder):
                raise
            _refuse_newer(folder)
            if self.verified(key) is not None:
                return False
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(temporary, folder)
        if lasting:
            sync_folder(Path(folder).parent)
        return True

    def _folder(self, key: str) -> str:
        return f"{self.root}/artifacts/{key[:2]}/{key}"


def _write_payload(folder: str, output: Output) -> dict[str, str]:
    """Write what a stage returned; the hash of each file by its name."""
    files: dict[str, str] = {}
    if output.tensors:
        path = f"{folder}/{TENSORS}"
        _write_tensors(path, output.tensors)
        files[TENSORS] = sha256_file(path)
    values = json.dumps(output.values, sort_keys=True, allow_nan=True).encode()
    _write(f"{folder}/{VALUES}", values)
    files[VALUES] = hashlib.sha256(values).hexdigest()
    return files


def _write_tensors(path: str, tensors: Mapping[str, Tensor]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, path)
    except SafetensorError as error:  # which says no number
        if os.strerror(errno.ENOENT) in str(error):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
        raise


def _write(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)


def _refuse_newer(folder: str) -> None:
    there = _manifest(folder)
    if type(schema := there.get("schema")) is int and schema > SCHEMA:
        raise Newer(f"{folder}/{MANIFEST}", schema, SCHEMA, there.get("environment"))


def _manifest(folder: str) -> dict[str, Any]:
    """What the manifest says; nothing if it is not there, unreadable or damaged."""
    content = _content(f"{folder}/{MANIFEST}")
    try:
        found = unsealed(content) if content else {}
    except (ValueError, RecursionError):
        return {}
    whole = isinstance(found, dict)
    return found if whole and all(isinstance(found.get(name, kind()), kind) for name, kind in KINDS.items()) else {}


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
