"""Whether the store has a stage's result for the user's files as they are now."""

from __future__ import annotations

from dataclasses import dataclass

from loreun_bench.harness import files_used
from loreun_bench.harness.stage import Stage
from loreun_bench.harness.store import Artifact, Store


@dataclass(frozen=True)
class Found:
    """The artifact, if there is one that holds now; else in words which of the user's files are others than they were."""

    artifact: Artifact | None
    changed: tuple[str, ...] = ()


def look_up(store: Store, stage: Stage, base: str, verify: bool = True) -> Found:
    """The artifact of the stage whose own key is `base`: of its runs, that which used the files as they are now."""
    find = store.verified if verify else store.find
    if not stage.plugins:
        return Found(find(base))
    known = store.used(base)
    for names in known:
        hashes = files_used.now(names, stage.plugins)
        artifact = find(files_used.key_with(base, hashes))
        if artifact is not None:
            return Found(artifact)
    newest = known[0] if known else {}
    return Found(None, files_used.changed(newest, files_used.now(newest, stage.plugins)))


def outdated(stage: Stage, artifact: Artifact) -> tuple[str, ...]:
    """In words, which of the user's files have changed since the artifact was made."""
    used = artifact.manifest.get("used", {})
    return files_used.changed(used, files_used.now(used, stage.plugins))
