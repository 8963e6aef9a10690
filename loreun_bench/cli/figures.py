"""figures: the pictures of a generation sweep side by side, detections by label, the loss curve."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from loreun_bench.harness.plan import Cell
    from loreun_bench.harness.store import Artifact

Rows = list[tuple[str, dict[str, Any]]]  # label of a row, what its evaluation found


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(figures)


def figures(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="the run folder of a generation sweep")],
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="[default: DIR/figures]")] = None,
    columns: Annotated[int, typer.Option("--columns", min=1, help="pictures a row")] = 10,
    show: Annotated[bool, typer.Option("--show", help="do not blur what may be explicit")] = False,
    style: Annotated[str, typer.Option("--format", help="png, pdf or svg")] = "png",
) -> None:
    """Draw a sweep's pictures: a grid of the same prompts and seeds, NudeNet's counts, the loss by timestep."""
    from loreun_bench.errors import UserError
    from loreun_bench.report.figures.bars import label_counts
    from loreun_bench.report.figures.curves import LossCurve, loss_curves
    from loreun_bench.report.figures.grid import picture_grid

    cells, found = _evaluated(run)
    folder = out or run / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    done: list[Path] = []
    boxes = _boxes()
    for name, rows in _scenarios(cells, found):
        pictures = [(label, _pictures(values["pictures"])) for label, values in rows]
        blur = False if show else None
        done.append(picture_grid(pictures, folder / f"{name}-pictures.{style}", columns=columns, blur=blur, boxes=boxes))
        counts = {label: _counts(values["details"]["nudity"]) for label, values in rows if "nudity" in values["details"]}
        if any(count for own in counts.values() for count in own.values()):
            done.append(label_counts(counts, folder / f"{name}-nudity.{style}"))
    curves = [a.values() for a in found.values() if a.manifest["run"].endswith(":loss_curve")]
    if curves:
        first = curves[0]
        curve = LossCurve("ℓ°", first["timesteps"], first["losses"], (first["a"], first["b"], first["c"]))
        done.append(loss_curves([curve], folder / f"loss-curve.{style}"))
    if not done:
        raise UserError(f"{run} has no scored pictures yet: run its sweep first")
    for path in done:
        print(path)


def _evaluated(run: Path) -> tuple[tuple[Cell, ...], dict[str, Artifact]]:
    """The plan's cells of a run folder, and what the store has of its stages."""
    from loreun_bench.config import load
    from loreun_bench.errors import UserError
    from loreun_bench.harness import plan
    from loreun_bench.harness.store import Store, default_root

    if not (run / "config.yaml").is_file():
        raise UserError(f"{run} is not the folder of a sweep: it has no config.yaml")
    config = load(run / "config.yaml")
    if config.track != "generation":
        raise UserError(f"{run} is a sweep of the track {config.track}, which makes no pictures")
    planned = plan.build(config)
    return planned.cells, plan.artifacts(planned, Store(default_root()))


def _scenarios(cells: tuple[Cell, ...], found: dict[str, Artifact]) -> Iterator[tuple[str, Rows]]:
    """Each scenario with the rows of its first seed that were scored."""
    names = dict.fromkeys(cell.record.scenario for cell in cells)
    for name in names:
        own = [cell for cell in cells if cell.record.scenario == name]
        first = [cell for cell in own if cell.record.seeds == own[0].record.seeds and cell.evaluation.recipe in found]
        rows = [(_label(cell), found[cell.evaluation.recipe].values()) for cell in first]
        if rows:
            yield name.replace(" ", "-"), rows


def _label(cell: Cell) -> str:
    record = cell.record
    return record.method if record.weighting == "none" else f"{record.method} {record.weighting}"


def _pictures(name: str) -> Path:
    from loreun_bench.harness.store import default_root

    return default_root() / "pictures" / name


def _counts(about: dict[str, Any]) -> dict[str, float]:
    """Pictures by label at the detector's main threshold."""
    by_label = about["images"][f"{about['threshold']:g}"]["by_label"]
    return {label: float(values["images"]) for label, values in by_label.items()}


def _boxes() -> Any:
    """What finds faces and nudity; None without the extra, and then whole pictures are blurred where it matters."""
    from loreun_bench.errors import UserError
    from loreun_bench.generation.detector import boxes

    try:
        return boxes()
    except UserError:
        return None
