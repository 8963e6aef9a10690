"""ls and show: what there is, and one item in full."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Annotated, Any

import typer

from loreun_bench.cli.says import say

Plugins = Annotated[list[Path] | None, typer.Option("--plugin", metavar="FILE.py", help="load your own items from a file")]
Track = Annotated[str, typer.Option("--track", help="classification or generation")]
Tracks = Annotated[str | None, typer.Option("--track", help="classification or generation [default: both]")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("ls")(list_items)
    app.command()(show)


def list_items(
    kind: Annotated[
        str, typer.Argument(help="methods, weightings, scenarios, metrics, datasets, models, presets or protocols")
    ],
    plugin: Plugins = None,
    track: Tracks = None,
) -> None:
    """List what there is of a kind, in both tracks: methods, weightings, scenarios, metrics, data sets, models, presets."""
    tracks = _tracks(kind, track)
    rows = [(name, each, summary) for each in tracks for name, summary, _ in items(kind, plugin, each)]
    wide = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, each, summary in rows:
        head = f"{name:{wide[0]}}  " + (f"{each:{wide[1]}}  " if len(tracks) > 1 else "")
        say(_fitted(head + summary, len(head)))


def show(
    kind: Annotated[str, typer.Argument(help="as for ls")],
    name: Annotated[str, typer.Argument()],
    plugin: Plugins = None,
    track: Tracks = None,
) -> None:
    """Show one item: what it does, its paper, its settings with their defaults; of both tracks if both have one."""
    from loreun_bench.errors import UserError, did_you_mean

    every = [(each, found, full) for each in _tracks(kind, track) for found, _, full in items(kind, plugin, each)]
    chosen = [(each, full) for each, found, full in every if found == name]
    if not chosen:
        raise UserError(f"unknown {kind.rstrip('s')} '{name}'; {did_you_mean(name, [found for _, found, _ in every])}")
    for number, (each, full) in enumerate(chosen):
        heading = f"{chr(10) * (number > 0)}{each} track" if len(chosen) > 1 else ""
        say("\n".join([*([heading] if heading else []), full()]))


def _tracks(kind: str, track: str | None) -> list[str]:
    """The tracks that are meant and have items of the kind; one stands for all of what belongs to none."""
    from loreun_bench.registry import KINDS, TRACKS, kinds, registry

    if track is not None:
        if kind in KINDS:
            registry(kind, track)  # an unknown track is an error
        return [track]
    if kind in ("weightings", "presets") or (kind not in KINDS and kind != "protocols"):
        return [next(iter(TRACKS))]
    return [each for each in TRACKS if kind == "protocols" or kind in kinds(each)]


def items(kind: str, plugin: list[Path] | None, track: str) -> list[tuple[str, str, Any]]:
    """(name, summary, function that gives the full description) of every item of a kind."""
    from loreun_bench.errors import UserError, did_you_mean
    from loreun_bench.registry import KINDS, TRACKS, load_plugin, registry

    for path in plugin or ():
        load_plugin(path)
    if kind in KINDS:
        return [(e.name, e.summary, lambda e=e: _describe(e)) for e in registry(kind, track).entries()]
    if kind == "presets":
        from loreun_bench.config import presets

        return [(n, p.read_text().split("\n")[0].lstrip("# "), p.read_text) for n, p in presets().items()]
    if kind == "protocols":
        if track not in TRACKS:
            raise UserError(f"unknown track '{track}'; {did_you_mean(track, TRACKS)}")
        return _protocols(track)
    raise UserError(f"unknown kind '{kind}'; {did_you_mean(kind, [*KINDS, 'presets', 'protocols'])}")


def _protocols(track: str) -> list[tuple[str, str, Any]]:
    import importlib

    from loreun_bench.harness.protocol import described

    module = importlib.import_module(f"loreun_bench.{track}.unlearning.protocols")
    text = described(module.Protocol, module.NOT_REPEATED)
    return [
        ("corrected", "good practice throughout; the default", lambda: text),
        ("paper", "the reference code's behaviour, its known bugs included", lambda: text),
    ]


def _describe(entry: Any) -> str:
    """An item's docstring, paper, what it uses, and its settings."""
    lines = [entry.name, "", inspect.getdoc(entry.item) or ""]
    for key in ("paper", "uses", "needs", "columns", "unit", "best", "shape", "classes"):
        value = entry.info.get(key)
        if value:
            lines.append(f"{key}: {_words(value)}")
    settings = _settings(entry.item)
    for track, own in (entry.info.get("defaults") or {}).items():
        settings += [f"  in the {track} track: {_words(own)}"]
    return "\n".join([*lines, "", "settings:" if settings else "no settings", *settings])


def _words(value: Any) -> Any:
    if isinstance(value, frozenset):
        return ", ".join(sorted(value))
    return ", ".join(f"{key} = {of}" for key, of in value.items()) if isinstance(value, dict) else value


def _settings(item: Any) -> list[str]:
    if dataclasses.is_dataclass(item):
        fields = [f for f in dataclasses.fields(item) if f.init]
        return [f"  {f.name}: {f.type}" + _default(f.default) for f in fields]
    parameters = list(inspect.signature(item).parameters.values())
    return [f"  {p.name}: {p.annotation} = {p.default!r}" for p in parameters if p.default is not p.empty]


def _fitted(line: str, indent: int) -> str:
    """A line in the terminal's width, its other lines indented; as it is where something else reads it."""
    import shutil
    import sys
    import textwrap

    if not sys.stdout.isatty():
        return line
    width = max(shutil.get_terminal_size((80, 24)).columns, indent + 30)
    return textwrap.fill(line, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def _default(value: Any) -> str:
    return ", which must be given" if value is dataclasses.MISSING else f" = {value!r}"
