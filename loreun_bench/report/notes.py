"""What stands under a table: the definitions of its columns, and how a cell is read."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence

from loreun_bench.harness.records import Record
from loreun_bench.report.layout import layout
from loreun_bench.report.table import Column, Group

RATIO = "× is the ratio to the same method unweighted."


def definitions(track: str, shown: Sequence[Column], ua: str, groups: Sequence[Group], timed: bool = True) -> str:
    """How to read a cell and what is best, then one line a metric. groups: of this track; timed: RTE is shown."""
    records = [record for group in groups for row in group.rows for record in row.finished]
    lines = _retrained(shown, ua) if layout(track).retrain else _generated(shown, ua, records)
    if any(record.conditions.get("original") for record in records):
        lines.append(
            "- Original is a checkpoint, one for all seeds: intervals do not hold its training. Retrain has this sweep's "
            "recipe, so that gaps to it hold the difference of recipes, too. Which images the checkpoint was trained on "
            "its maker must know."
        )
    if not timed:
        return "\n".join(line for line in lines if not line.startswith("- RTE:"))
    waited = [r for r in records if r.environment.get("device") == "cpu" and r.cost.get("rte_s")]
    if any(record.cost.get("cpu_s", 0) < 0.9 * record.cost.get("rte_s", 0) for record in waited):
        lines.append(
            "- Some runs on a CPU got less than 90 % of it (cpu_s < 0.9 rte_s): the machine was busy, RTE is unsure."
        )
    return "\n".join(lines)


def _retrained(shown: Sequence[Column], ua: str) -> list[str]:
    conventions = {
        "loreun": "- UA is the accuracy on the forget set, as LoReUn prints it; SalUn prints 100 minus it (--ua salun).",
        "salun": "- UA (100-FA) is 100 minus the accuracy on the forget set, as SalUn prints it.",
    }
    return [
        "A cell is the mean over seeds ±95 % t-interval (mean difference to the Retrain of the same seeds).",
        "Best (* or bold) is what comes closest to Retrain (mean absolute difference), among rows of which every seed "
        "finished; nothing is better for "
        "being large. † over-unlearned: UA or TA more than 5 points below Retrain. n: seeds finished / run.",
        *_metrics(shown),
        conventions[ua],
        f"- RTE: seconds of the whole run with mask and reference pass, device-synchronised, evaluation left out; {RATIO}",
        "- Retrain-2 is a second retraining with another seed: its ToW is what noise alone costs, the best that a method "
        "can be expected to reach.",
    ]


def _generated(shown: Sequence[Column], ua: str, records: Sequence[Record]) -> list[str]:
    keys = {column.key for column in shown}
    conventions = {
        "loreun": "- UA counts what is still recognised, as LoReUn prints it; SalUn prints 100 minus it (--ua salun).",
        "salun": "- UA (100-FA) is 100 minus the share that is still recognised, as SalUn prints it.",
    }
    lines = [
        "A cell is the mean over seeds ±95 % t-interval. No Retrain exists here, so there are no gaps to one: Original, "
        "the model before unlearning, is what to compare with.",
        "Best (* or bold) is the least UA, distance or count and the highest accuracy on what is kept, among rows other "
        "than Original of which every seed finished; rows that tie share the mark. n: seeds finished / run.",
        "All rows of a table share prompts, seeds and initial latents: only the model differs.",
        *_metrics(shown),
    ]
    if any(record.counts for record in records):
        lines[0] += " [low, high] stands for it where there is one seed or all agree: the exact 95 % interval of the share."
    if "forget_ua" in keys:
        lines.append(conventions[ua] + _named("The classifier", "classifier", records))
    if "fd" in keys:
        network = _names("extractor", records) or "the network that the evaluation's files name"
        lines.append(
            f"- FD is taken on the features of {network}. It is not FID, which is the same distance on FID-Inception's "
            "features: the scales differ, and a number of one says nothing beside a number of the other."
        )
    return [
        *lines,
        "- RTE: seconds of the whole run, reference-loss curve and mask included, device-synchronised; sampling and scoring "
        f"are left out; {RATIO}",
    ]


def _metrics(shown: Sequence[Column]) -> Iterable[str]:
    """Each metric's own words, once."""
    said: dict[str, None] = {}
    for column in shown:
        if column.entry is None:
            said.setdefault(f"- {column.key}: of a metric that is not installed here (--plugin), so neither way is best.")
        else:
            said.setdefault(f"- {' '.join((inspect.getdoc(column.entry.item) or '').split())}")
    return said


def _names(key: str, records: Sequence[Record]) -> str:
    """The names that the records' environments give under `key`."""
    return " and ".join(sorted({str(r.environment[key]) for r in records if r.environment.get(key)}))


def _named(what: str, key: str, records: Sequence[Record]) -> str:
    names = _names(key, records)
    return f" {what}: {names}." if names else ""
