"""score: metrics for pictures that the user brings, without unlearning anything."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loreun_bench.cli.says import say

if TYPE_CHECKING:
    from loreun_bench.generation.scene import Scene

QUIET = 2.0  # seconds before a piece of work is worth a line
BAD_SHOWN = 20
NUMBER = {"images": "pictures", "reference": "reference_pictures"}


def register(app: typer.Typer) -> None:
    """Add the family."""
    family = typer.Typer(help="Score what you bring, without unlearning.", no_args_is_help=True, rich_markup_mode=None)
    family.callback()(_family)
    family.command()(images)
    family.command()(model)
    app.add_typer(family, name="score")


def _family() -> None:
    """Score what you bring, without unlearning."""


def images(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="pictures; labels from index.json or from subfolders")],
    scorer: Annotated[list[str], typer.Option("--scorer", help="ua, fid, fd, kid or nudity; several are possible")],
    reference: Annotated[
        Path | None, typer.Option("--reference", metavar="DIR", help="real pictures to compare with")
    ] = None,
    classifier: Annotated[
        str | None,
        typer.Option("--classifier", metavar="NAME|FILE", help="resnet50, or a file of its weights or of a small one"),
    ] = None,
    forget: Annotated[list[str] | None, typer.Option("--class", metavar="NAME", help="a forgotten class")] = None,
    weights: Annotated[
        list[str] | None, typer.Option("--weights", metavar="[NAME=]FILE", help="for fid (FID-Inception) or resnet50")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", min=0, max=1, help="nudity: the score that counts")
    ] = None,
    resamples: Annotated[int | None, typer.Option("--resamples", min=0, help="bootstrap resamples; 0: no interval")] = None,
    seed: Annotated[int, typer.Option("--seed", help="of the bootstrap")] = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda")] = "auto",
    style: Annotated[str, typer.Option("--format", help="text or json")] = "text",
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.json", help="write everything as JSON, too")] = None,
    plugin: Annotated[list[Path] | None, typer.Option("--plugin", metavar="FILE.py", help="your own metrics")] = None,
) -> None:
    """Score a folder of pictures: UA, FID, another Fréchet distance, KID, NudeNet counts."""
    import json

    from loreun_bench.errors import UserError
    from loreun_bench.harness.files import write_atomic, written
    from loreun_bench.registry import load_plugin

    for path in plugin or ():
        load_plugin(path)
    if style not in ("text", "json"):
        raise UserError(f"--format {style}: known are text and json")
    entries, files = _entries(scorer), _weights(weights or [], classifier, scorer)
    given = {"threshold": threshold, "resamples": resamples, "fid_weights": files.get("fid")}
    settings = {"seed": seed, "device": _device(device), **{k: v for k, v in given.items() if v is not None}}
    scene = _scene(folder, reference, classifier, forget, files.get("resnet50"), settings)
    values, failed = _run(scene, entries)
    result = _result(scene, folder, reference, values)
    text = json.dumps(result, indent=1, ensure_ascii=False) if style == "json" else _text(result, scorer)
    if text:
        say(text)
    if out is not None:
        with written(out):
            write_atomic(out, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    if failed:
        raise UserError("; ".join(failed))


def model(
    weights: Annotated[list[Path], typer.Argument(metavar="WEIGHTS...", help="a file a seed, of the run's network")],
    against: Annotated[Path, typer.Option("--against", metavar="RUN", help="the run folder of a classification sweep")],
    scenario: Annotated[
        str | None, typer.Option("--scenario", help="as in the table's title [default: the only one]")
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option("--seed", help="of the split, one a file [default: the run's, in order]")
    ] = None,
    style: Annotated[str, typer.Option("--format", help="text, md, latex, csv or json")] = "text",
    plugin: Annotated[list[Path] | None, typer.Option("--plugin", metavar="FILE.py", help="your own items")] = None,
) -> None:
    """Put a model that was unlearned elsewhere beside a run's rows: on its data and split, with ToW to its Retrain.

    `split export RUN` says who is in which set. The table is of the seeds that the files are for.
    """
    from loreun_bench.classification import brought
    from loreun_bench.cli.tables import terminal
    from loreun_bench.errors import UserError
    from loreun_bench.harness.records import load_records
    from loreun_bench.registry import load_plugin
    from loreun_bench.report import leaderboard, table

    for path in plugin or ():
        load_plugin(path)
    leaderboard.check(style, "loreun")
    config, plan = brought.plan_of(against)
    seeds = seed or list(dict.fromkeys(each.split for each in config.seeds))[: len(weights)]
    if len(seeds) != len(weights):
        raise UserError(f"{len(weights)} files for {len(seeds)} seeds: give one a seed, and --seed for each")
    label = brought.cell_of(plan, scenario, seeds[0]).record.scenario
    own = [
        brought.measured(brought.network(against, file), against, label, number)
        for file, number in zip(weights, seeds, strict=True)
    ]
    records = [r for r in load_records(against) if r.scenario == label and r.seeds in [each.seeds for each in own]]
    groups = table.build([(against.name, [*records, *own])])
    room = terminal()
    say(leaderboard.render(groups, style, width=room, notes=room is None), end="")


def _entries(names: list[str]) -> list[Any]:
    """The metrics of the names. UserError with a suggestion for one that is none, before anything is computed."""
    from loreun_bench.errors import UserError, did_you_mean
    from loreun_bench.registry import registry

    known = {entry.name: entry for entry in registry("metrics", "generation").entries() if not entry.info["derived"]}
    for name in names:
        if name not in known:
            raise UserError(f"unknown scorer '{name}'; {did_you_mean(name, known)}")
    return [known[name] for name in dict.fromkeys(names)]


def _device(name: str) -> str:
    import torch

    from loreun_bench.errors import UserError

    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device {name}: known are auto, cpu and cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU here; use cpu")
    return "cuda" if torch.cuda.is_available() and name != "cpu" else "cpu"


def _weights(given: list[str], classifier: str | None, scorers: list[str]) -> dict[str, Path]:
    """Whose weights each file holds. A file without a name is for the one network that can use it."""
    from loreun_bench.errors import UserError, did_you_mean

    wanted = ["fid"] if "fid" in scorers or ("kid" in scorers and classifier is None) else []
    wanted += ["resnet50"] if classifier == "resnet50" else []
    found: dict[str, Path] = {}
    for word in given:
        name, equals, file = word.partition("=")
        if not equals or Path(word).is_file():
            if len(wanted) != 1:
                who = (
                    "fid=FILE or resnet50=FILE" if wanted else "nothing here: --scorer fid and --classifier resnet50 use it"
                )
                raise UserError(f"--weights {word}: it is for {who}")
            name, file = wanted[0], word
        if name not in ("fid", "resnet50"):
            raise UserError(f"--weights {word}: unknown network '{name}'; {did_you_mean(name, ('fid', 'resnet50'))}")
        found[name] = Path(file)
    return found


def _scene(
    folder: Path,
    reference: Path | None,
    classifier: str | None,
    forget: list[str] | None,
    weights: Path | None,
    settings: Any,
) -> Scene:
    """What is to be scored; wrong folders and class names are found before a network is loaded, where that is possible."""
    from loreun_bench.errors import UserError, did_you_mean
    from loreun_bench.generation.data.names import plain
    from loreun_bench.generation.scene import Scene
    from loreun_bench.generation.scoring import classifiers
    from loreun_bench.generation.scoring.images import Images
    from loreun_bench.pictures import folders_in

    for place in (folder, *([reference] if reference else [])):
        Images.open(place)
    network = classifiers.from_name(classifier, weights, settings["device"]) if classifier else None
    classes = network.classes if network else tuple(p.name for p in folders_in(folder))
    known = {plain(name): number for number, name in enumerate(classes)}
    for name in forget or ():
        if plain(name) not in known:
            tail = did_you_mean(name, classes) if classes else "none is known: give --classifier or one subfolder a class"
            raise UserError(f"--class: unknown class '{name}'; {tail}")
    return Scene(
        images=Images.open(folder, classes),
        classes=classes,
        forget=tuple(dict.fromkeys(known[plain(name)] for name in forget or ())),
        classifier=network,
        reference=Images.open(reference, classes) if reference else None,
        settings=settings,
        listen=_Listener(),
    )


def _run(scene: Scene, entries: list[Any]) -> tuple[dict[str, dict[str, float]], list[str]]:
    """(values by scorer, what is wrong with the others): one that cannot run takes nothing from the rest."""
    from loreun_bench.errors import UserError
    from loreun_bench.harness.measuring import measure

    values: dict[str, dict[str, float]] = {}
    failed: list[str] = []
    for entry in entries:
        try:
            values[entry.name] = measure([entry.name], "generation", scene)
        except UserError as error:
            failed.append(str(error))
    return values, failed


def _result(scene: Scene, folder: Path, reference: Path | None, values: dict[str, dict[str, float]]) -> dict[str, Any]:
    """All that was found, as JSON can hold it."""
    from loreun_bench.generation.scoring.images import Images
    from loreun_bench.harness.environment import describe

    sides = {"images": scene.images, "reference": scene.reference}
    return {
        "schema": 1, "folder": str(folder), "pictures": len(scene.images),
        "reference": str(reference) if reference else None, "reference_pictures": len(scene.reference or ()),
        "class": scene.forgotten or None,
        "scores": {name: {"values": found, "details": scene.details.get(name, {})} for name, found in values.items()},
        "bad": {
            side: [{"file": str(path), "reason": reason} for path, reason in source.bad]
            for side, source in sides.items() if isinstance(source, Images)
        },
        "environment": describe(scene.settings["device"]),
    }  # fmt: skip


def _text(result: dict[str, Any], order: list[str]) -> str:
    """A table for each scorer, what it was made with, and the pictures that could not be read."""
    parts = [_scorer(name, result["scores"][name]) for name in dict.fromkeys(order) if name in result["scores"]]
    for side, bad in result["bad"].items():
        if bad:
            of = "" if side == "images" else " of the reference"
            lines = [f"could not be read and left out, {len(bad)} of {result[NUMBER[side]]} pictures{of}:"]
            lines += [f"  {each['file']}: {each['reason']}" for each in bad[:BAD_SHOWN]]
            parts.append("\n".join([*lines, *([f"  and {len(bad) - BAD_SHOWN} more"] if len(bad) > BAD_SHOWN else [])]))
    return "\n\n".join(parts)


def _scorer(name: str, score: dict[str, Any]) -> str:
    """One scorer's table and notes."""
    from tabulate import tabulate

    from loreun_bench.registry import registry

    entries = registry("metrics", "generation").entries()
    columns = {key: (heading, entry.info["unit"]) for entry in entries for key, heading in entry.info["columns"].items()}
    details = score["details"]
    if name == "nudity":
        return _nudity(details)
    rows = []
    for key, value in score["values"].items():
        heading, unit = columns.get(key, (key, ""))
        about = details.get(key, details)
        n = f"{about['n']} vs {about['n_reference']}" if "n_reference" in about else about.get("n", "")
        rows.append([f"{heading} {unit}".rstrip(), f"{value:.4g}", _interval(about.get("interval")), n])
    table = tabulate(
        rows, ["", "value", "95 % interval", "N"], disable_numparse=True, colalign=("left", "right", "left", "right")
    )
    made = [f"{word}: {details[word]}" for word in ("classifier", "class", "extractor", "of") if word in details]
    made += [f"{details['resamples']} bootstrap resamples"] if "resamples" in details else []
    return "\n".join([name, table, *(["; ".join(made)] if made else []), *_notes(details)])


def _nudity(details: dict[str, Any]) -> str:
    """Pictures / detections at every threshold, for all labels and for each that occurs; the real pictures' beside them."""
    from tabulate import tabulate

    sides = {side: details[side] for side in ("images", "reference") if side in details}
    cells = {(side, t): counts for side, found in sides.items() for t, counts in found.items() if t != "n"}
    labels = [label for label in details["labels"] if any(label in c["by_label"] for c in cells.values())]
    head = [f"{'' if side == 'images' else 'real '}≥ {t}" for side, t in cells]
    rows = [["any of them", *(f"{c['images']} / {c['detections']}" for c in cells.values())]]
    for label in labels:
        found = [c["by_label"].get(label, {"images": 0, "detections": 0}) for c in cells.values()]
        rows.append([label, *(f"{each['images']} / {each['detections']}" for each in found)])
    rows.append(
        ["% of pictures", *(f"{c['percent']:.3g} [{c['interval'][0]:.2g}, {c['interval'][1]:.2g}]" for c in cells.values())]
    )
    rows.append(["N", *(str(sides[side]["n"]) for side, _ in cells)])
    align = ("left", *["right"] * len(cells))
    table = tabulate(rows, ["pictures / detections", *head], disable_numparse=True, colalign=align)
    made = f"{details['detector']}, fed {details['input']}; {len(details['labels'])} labels; "
    made += f"the score that counts is {details['threshold']:g}"
    lines = [_not_counted(side, seen, details[side]["n"]) for side, seen in details["not_counted"].items()]
    return "\n".join(["nudity", table, made, *lines, *_notes(details)])


def _not_counted(side: str, seen: dict[str, dict[str, int]], n: int) -> str:
    """What else was seen: where people are shown and nothing is seen at all, a count of 0 says little."""
    words = [f"{label} in {counts['images']}" for label, counts in seen.items()]
    what = "pictures" if side == "images" else "real pictures"
    return f"not counted, but seen in the {n} {what}: {', '.join(words) or 'nothing'}"


def _notes(details: dict[str, Any]) -> list[str]:
    return [f"note: {note}" for note in details.get("notes", ())]


def _interval(ends: list[float] | None) -> str:
    return "" if ends is None else f"[{ends[0]:.4g}, {ends[1]:.4g}]"


class _Listener:
    """Progress of each piece of work with its time left; pieces that are done at once leave no trace."""

    def __init__(self) -> None:
        self._title = ""
        self._start = 0.0
        self._shown = False
        self._shares: Any = None

    def __call__(self, title: str, share: float) -> None:
        if title != self._title:
            from loreun_bench.cli.progress import Shares

            self._title, self._start, self._shown, self._shares = title, time.monotonic(), False, Shares()
        self._shown = self._shown or (share < 1 and time.monotonic() - self._start > QUIET)
        if self._shown:
            self._shares(title, share)
