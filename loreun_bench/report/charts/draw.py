"""Any chart as a sketch."""

from __future__ import annotations

from loreun_bench.report.charts.chart import Chart, DotPlot
from loreun_bench.report.charts.dots import dots
from loreun_bench.report.charts.plane import plane
from loreun_bench.report.charts.sketch import Sketch


def drawn(chart: Chart) -> Sketch:
    """The chart, without its title."""
    return dots(chart) if isinstance(chart, DotPlot) else plane(chart)
