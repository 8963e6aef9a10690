"""data prepare and data ls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loreun_bench.cli.says import say

if TYPE_CHECKING:
    from loreun_bench.classification.data.prepared import DataInfo

NAMES_SHOWN = 10
PIPELINE = "-pipeline"  # how the name of an embedded pipeline, to be trained anew, ends


def register(app: typer.Typer) -> None:
    """Add the family."""
    family = typer.Typer(help="Prepare data sets, list them.", no_args_is_help=True, rich_markup_mode=None)
    family.command()(prepare)
    family.command("ls")(list_data)
    app.add_typer(family, name="data")


def prepare(
    name: Annotated[str, typer.Argument(help="a data set's name; `ls datasets` lists them")],
    source: Annotated[
        Path | None, typer.Option("--from", metavar="PATH", help="a local copy: .npz, idx folder, torchvision's folder")
    ] = None,
) -> None:
    """Bring a data set into the data folder ($LOREUN_DATA), by download or from a local copy; NAME-pipeline: train an
    embedded pipeline anew."""
    if name.endswith(PIPELINE):
        return _train_pipeline(name)
    if name == "imagenette":
        return _imagenette(source)
    from loreun_bench.classification.data.prepared import prepare as bring

    info = bring(name, source)
    say(f"{name}: {sum(info.train)} training and {sum(info.test)} test images, {_classes(info)} → {info.path}")
    if info.note:
        say(f"note: {info.note}")
    return None


def _imagenette(source: Path | None) -> None:
    """Photographs stay files in folders; a local copy is used where it lies."""
    from loreun_bench.errors import UserError
    from loreun_bench.generation.datasets.imagenette import TEST, TRAINING, fetch, imagenette
    from loreun_bench.harness.store import data_root

    where = data_root() / "imagenette2-320"
    if source is None:
        where = fetch(data_root())
    elif where.exists() and where.resolve() != source.resolve():
        raise UserError(f"{where} is there already: take it away first")
    elif not where.exists():
        for split, word, count in (("train", "training", TRAINING), ("test", "test", TEST)):
            found = len(imagenette(source, split))
            if found != count:
                why = f"{found} {word} photographs, not {count}"
                raise UserError(f"{source}: these are not imagenette ({why}): give it as dataset: {source}")
        where.parent.mkdir(parents=True, exist_ok=True)
        where.symlink_to(source.resolve(), target_is_directory=True)
    train, test = (len(imagenette(where, split)) for split in ("train", "test"))
    say(f"imagenette: {train} training and {test} test photographs, 10 classes → {where}")


def _train_pipeline(name: str) -> None:
    """A pipeline of those that the package ships, made anew."""
    import time

    from loreun_bench.cli.progress import Shares
    from loreun_bench.errors import UserError, did_you_mean
    from loreun_bench.generation.pipeline.embedded import RECIPES, build
    from loreun_bench.harness.store import data_root

    recipe = RECIPES.get(name.removesuffix(PIPELINE))
    if recipe is None:
        raise UserError(f"unknown pipeline '{name}'; {did_you_mean(name, [each + PIPELINE for each in RECIPES])}")
    folder, start = data_root() / name, time.monotonic()
    build(folder, recipe, Shares())
    say(f"{name}: trained in {time.monotonic() - start:.0f} s → {folder}; use it with --set pipeline={folder}")


def list_data() -> None:
    """List what the data folder holds."""
    from loreun_bench.classification.data.prepared import verify
    from loreun_bench.errors import UserError
    from loreun_bench.harness.store import data_root

    found = sorted(data_root().glob("*.json"))
    say(f"{data_root()}: {len(found)} data sets")
    for path in found:
        try:
            info = verify(path.stem)
        except UserError as error:
            say(f"{path.stem}: {error}")
            continue
        height, width, channels = info.shape
        say(
            f"{path.stem}: {sum(info.train)} training and {sum(info.test)} test images, {height}×{width}×{channels}, "
            f"{_classes(info)}, {info.path.stat().st_size / 1e6:.1f} MB, sha256 {info.sha256[:12]}"
        )


def _classes(info: DataInfo) -> str:
    """How many classes, and what the first of them are called."""
    shown = ", ".join(info.names[:NAMES_SHOWN]) + (", …" if info.classes > NAMES_SHOWN else "")
    fine = f" with {len(info.subclasses)} subclasses" if info.subclasses else ""
    return f"{info.classes} classes{fine} ({shown})"
