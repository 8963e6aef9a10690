"""What is looked for in a published table, a function each: lines that name the row and the numbers."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from loreun_bench.harness.shares import clopper_pearson
from loreun_bench.report.audit.tables import Number, Published, is_share, last, meaning

LONGER, FURTHER, NEAR = 1.5, 5.0, 20.0  # times as long; points; points between forget and test accuracy of a retrained model
ROWS = 20  # of which a hidden Retrain is sought: cells are their cube
STEPS = 8  # different numbers that tell of how many samples they are shares
AVERAGES = {"average", "avg", "avg.", "mean"}


def audit(table: Published) -> list[str]:
    """All findings on a table."""
    return [line for check in CHECKS for line in check(table)]


def units(table: Published) -> Iterator[str]:
    """Accuracies that no accuracy can be, and fractions among percentages."""
    rows = {name: row for name, row in table.rows.items() if name.lower() not in AVERAGES}
    for name, column, number in [(n, c, v) for n, row in rows.items() for c, v in row.items() if is_share(c)]:
        if not 0 <= number.value <= 100:
            yield f"{name}: {column} {number.value:g} is no percentage"
        elif 0 < number.value < 1 and number.digits > table.usual_digits:
            digits = f"{number.digits} digits, others {table.usual_digits}"
            yield f"{name}: {column} {number.value:g} has {digits}: a fraction among percentages?"


def tow(table: Published) -> Iterator[str]:
    """ToW that does not follow from its row and Retrain's, whatever the rounding, nor with UA as a fraction."""
    forget, ra, ta, column = (_of(table, *keys) for keys in (("ua", "fa"), ("ra",), ("ta",), ("tow",)))
    if table.retrain is None or None in (forget, ra, ta, column):
        return
    base = table.retrain[1]
    checked, wrong = 0, []
    for name, row in table.rows.items():
        if name.lower() in AVERAGES:  # the mean of ToWs is not the ToW of means
            continue
        if not {forget, ra, ta, column} <= row.keys() or not {forget, ra, ta} <= base.keys():
            continue
        checked += 1
        readings = [_tow(row, base, (forget, ra, ta), scale) for scale in (1.0, 100.0)]  # type: ignore[arg-type]
        printed = row[column]  # type: ignore[index]
        if not any(low - printed.rounding <= printed.value <= high + printed.rounding for low, high in readings):
            middles = [f"{(low + high) / 2:.4f}" for low, high in readings]
            fraction = f" ({middles[1]} with {forget} as a fraction)" if row[forget].value < 1 else ""  # type: ignore[index]
            follows = f"{middles[0]} follows from its row{fraction}"
            wrong.append(f"{name}: ToW {printed.value:g} is printed, {follows}, if that is of one run")
    yield from wrong
    if checked and not wrong:
        yield f"ToW: all {checked} rows follow from their accuracies"


def averages(table: Published) -> Iterator[str]:
    """Averages over rows that are others."""
    for name, row in table.rows.items():
        if name.lower() not in AVERAGES:
            continue
        others = [own for other, own in table.rows.items() if other != name]
        checked = 0
        for column, printed in row.items():
            values = [own[column] for own in others if column in own]
            if len(values) != len(others):
                continue
            checked += 1
            middle, off = _mean([v.value for v in values]), _mean([v.rounding for v in values]) + printed.rounding
            if abs(middle - printed.value) > off + 1e-9:
                found = f"{middle:.{printed.digits + 1}f}"
                yield f"{name}: {column} {printed.value:g} is printed, {found} is the mean of its rows"
        if checked:
            yield f"{name}: {checked} columns compared with the mean of their rows"


def gaps(table: Published) -> Iterator[str]:
    """A gap to Retrain that is printed without Retrain: which one it was taken from."""
    column, keys = _of(table, "gap"), [_of(table, "ua", "fa"), _of(table, "ra"), _of(table, "ta")]
    if column is None or None in keys or table.retrain is not None:
        return
    rows = [row for row in table.rows.values() if {column, *keys} <= row.keys()]
    if len(rows) < 5:
        return
    values = [[row[key].value for key in keys] for row in rows]  # type: ignore[index]
    found, residual = hidden_retrain(values, [row[column].value for row in rows])
    if residual <= max(row[column].rounding for row in rows) * 4:
        told = ", ".join(f"{key} {value:.1f}" for key, value in zip(keys, found, strict=True))
        yield f"{column}: Retrain is not printed, but all {len(rows)} rows follow from one of {told}"
        yield from _inverted(table.title, {str(key): value for key, value in zip(keys, found, strict=True)})


def inverted(table: Published) -> Iterator[str]:
    """Which way UA is printed; and forget accuracies that are 100 minus them."""
    if table.retrain is not None:
        yield from _inverted(table.title, {c: v.value for c, v in table.retrain[1].items()})


def zeros(table: Published) -> Iterator[str]:
    """How large a share may be of which none was counted, where the steps of a column tell of how many."""
    found: dict[str, list[Number]] = {}
    for name, row in table.rows.items():
        for column, number in row.items():
            if name.lower() not in AVERAGES and meaning(last(column)) in ("ua", "fa"):
                found.setdefault(last(column), []).append(number)
    for kind, numbers in found.items():
        counted = _counted(numbers)
        none = sum(number.value == 0 for number in numbers)
        if counted and none:
            high = clopper_pearson(0, counted)[1]
            samples = f"steps of {100 / counted:g} are {counted} samples"
            yield f"{kind}: {samples}; {none} cells of 0 may each be up to {high:.2f} %"


def compute(table: Published) -> Iterator[str]:
    """Variants of a method that ran much longer than it."""
    column = _of(table, "time")
    for base, variants in _families(table):
        own = table.rows[base].get(column or "")
        if column is None or own is None or own.value <= 0:
            continue
        ratios = {v: table.rows[v][column].value / own.value for v in variants if column in table.rows[v]}
        longer = {name: ratio for name, ratio in ratios.items() if ratio > LONGER}
        if longer:
            each = ", ".join(f"{name} {ratio:.1f}" for name, ratio in longer.items())
            yield f"{column}: not of equal compute: times as long as {base}: {each}"


def attacks(table: Published) -> Iterator[str]:
    """Variants whose MIA is further from Retrain's than their method's: larger is not better."""
    column = _of(table, "mia")
    if column is None or table.retrain is None or column not in table.retrain[1]:
        return
    aim = table.retrain[1][column].value
    for base, variants in _families(table):
        own = table.rows[base].get(column)
        further = [v for v in variants if column in table.rows[v] and own is not None
                   and abs(table.rows[v][column].value - aim) > abs(own.value - aim) + FURTHER]  # fmt: skip
        if own is not None and further:
            each = ", ".join(f"{v} {table.rows[v][column].value:g}" for v in further)
            yield f"{column}: Retrain has {aim:g}, {base} {own.value:g}; further from it: {each}"


def hidden_retrain(values: Sequence[Sequence[float]], gaps: Sequence[float]) -> tuple[list[float], float]:
    """The row whose summed absolute differences to `values` [rows, columns] come closest to `gaps` [rows], and the largest
    residual. Between any two neighbours of a column the sums are linear in it: each such cell is solved."""
    import numpy as np

    v, g = np.array(values[:ROWS]), np.array(gaps[:ROWS])
    edges = [np.concatenate([[-np.inf], np.unique(column), [np.inf]]) for column in v.T]
    best, least = np.full(v.shape[1], np.nan), math.inf
    for cell in itertools.product(*(range(len(edge) - 1) for edge in edges)):
        low, high = (np.array([edge[k + side] for edge, k in zip(edges, cell, strict=True)]) for side in (0, 1))
        signs = np.where(v >= high, 1.0, -1.0)  # of value minus Retrain's
        found = np.linalg.lstsq(-signs, g - (signs * v).sum(1), rcond=None)[0]
        found = np.clip(found, low, high)
        residual = float(np.abs(np.abs(v - found).sum(1) - g).max())
        if residual < least:
            best, least = found, residual
    return best.tolist(), float(np.abs(np.abs(np.array(values) - best).sum(1) - np.array(gaps)).max())


CHECKS: tuple[Callable[[Published], Iterator[str]], ...] = (
    units, tow, averages, gaps, inverted, zeros, compute, attacks,
)  # fmt: skip


def _inverted(title: str, retrain: Mapping[str, float]) -> Iterator[str]:
    known = {meaning(column): value for column, value in retrain.items()}
    if "random" not in title.lower() or "ta" not in known:
        return
    for key in ("ua", "fa"):
        if key not in known:
            continue
        as_accuracy, as_unlearning = (abs(value - known["ta"]) < NEAR for value in (known[key], 100 - known[key]))
        if key == "fa" and as_unlearning and not as_accuracy:
            beside = f"FA {known[key]:.1f} of Retrain beside TA {known['ta']:.1f}"
            yield (f"{beside}: its accuracy on samples that it never saw is near the test set's, as "
                   f"{100 - known[key]:.1f} would be; this is 100 minus it")  # fmt: skip
        if key == "ua" and as_accuracy != as_unlearning:
            what = "the forget accuracy" if as_accuracy else "100 minus the forget accuracy"
            yield f"UA is {what}: Retrain's is {known[key]:g}"


def _tow(row: Mapping[str, Number], base: Mapping[str, Number], columns: Sequence[str], scale: float) -> tuple[float, float]:
    """The least and the greatest ToW that rounding leaves. scale: of the row's UA, if that is below 1."""
    low = high = 1.0
    for place, column in enumerate(columns):
        times = scale if place == 0 and row[column].value < 1 else 1.0
        difference = abs(times * row[column].value - base[column].value)
        off = times * row[column].rounding + base[column].rounding
        low *= 1 - (difference + off) / 100
        high *= 1 - max(0.0, difference - off) / 100
    return low, high


def _families(table: Published) -> list[tuple[str, list[str]]]:
    """Methods with their variants: rows called METHOD and METHOD something."""
    names = [name for name in table.rows if not name.lower().startswith("retrain")]
    found = [(base, [name for name in names if re.match(re.escape(base) + r"[\s/+]", name)]) for base in names]
    return [(base, variants) for base, variants in found if variants]


def _counted(numbers: Sequence[Number]) -> int:
    """How many samples steps of the numbers tell of; 0 if they tell nothing."""
    digits = max((number.digits for number in numbers), default=0)
    step = math.gcd(*(round(number.value * 10**digits) for number in numbers)) if numbers else 0
    exact = digits and digits <= 3 and step > 1 and (100 * 10**digits) % step == 0
    return 100 * 10**digits // step if exact and len({n.value for n in numbers}) >= STEPS else 0


def _of(table: Published, *keys: str) -> str | None:
    return next((column for key in keys if (column := table.column(key)) is not None), None)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
