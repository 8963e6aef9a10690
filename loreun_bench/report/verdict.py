"""The verdict in words: what the seeds show of a table's rows, and what they could not have shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from loreun_bench.report.group import Group
from loreun_bench.report.rows import Row
from loreun_bench.report.statistics.estimate import LEAST
from loreun_bench.report.statistics.found import Difference, Retraining, Standing
from loreun_bench.report.statistics.standing import MOST
from loreun_bench.report.text import count

NAMED = 4  # rows that are listed by name


def sentences(group: Group) -> list[str]:
    """The verdict on each standing of a table: one, or one a run where runs cannot be compared."""
    return [" ".join(said) for said in verdicts(group)]


def verdicts(group: Group) -> list[list[str]]:
    """Those sentence by sentence, of which the first says who leads."""
    several = len(group.standings) > 1
    found = [(f"{s.rows[0].run}: " if several and s.rows else "", _verdict(s, group)) for s in group.standings]
    return [[run + first, *rest] for run, (first, *rest) in found]


def _verdict(standing: Standing, group: Group) -> list[str]:
    if not standing.rows or not standing.columns:
        return ["No row has a value to rank by in every seed, so no leader is named."]
    if standing.seeds < LEAST:
        seeds = count(standing.seeds, "seed")
        return [f"{seeds}: too few to tell rows apart, which takes {LEAST}; the order may be chance."]
    return [
        _leaders(standing),
        *_left(standing),
        *_untouched(standing),
        *_weightings(standing, group),
        *(_retraining(found, group) for found in standing.retraining),
        *_power(standing, group),
    ]


def _leaders(standing: Standing) -> str:
    """Which rows no other is shown to be better than."""
    by = " and ".join(column.heading for column in standing.columns)
    first, every = standing.rows[0].name, " with every seed" if standing.left else ""
    if len(standing.rows) == 1:
        return f"One row{every}, {first}: there is nothing to compare it with."
    if not standing.ranks:
        return f"{first} comes first by {by}; ranks are not computed for more than {MOST} rows."
    leading = [row for row in standing.rows if standing.ranks[id(row)][0] == 1]
    if not leading:  # of several columns each may tell another pair apart
        return f"By {by} no row leads: each is shown to be worse than another."
    if len(leading) == 1 and standing.ranks[id(leading[0])] == (1, 1):
        return f"{leading[0].name} leads: by {by} it is shown to be better than every other row{every}."
    if len(leading) == 1:
        return f"By {by} only {leading[0].name} is not shown to be worse than some row."
    if len(leading) == len(standing.rows):
        return f"By {by} none of the {len(leading)} rows{every} is shown to be better than another."
    return f"By {by} {_names(leading)} lead and cannot be told apart."


def _left(standing: Standing) -> list[str]:
    """Which rows take no part."""
    if not standing.left:
        return []
    verb = "is" if len(standing.left) == 1 else "are"
    return [f"{_names(standing.left)} {verb} not ranked: some seeds have no value of their own."]


def _untouched(standing: Standing) -> list[str]:
    """Whether a table tells what was forgotten from what was not."""
    if not standing.untouched or any(each.shown and each.mean > 0 for each in standing.untouched):
        return []
    return ["No row is shown to be closer to Retrain than Original, which forgot nothing."]


def _weightings(standing: Standing, group: Group) -> list[str]:
    """Whether any weighting differs from none, and by how much."""
    found = [d for d in standing.unweighted if math.isfinite(d.mean)]
    if not found:
        return []
    rows = len({id(difference.row) for difference in found})
    shown = sorted((d for d in found if d.shown), key=lambda d: -abs(d.mean))
    if not shown:
        return [f"No weighting is shown to differ from the unweighted method ({count(rows, 'row')})."]
    told = ", ".join(_difference(difference, group) for difference in shown[:NAMED])
    more = f" and {len(shown) - NAMED} more" if len(shown) > NAMED else ""
    differ = len({id(difference.row) for difference in shown})
    verb = "differs" if differ == 1 else "differ"
    return [f"{differ} of {count(rows, 'weighted row')} {verb} from the unweighted method: {told}{more}."]


def _difference(difference: Difference, group: Group) -> str:
    places = group.places(difference.column)
    way = "better" if difference.mean > 0 else "worse"
    size = f"{abs(difference.mean):.{places}f} ±{difference.half:.{places}f}"
    return f"{difference.row.name} is {way} by {size} {difference.column.heading}"


def _retraining(found: Retraining, group: Group) -> str:
    """Which rows are shown to be as close to Retrain as a second retraining is, and which to be further from it."""
    parts = []
    if found.close:
        parts.append(f"{_who(found.close)} as close to Retrain (less than twice its distance, {found.margin:.4f})")
    if found.both:
        less = "less than twice as far" if found.close else f"less than twice its distance, {found.margin:.4f}"
        parts.append(f"{_who(found.both)} further from Retrain, but {less}")
    if found.further:
        parts.append(f"{_who(found.further)} further from Retrain")
    if not parts:
        parts.append("no row is shown to be further from Retrain, and none as close")
    elif found.unknown:
        parts.append(f"for {count(len(found.unknown), 'row')} neither is shown")
    any_row = (*found.close, *found.both, *found.further, *found.unknown)[0].row
    run = f" of {any_row.run}" if len({row.run for row in group.rows}) > 1 else ""
    return f"Compared with a second retraining{run}, {'; '.join(parts)}."


def _power(standing: Standing, group: Group) -> list[str]:
    """What as many seeds could have shown."""
    found = standing.unweighted or standing.leader
    column = standing.columns[0]
    least = [d.least for d in found if d.column is column and math.isfinite(d.least) and d.least > 0]
    if not least:
        return []
    typical = f"{median(least):.{group.places(column)}f} {column.heading}"
    return [f"{count(standing.seeds, 'seed')} can show a difference of {typical} (one comparison, 80 % power)."]


def _names(rows: Sequence[Row]) -> str:
    """The first rows' names, and how many others there are."""
    names = [row.name for row in rows]
    if len(names) > NAMED + 1:
        names = [*names[:NAMED], f"{len(names) - NAMED} others"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _who(differences: Sequence[Difference]) -> str:
    return f"{_names([d.row for d in differences])} {'is' if len(differences) == 1 else 'are'}"
