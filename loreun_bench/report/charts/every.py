"""All charts of a table."""

from __future__ import annotations

from loreun_bench.report.charts.chart import Chart
from loreun_bench.report.charts.cost import cost
from loreun_bench.report.charts.effects import effects
from loreun_bench.report.charts.forest import forest
from loreun_bench.report.charts.losses import losses
from loreun_bench.report.charts.strata import strata
from loreun_bench.report.charts.weights import weights
from loreun_bench.report.group import Group

PHASES = ("forget", "retain")


def charts(group: Group) -> list[Chart]:
    """The charts for which something was measured, in the order of a report. Their keys differ."""
    first = [forest(group), effects(group), cost(group), losses(group), strata(group)]
    found = [*first, *(weights(group, phase) for phase in PHASES)]
    return [chart for chart in found if chart is not None]
