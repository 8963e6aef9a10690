"""What stands under a table: the definitions of its columns, and how a cell is read."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence

from loreun_bench.harness.records import Record
from loreun_bench.registry import REFERENCES
from loreun_bench.report import noise
from loreun_bench.report.group import Group
from loreun_bench.report.layout import layout
from loreun_bench.report.marks import MARKS, WORDS, legend
from loreun_bench.report.rows import Column
from loreun_bench.report.statistics.estimate import LEAST, Estimate
from loreun_bench.report.text import plain

SEEN = 50.0  # percent of the original model's pictures that a classifier must recognise for UA to mean something
RATIO = "× is the ratio to the same method unweighted."


def reading(groups: Sequence[Group], shown: Sequence[Column]) -> list[str]:
    """How to read a cell of these groups of one track, and what is best: the lines without which a table says little."""
    retrain = layout(groups[0].track).retrain
    cells = [row.cells[column.key] for group in groups for row in group.rows for column in shown]
    if retrain:
        gap = "; in parentheses the mean difference to the Retrain of the same seeds."
        best = "what comes closest to Retrain (mean absolute difference), among rows of which every seed finished; larger "
        best += "is not better."
    else:
        gap = ". No Retrain exists here, so there are no gaps to one: Original, the model before unlearning, is what to "
        gap += "compare with."
        best = "the least UA, distance or count and the highest accuracy on what is kept, among rows other than Original of "
        best += "which every seed finished; rows that tie share the mark."
    found = [f"A cell is the mean over seeds{_intervals([cell.value for cell in cells])}{gap}"]
    found += [f"Best (* or bold) is {best} n: seeds finished / run.", *legend(groups), *_care(groups)]
    if any(cell.uninformative for cell in cells):
        found.append(
            "? uninformative: the metric tells nothing there (see its definition), so it has no gap or star and enters no "
            "derived column."
        )
    if any(cell.lacks for cell in cells):
        found.append("° computed without a metric that is uninformative there or was not measured.")
    return found


def brief(groups: Sequence[Group], shown: Sequence[Column]) -> str:
    """One line: the marks that occur, and where the rest is said."""
    rows = [row for group in groups for row in group.rows]
    cells = [row.cells[column.key] for row in rows for column in shown]
    marks = {name for row in rows for name in row.marks}
    said = ["* closest to Retrain" if layout(groups[0].track).retrain else "* best"]
    said += [f"{symbol} {WORDS[name]}" for name, symbol in MARKS.items() if name in marks]
    said += ["? uninformative"] * any(cell.uninformative for cell in cells)
    said += ["° incomplete"] * any(cell.lacks for cell in cells)
    trials = {record.trials for row in rows for record in row.records if row.method not in REFERENCES}
    said += [f"tuned: {max(trials)} settings each" if len(trials) == 1 else "some rows tuned"] * any(trials)
    return f"{'; '.join(said)}. --notes: definitions"


def _care(groups: Sequence[Group]) -> list[str]:
    """Which methods were tuned, and with how many settings tried, where some were."""
    tried = {row.method: record.trials for group in groups for row in group.rows for record in row.records}
    tuned = {method: trials for method, trials in tried.items() if trials}
    if not tuned:
        return []
    told = ", ".join(f"{method} ({trials})" for method, trials in sorted(tuned.items()))
    others = [method for method in sorted(tried) if method not in tuned and method not in REFERENCES]
    rest = f" By the settings given: {', '.join(others)}." if others else ""
    return [f"Tuned, unweighted, on validation with other seeds (settings tried): {told}.{rest}"]


def _intervals(values: Sequence[Estimate]) -> str:
    """Which intervals there are."""
    over_seeds = any(value.symmetric for value in values)
    bracketed = any(value.interval is not None and not value.symmetric for value in values)
    said = " ±95 % t-interval" if over_seeds else ""
    if bracketed:
        said += (
            ", with [low, high] where seeds give no interval or it leaves the range of values: the exact 95 % interval of "
            "the counts, joined with the part of the t-interval inside the range"
        )
    return said if any(value.n >= LEAST for value in values) else f"{said}; over seeds there is no interval below three"


def definitions(track: str, shown: Sequence[Column], ua: str, groups: Sequence[Group], timed: bool = True) -> str:
    """How to read a cell and what is best, then one line a metric. groups: of this track; timed: RTE is shown."""
    records = [record for group in groups for row in group.rows for record in row.finished]
    more = _retrained(shown, ua, groups) if layout(track).retrain else _generated(shown, ua, records, groups)
    lines = [*reading(groups, shown), *more]
    if any(record.conditions.get("original") for record in records):
        lines.append(
            "- Original is a checkpoint, one for all seeds: intervals do not hold its training. Retrain has this sweep's "
            "recipe, so that gaps to it hold the difference of recipes, too. Only its maker can know which images it was "
            "trained on."
        )
    if not timed:
        return "\n".join(line for line in lines if not line.startswith("- RTE:"))
    waited = [r for r in records if r.environment.get("device") == "cpu" and r.cost.get("rte_s")]
    if any(record.cost.get("cpu_s", 0) < 0.9 * record.cost.get("rte_s", 0) for record in waited):
        lines.append(
            "- Some runs on a CPU got less than 90 % of it (cpu_s < 0.9 rte_s): the machine was busy, RTE is unsure."
        )
    if resumed := sum(bool(record.cost.get("resumed")) for record in records):
        lines.append(
            f"- Killed and resumed: {resumed} of {len(records)} runs (`resumed` in the records), whose RTE is the time "
            "spent before and after, without what the kill lost."
        )
    return "\n".join(lines)


def _retrained(shown: Sequence[Column], ua: str, groups: Sequence[Group]) -> list[str]:
    conventions = {
        "loreun": "- UA is the accuracy on the forget set, as LoReUn prints it; SalUn prints 100 minus it (--ua salun).",
        "salun": "- UA (100-FA) is 100 minus the accuracy on the forget set, as SalUn prints it; verdict, marks and charts "
        "go by UA itself.",
    }
    return [
        *_metrics(shown),
        conventions[ua],
        f"- RTE: seconds of the whole run with mask and reference pass, device-synchronised, evaluation left out; {RATIO}",
        *_overlapping(groups),
        *([noise.NOTE] if any(row.method == "Retrain-2" for group in groups for row in group.rows) else []),
    ]


def _overlapping(groups: Sequence[Group]) -> list[str]:
    """What is made of seeds that share their samples."""
    drawn = {g.scenario: r.overlap for g in groups for row in g.rows for r in row.records if r.overlap}
    if not drawn:
        return []
    each = " and ".join(f"{plain(scenario)} 1/n + {overlap:.2g}" for scenario, overlap in drawn.items())
    return [
        "- Seeds that forget other samples of the same pictures are not independent: for a mean difference, verdict and "
        f"ranks multiply one seed's variance not by 1/n but by more: {each} (Nadeau and Bengio, 2003)."
    ]


def _generated(shown: Sequence[Column], ua: str, records: Sequence[Record], groups: Sequence[Group]) -> list[str]:
    keys = {column.key for column in shown}
    conventions = {
        "loreun": "- UA counts what is still recognised, as LoReUn prints it; SalUn prints 100 minus it (--ua salun).",
        "salun": "- UA (100-FA) is 100 minus the share that is still recognised, as SalUn prints it; verdict, marks and "
        "charts go by UA itself.",
    }
    lines = [
        "All rows of a table share prompts, seeds and initial latents: only the model differs.",
        *_metrics(shown),
    ]
    if "forget_ua" in keys:
        lines.append(conventions[ua] + _named("The classifier", "classifier", records))
        lines += _blind(groups)
    if "fd" in keys:
        network = _names("extractor", records) or "the network that the evaluation's files name"
        lines.append(
            f"- FD is taken on the features of {network}. It is not FID, which is the same distance on FID-Inception's "
            "features: the scales differ, and a number of one says nothing beside a number of the other."
        )
    if "off by" in (curve := _names("loss_curve", records)):
        lines.append(f"- Weights are relative to a loss by timestep that is {curve}; this error reaches them. curve.fit: "
                     "interpolated follows what was measured.")  # fmt: skip
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
            key = plain(column.key)
            said.setdefault(f"- {key}: of a metric that is not installed here (--plugin), so neither way is best.")
        else:
            said.setdefault(f"- {' '.join((inspect.getdoc(column.entry.item) or '').split())}")
    return said


def _blind(groups: Sequence[Group]) -> list[str]:
    """A line for each Original whose forgotten class the classifier mostly fails to see."""
    found = []
    for group in groups:
        for row in group.rows:
            value = row.cells["forget_ua"].value.mean if row.method == "Original" else 100.0
            if value < SEEN:
                found.append(
                    f"- {plain(group.scenario)}: the classifier recognises {value:.1f} % of what Original draws of it, "
                    "so that a low UA shows no forgetting."
                )
    return found


def _names(key: str, records: Sequence[Record]) -> str:
    """The names that the records' environments give under `key`."""
    return plain(" and ".join(sorted({str(r.environment[key]) for r in records if r.environment.get(key)})))


def _named(what: str, key: str, records: Sequence[Record]) -> str:
    names = _names(key, records)
    return f" {what}: {names}." if names else ""
