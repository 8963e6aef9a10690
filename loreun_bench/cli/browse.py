"""ls and show: what there is, and one item in full."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Annotated, Any

import typer

Plugins = Annotated[list[Path] | None, typer.Option("--plugin", metavar="FILE.py", help="load your own items from a file")]
Track = Annotated[str, typer.Option("--track", help="classification or generation")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("ls")(list_items)
    app.command()(show)


def list_items(
    kind: Annotated[str, typer.Argument(help="methods, weightings, metrics, datasets, models, presets or protocols")],
    plugin: Plugins = None,
    track: Track = "classification",
) -> None:
    """List the methods, weightings, metrics, data sets, models, presets or protocols."""
    rows = [(name, summary) for name, summary, _ in _items(kind, plugin, track)]
    width = max(len(name) for name, _ in rows)
    for name, summary in rows:
        print(f"{name:{width}}  {summary}")


def show(
    kind: Annotated[str, typer.Argument(help="as for ls")],
    name: Annotated[str, typer.Argument()],
    plugin: Plugins = None,
    track: Track = "classification",
) -> None:
    """Show one item: what it does, its paper, its settings with their defaults."""
    from loreun_bench.errors import UserError, did_you_mean
    from loreun_bench.registry import TRACKS, kinds

    items = {found: full for found, _, full in _items(kind, plugin, track)}
    if name not in items:
        for other in TRACKS:
            if kind in kinds(other) and name in {found for found, _, _ in _items(kind, None, other)}:
                raise UserError(f"'{name}' is of the {other} track: show {kind} {name} --track {other}")
        raise UserError(f"unknown {kind.rstrip('s')} '{name}'; {did_you_mean(name, items)}")
    print(items[name]())


def _items(kind: str, plugin: list[Path] | None, track: str) -> list[tuple[str, str, Any]]:
    """(name, summary, function that gives the full description) of every item of a kind."""
    from loreun_bench.errors import UserError, did_you_mean
    from loreun_bench.registry import KINDS, load_plugin, registry

    for path in plugin or ():
        load_plugin(path)
    if kind in KINDS:
        return [(e.name, e.summary, lambda e=e: _describe(e)) for e in registry(kind, track).entries()]
    if kind == "presets":
        from loreun_bench.config import presets

        return [(n, p.read_text().split("\n")[0].lstrip("# "), p.read_text) for n, p in presets().items()]
    if kind == "protocols":
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
    for key in ("paper", "uses", "columns", "unit", "best", "shape", "classes"):
        value = entry.info.get(key)
        if value:
            lines.append(f"{key}: {_words(value)}")
    settings = _settings(entry.item)
    return "\n".join([*lines, "", "settings:" if settings else "no settings", *settings])


def _words(value: Any) -> Any:
    if isinstance(value, frozenset):
        return ", ".join(sorted(value))
    return ", ".join(f"{key} = {of}" for key, of in value.items()) if isinstance(value, dict) else value


def _settings(item: Any) -> list[str]:
    if dataclasses.is_dataclass(item):
        fields = [f for f in dataclasses.fields(item) if f.init]
        return [f"  {f.name}: {f.type} = {f.default!r}" for f in fields]
    parameters = list(inspect.signature(item).parameters.values())
    return [f"  {p.name}: {p.annotation} = {p.default!r}" for p in parameters if p.default is not p.empty]
