"""What the seeds show of a table's rows: their ranks, and whether they differ from others.

Rows are compared by the columns that the table is sorted by; the first that tells two apart decides. Only rows of which
every seed finished take part, and below LEAST seeds nothing is said.
"""

from __future__ import annotations

from collections.abc import Sequence

from loreun_bench.report.group import Group
from loreun_bench.report.rows import REFERENCES, Column, Row
from loreun_bench.report.statistics.estimate import LEAST
from loreun_bench.report.statistics.found import Difference, Retraining, Standing
from loreun_bench.report.statistics.paired import LEVEL, holm, paired
from loreun_bench.report.statistics.ranks import intervals, shown_better
from loreun_bench.report.statistics.scores import Scores

MOST = 1000  # rows of which every two are compared
NOISE, UNTOUCHED, AIM = "Retrain-2", "Original", "tow"


def standings(group: Group, columns: Sequence[Column]) -> list[Standing]:
    """Of all rows, sorted best first; of each run's alone where runs have no seed in common. columns: that sorted them."""
    runs = [[row for row in group.rows if row.run == run] for run in dict.fromkeys(row.run for row in group.rows)]
    return [_standing(rows, group, columns) for rows in (runs if group.apart else [group.rows])]


def _standing(rows: Sequence[Row], group: Group, columns: Sequence[Column]) -> Standing:
    whole = [row for row in rows if row.complete and row.independent]
    columns = [c for c in columns if c.best and any(row.values.get(c.key) for row in whole)]
    scores = Scores([row for row in whole if row.method not in REFERENCES], columns, group)
    left = [row for row in rows if row.method not in REFERENCES and row not in scores]
    if len(scores.seeds) < LEAST or not columns or not scores.rows:
        return Standing(scores.rows, columns, len(scores.seeds), left=left)
    bases = [(row, group.row(row.method, row.run)) for row in scores.rows if row.weighting != "none"]
    runs = list(dict.fromkeys(row.run for row in scores.rows))
    return Standing(
        scores.rows, columns, len(scores.seeds), _ranks(scores),
        differences(scores, [(row, base) for row, base in bases if base is not None and base in scores]),
        differences(scores, [(row, scores.rows[0]) for row in scores.rows[1:]]),
        [difference for run in runs for difference in _beside(UNTOUCHED, whole, group, run)[1]],
        left, [found for run in runs if (found := _retraining(whole, group, run))],
    )  # fmt: skip


def differences(scores: Scores, pairs: Sequence[tuple[Row, Row]]) -> list[Difference]:
    """Of each pair's first row to its second, column by column; their p-values are corrected together."""
    import numpy as np

    own, base = scores.places([own for own, _ in pairs]), scores.places([base for _, base in pairs])
    found = [scores.paired(number, own, base) for number in range(len(scores.columns))]
    p = holm(np.stack([each.p for each in found]))
    return [
        Difference(*pair, column, *map(float, values))
        for column, each, corrected in zip(scores.columns, found, p, strict=True)
        for pair, *values in zip(pairs, each.mean, each.half(), corrected, each.least(), strict=True)
    ]


def _ranks(scores: Scores) -> dict[int, tuple[int, int]]:
    """By a row's id the places that are left to it."""
    import numpy as np

    if len(scores.rows) > MOST:
        return {}
    one, other = np.triu_indices(len(scores.rows), 1)
    better = shown_better([scores.paired(number, one, other) for number in range(len(scores.columns))])
    return dict(zip(map(id, scores.rows), intervals(better, len(scores.rows)), strict=True))


def _retraining(rows: Sequence[Row], group: Group, run: str) -> Retraining | None:
    """Of a run's rows that are complete; None without a second retraining, or where ToW is not known of it."""
    scores, found = _beside(NOISE, rows, group, run)
    if not found:
        return None
    lacks = 1 - scores.values(0)  # how far from the first retraining, seed by seed: [rows, seeds]
    own, second = lacks[scores.places([each.row for each in found])], lacks[scores.places([found[0].base])]
    near = holm(paired(2 * second - own, scores.overlap).p_above)  # of twice the distance, which is itself measured
    parts: dict[str, list[Difference]] = {"further": [], "close": [], "both": [], "unknown": []}
    for difference, p in zip(found, near, strict=True):
        close, further = p < LEVEL, difference.shown and difference.mean < 0
        if close or (difference.shown and not further):
            parts["both" if further else "close"].append(difference)
        else:
            parts["further" if further else "unknown"].append(difference)
    return Retraining(float(second.mean()), **parts)


def _beside(reference: str, rows: Sequence[Row], group: Group, run: str) -> tuple[Scores, list[Difference]]:
    """The differences of a run's rows to one of the references, by ToW; none where that has no model of its own in every
    seed, or ToW is not known of it."""
    base = next((row for row in rows if (row.method, row.run) == (reference, run)), None)
    columns = [column for column in group.columns if column.key == AIM]
    others = [row for row in rows if row.run == run and row.method not in REFERENCES]
    scores = Scores([*others, *([base] if base is not None else [])], columns, group)
    if base is None or not columns or base not in scores:
        return scores, []
    return scores, differences(scores, [(row, base) for row in scores.rows if row is not base])
