"""Writes docs/reference: what the code itself says of its configuration, its items and its protocols."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from loreun_bench.classification.config import ClassificationConfig, Normalisation, Recipe
from loreun_bench.classification.config import Scenario as Forgotten
from loreun_bench.cli import browse
from loreun_bench.config import Seeds, SweepConfig
from loreun_bench.generation.config import Curve, GenerationConfig, MetricSettings, Sampling
from loreun_bench.registry import TRACKS, kinds

REFERENCE = Path(__file__).parent / "reference"
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
FIRST = next(iter(TRACKS))  # weightings are of both tracks
SECTIONS: dict[str, tuple[type[BaseModel], type[BaseModel] | None]] = {  # title: the section, and what it leaves out
    "Every sweep": (SweepConfig, None),
    "Seeds: one of `seeds`": (Seeds, None),
    "Classification": (ClassificationConfig, SweepConfig),
    "`train`: how models are trained": (Recipe, None),
    "`normalise`, with numbers": (Normalisation, None),
    "One of `scenarios`, beside the settings of its kind": (Forgotten, None),
    "Generation": (GenerationConfig, SweepConfig),
    "`sampling`": (Sampling, None),
    "`curve`": (Curve, None),
    "`metric_settings`": (MetricSettings, None),
}
SET = """`--set NAME=VALUE` sets one, `--set methods.RL.lr=0.02` one within another, `--set 'methods.+RL:slow={lr: 0.001}'`
adds one to those that are there; a section that is given whole takes the place of the whole. VALUE is read as YAML: quote it
where a shell would read it, too."""
LIMITS = {"minimum": "from {}", "exclusiveMinimum": "above {}", "maximum": "to {}", "exclusiveMaximum": "below {}"}


def write() -> None:
    """Write every page, and remove those of what is no more."""
    pages = {"configuration": configuration(), "protocols": protocols(), "presets": presets()}
    for track in TRACKS:
        pages |= {f"{track}-{kind}": items(track, kind) for kind in kinds(track) if kind != "weightings" or track == FIRST}
    for path in sorted(RESULTS.glob("**/leaderboard.md")):
        name = path.parent.relative_to(RESULTS).as_posix()
        table = re.sub("^#+", "##", path.read_text(), flags=re.MULTILINE)
        pages[f"results/{name}"] = f"---\nhide-toc: true\n---\n# Results of {name}\n\n{table}"  # whose place is the table's
    for path in REFERENCE.glob("**/*.md"):
        if path.relative_to(REFERENCE).with_suffix("").as_posix() not in pages:
            path.unlink()
    for name, text in pages.items():
        path = REFERENCE / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def configuration() -> str:
    """Every setting of a sweep's YAML file."""
    parts = [f"# Configuration\n\n{SET}\n"]
    for title, (section, without) in SECTIONS.items():
        rows = "\n".join(_rows(section, without))
        parts.append(f"## {title}\n\n| setting | may be | default | |\n|---|---|---|---|\n{rows}")
    return "\n\n".join(parts) + "\n"


def _rows(section: type[BaseModel], without: type[BaseModel] | None) -> Iterator[str]:
    schema = section.model_json_schema()
    known = {} if without is None else without.model_fields
    for name, about in schema["properties"].items():
        if name not in known or known[name].default != section.model_fields[name].default:
            default = "must be given" if name in schema.get("required", ()) else f"`{json.dumps(about.get('default', {}))}`"
            yield f"| `{name}` | {_may_be(about)} | {default} | {about.get('description', '')} |"


def _may_be(about: dict[str, Any]) -> str:
    """What a JSON schema allows, in words."""
    if "anyOf" in about:
        return " or ".join(dict.fromkeys(_may_be(each) for each in about["anyOf"]))
    if "enum" in about:
        return ", ".join(f"`{value}`" for value in about["enum"])
    if "const" in about:
        return f"`{about['const']}`"
    words = [about.get("type", about.get("$ref", "").rpartition("/")[2] or "text, a list or a dictionary")]
    return " ".join(words + [how.format(about[key]) for key, how in LIMITS.items() if key in about])


def items(track: str, kind: str) -> str:
    """Every item of a kind, as `show` prints it."""
    parts = [f"# {kind.capitalize()} of the {track} track\n\nWhat `loreun-bench show {kind} NAME` prints.\n"]
    parts += [f"## {name}\n\n```text\n{full().rstrip()}\n```" for name, _, full in browse.items(kind, None, track)]
    return "\n\n".join(parts) + "\n"


def protocols() -> str:
    """What the two protocols do, track by track."""
    texts = {track: browse.items("protocols", None, track)[0][2]() for track in TRACKS}
    parts = [f"## {track.capitalize()}\n\n```text\n{text}\n```" for track, text in texts.items()]
    return "# Protocols\n\n" + "\n\n".join(parts) + "\n"


def presets() -> str:
    """Every preset, whole."""
    found = browse.items("presets", None, FIRST)
    parts = [f"## {name}\n\n```yaml\n{full().rstrip()}\n```" for name, _, full in found]
    return "# Presets\n\n" + "\n\n".join(parts) + "\n"
