"""split export: who was forgotten, kept and held out in a sweep, for models that are trained elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loreun_bench.cli.says import say

if TYPE_CHECKING:
    from loreun_bench.classification.data.splits import ForgetSplit
    from loreun_bench.harness.stage import Stage

FORMATS = (".csv", ".npz")


def register(app: typer.Typer) -> None:
    """Add the family."""
    family = typer.Typer(help="Who is in which set of a sweep.", no_args_is_help=True, rich_markup_mode=None)
    family.callback()(_family)
    family.command()(export)
    app.add_typer(family, name="split")


def _family() -> None:
    """Who is in which set of a sweep."""


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="the run folder of a classification sweep")],
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help=".csv, or .npz of indices")] = Path("split.csv"),
    scenario: Annotated[
        str | None, typer.Option("--scenario", help="as in the table's title [default: the only one]")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="of the split [default: the first]")] = None,
    plugin: Annotated[list[Path] | None, typer.Option("--plugin", metavar="FILE.py", help="your own items")] = None,
) -> None:
    """Write which picture is in which set: forget, retain, validation, test, test_forget (of a class that is forgotten).

    The CSV has a row a picture: part (train or test), index (from 0 in the data set's order), file where there is one,
    label, class and set. As the `file` of a scenario `indices` it means its forget set.
    """
    from loreun_bench.classification.brought import cell_of, drawn, plan_of
    from loreun_bench.errors import UserError
    from loreun_bench.harness.files import write_atomic, written
    from loreun_bench.registry import load_plugin

    for path in plugin or ():
        load_plugin(path)
    if to.suffix not in FORMATS:
        raise UserError(f"--to {to}: it must end in .csv or .npz")
    _, plan = plan_of(run)
    cell = cell_of(plan, scenario, seed)
    stage, label = cell.evaluation.inputs["split"], cell.record.scenario
    split = drawn(stage, plan)
    with written(to):
        write_atomic(to, _npz(split) if to.suffix == ".npz" else _csv(split, stage))
    sizes = ", ".join(f"{len(tensor)} {name}" for name, tensor in split.tensors().items() if name in SETS)
    say(f"{label}, seed {stage.config['seed']}: {sizes} → {to}")


SETS = ("forget", "retain", "validation", "earlier", "test", "test_forget")


def _npz(split: ForgetSplit) -> bytes:
    """The sets as indices, and the labels that are trained on."""
    import io

    import numpy as np

    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in split.tensors().items()}
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _csv(split: ForgetSplit, stage: Stage) -> str:
    """A row for every picture of the data set that is in a set."""
    import csv
    import io

    from loreun_bench.classification.data.prepared import DataInfo
    from loreun_bench.classification.data.splits import population
    from loreun_bench.errors import plain
    from loreun_bench.names import as_cell

    people = population(DataInfo(**stage.config["data"]))
    parts = {"train": (split.labels.numpy(), people.table), "test": (people.test_labels, people.test_table)}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["part", "index", "file", "label", "class", "set"])
    for part, (labels, table) in parts.items():
        names = {name for name in SETS if name.startswith("test") == (part == "test")}
        where = {int(i): name for name in names for i in getattr(split, name)}
        files = table.get("file")
        for index, name in sorted(where.items()):
            label = int(labels[index])
            file = "" if files is None else as_cell(files[index])
            writer.writerow([part, index, file, label, as_cell(plain(people.classes[label])), name])
    return out.getvalue()
