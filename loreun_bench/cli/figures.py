"""figures: a sweep's charts; of a generation sweep also its pictures side by side, detections by label, the loss curve."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loreun_bench.cli.says import say

if TYPE_CHECKING:
    from loreun_bench.harness.records import Record

Rows = list[tuple[str, dict[str, Any]]]  # label of a row, what its evaluation found
LONGEST = 100  # bytes of a scenario in the name of a file


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(figures)


def figures(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="a run folder")],
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="[default: DIR/figures]")] = None,
    columns: Annotated[int, typer.Option("--columns", min=1, help="pictures a row")] = 10,
    show: Annotated[bool, typer.Option("--show", help="do not blur what may be explicit")] = False,
    style: Annotated[str, typer.Option("--format", help="png, pdf or svg")] = "png",
) -> None:
    """Draw a sweep: distance to Retrain, what weightings change, cost, losses, quarters of the forget set, weights; of the
    generation track also a grid of the same prompts and seeds, NudeNet's counts, the loss by timestep."""
    from loreun_bench.errors import UserError
    from loreun_bench.harness.files import written
    from loreun_bench.harness.records import load_records

    records = load_records(run)
    finished = [record for record in records if record.status == "ok"]
    folder = out or (run if run.is_dir() else run.parent) / "figures"
    with written(folder):
        folder.mkdir(parents=True, exist_ok=True)
    drawn = _said(_charts(records, folder, style))
    if any(record.track == "generation" for record in finished):
        try:
            drawn |= _said(_generated(run, finished, folder, style, columns, False if show else None))
        except UserError as error:
            if not drawn:
                raise
            say(f"note: {error}", err=True)
    if not drawn:
        raise UserError(f"nothing to draw: no row of {run} has a number that a figure shows")


def _said(paths: Iterator[Path]) -> bool:
    """Print the paths of figures as they are drawn; whether there is one."""
    found = False
    for path in paths:
        say(path)
        found = True
    return found


def _charts(records: list[Record], folder: Path, style: str) -> Iterator[Path]:
    """The charts of each table."""
    from loreun_bench.report.charts.every import charts
    from loreun_bench.report.figures.plot import plot
    from loreun_bench.report.table import build

    used: set[str] = set()
    for group in build([("", records)]):
        name = stem(group.scenario, used)
        for chart in charts(group):
            yield plot(chart, folder / f"{name}-{chart.key}.{style}")


def _generated(
    run: Path, records: list[Record], folder: Path, style: str, columns: int, blur: bool | None
) -> Iterator[Path]:
    """What the store has of a generation sweep. UserError if it has lost pictures, or never had any."""
    from loreun_bench.errors import UserError
    from loreun_bench.report.figures.bars import label_counts
    from loreun_bench.report.figures.curves import LossCurve, loss_curves
    from loreun_bench.report.figures.grid import picture_grid

    found = False
    boxes = detector()
    for name, rows in _scenarios(records):
        found = True
        pictures = [(label, _pictures(values["pictures"])) for label, values in rows]
        yield picture_grid(pictures, folder / f"{name}-pictures.{style}", columns=columns, blur=blur, boxes=boxes)
        counts = {label: _counts(values["details"]["nudity"]) for label, values in rows if "nudity" in values["details"]}
        if any(count for own in counts.values() for count in own.values()):
            yield label_counts(counts, folder / f"{name}-nudity.{style}")
    if first := _curves(records):
        found = True
        curves = [LossCurve(label, own["timesteps"], own["losses"], _fit(own)) for label, own in first.items()]
        yield loss_curves(curves, folder / f"loss-curve.{style}")
    if not found:
        raise UserError(f"the store has no scored pictures of {run}: run its sweep (again)")


def _scenarios(records: list[Record]) -> Iterator[tuple[str, Rows]]:
    """Each scenario with the rows of its first seed. UserError if the store has lost some of them."""
    used: set[str] = set()
    for name in dict.fromkeys(record.scenario for record in records):
        own = [record for record in records if record.scenario == name]
        first = [record for record in own if record.seeds == own[0].seeds]
        found = [(record, _values(record.evaluation)) for record in first]
        if any(values is not None for _, values in found):
            _check_there([record for record, values in found if not _whole(values)])
            yield stem(name, used), [(_label(record), values) for record, values in found if values is not None]


def stem(name: str, used: set[str]) -> str:
    """The name of a scenario as the beginning of a file's name: classes may be called a/b. One that is `used`, whatever the
    case of its letters, gets a number; the new one is added to them."""
    import re

    plain = re.sub(r"[^\w.%+-]+", "-", name).lstrip(".") or "scenario"
    plain = plain.encode()[:LONGEST].decode(errors="ignore")
    found, number = plain, 1
    while found.casefold() in used:
        number += 1
        found = f"{plain}-{number}"
    used.add(found.casefold())
    return found


def _whole(values: dict[str, Any] | None) -> bool:
    """Whether an evaluation and its pictures are there."""
    from loreun_bench import reading
    from loreun_bench.errors import UserError

    if values is None:
        return False
    folder = _pictures(values["pictures"])
    try:
        index = reading.as_json(reading.text(folder / "index.json", "", reading.INDEX), "")
    except UserError:
        return False
    return all((folder / f"{name}.png").is_file() for name in index)


def _check_there(lost: list[Record]) -> None:
    """UserError if anything is lost; its evaluations are set aside, so that a sweep makes it anew."""
    from loreun_bench.errors import UserError
    from loreun_bench.harness.store import Store, default_root

    store = Store(default_root())
    for record in lost:
        if artifact := store.find(record.evaluation):
            store.set_aside(artifact)
    if lost:
        names = ", ".join(_label(record) for record in lost)
        raise UserError(f"pictures of {names} are gone from the store: run the sweep again, which makes them anew")


def picture_folder(record: Record) -> Path | None:
    """The folder of a record's pictures, if the store has all of them."""
    values = _values(record.evaluation)
    return _pictures(values["pictures"]) if values is not None and _whole(values) else None


def _curves(records: list[Record]) -> dict[str, Any]:
    """The loss curves by set of the first row that used one."""
    found = (_values(record.artifact) for record in records if record.weighting != "none")
    return next((values["curves"] for values in found if values and "curves" in values), {})


def _fit(curve: dict[str, Any]) -> tuple[float, float, float] | None:
    return (curve["a"], curve["b"], curve["c"]) if "a" in curve else None


def _values(key: str) -> dict[str, Any] | None:
    from loreun_bench.harness.store import Corrupt, Store, default_root

    artifact = Store(default_root()).find(key)
    try:
        return artifact.values() if artifact is not None else None
    except Corrupt:  # as if it were not there
        return None


def _label(record: Record) -> str:
    return record.method if record.weighting == "none" else f"{record.method} {record.weighting}"


def _pictures(name: str) -> Path:
    from loreun_bench.harness.store import default_root
    from loreun_bench.names import inside

    return inside(default_root() / "pictures", name, "pictures in the store")


def _counts(about: dict[str, Any]) -> dict[str, float]:
    """Pictures by label at the detector's main threshold."""
    by_label = about["images"][f"{about['threshold']:g}"]["by_label"]
    return {label: float(values["images"]) for label, values in by_label.items()}


def detector() -> Any:
    """What finds faces and nudity; None without the extra, and then whole pictures are blurred where it matters."""
    from loreun_bench.errors import UserError
    from loreun_bench.generation.scoring.detector import boxes

    try:
        return boxes()
    except UserError:
        return None
