"""First lines of a plug-in of each kind: each passes `check` as it is written."""

from __future__ import annotations

import keyword
import re
import sys
from pathlib import Path

from loreun_bench.cli.templates import classification, generation
from loreun_bench.errors import UserError, did_you_mean
from loreun_bench.harness.files import write_atomic
from loreun_bench.registry import registry

WEIGHTING = {  # which belongs to no track
    "weighting": '''"""A loss reweighting."""

from dataclasses import dataclass

from loreun_bench import weighting
from loreun_bench.weightings import Phase


@weighting("{name}", paper="")
@dataclass(frozen=True)
class {cls}Weighting:
    """One line that `ls weightings` shows: forget samples with a large loss weigh more."""

    eta: float = 0.1

    def phases(self):
        return {{"forget": Phase("retain", self.eta)}}

    # Or, in place of phases, any function of the batch (loreun_bench.weightings.Batch says what it has):
    # def weights(self, batch):
    #     return 1 + self.eta * batch.clean_losses
''',
}
TEMPLATES = {"classification": classification.TEMPLATES, "generation": generation.TEMPLATES}


def scaffold(kind: str, name: str, track: str, folder: Path) -> Path:
    """Write NAME.py into `folder` and return it. UserError if the kind is unknown, the name odd, or the file there."""
    if track not in TEMPLATES:
        raise UserError(f"unknown track '{track}'; {did_you_mean(track, TEMPLATES)}")
    templates = WEIGHTING | TEMPLATES[track]
    if kind not in templates:
        raise UserError(f"unknown kind '{kind}'; {did_you_mean(kind, templates)}")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+._-]{0,40}", name):
        raise UserError(f"name '{name}': use a letter, then letters, digits and + . _ -")
    key = re.sub(r"\W+", "_", name).strip("_").lower()
    cls = "".join(part.capitalize() for part in key.split("_"))
    if keyword.iskeyword(key) or key in sys.stdlib_module_names:
        raise UserError(f"name '{name}': a file {key}.py would hide a module of Python; choose another name")
    path = folder / f"{key}.py"
    if path.exists():
        raise UserError(f"{path.name} exists already; choose another name or move it away")
    if any(entry.name == name for entry in registry(f"{kind}s", track).entries()):
        raise UserError(f"{kind} '{name}' is there already; choose another name")
    write_atomic(path, templates[kind].format(name=name, key=key, cls=cls))
    return path
