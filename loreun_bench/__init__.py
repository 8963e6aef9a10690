"""loreun_bench: which unlearning method, with which loss reweighting, comes closest to retraining, and at what cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loreun_bench.lazy import lazily

if TYPE_CHECKING:
    from loreun_bench.api import evaluate, sweep
    from loreun_bench.decorators import dataset, method, metric, model, scenario, weighting
    from loreun_bench.harness.records import Record, load_records
    from loreun_bench.report.seeds import load_frame

_WHERE = {
    "sweep": "api", "evaluate": "api", "load_records": "harness.records", "Record": "harness.records",
    "load_frame": "report.seeds",
    "method": "decorators", "weighting": "decorators", "metric": "decorators", "dataset": "decorators",
    "model": "decorators", "scenario": "decorators",
}  # fmt: skip
__all__ = [
    "Record", "dataset", "evaluate", "load_frame", "load_records", "method", "metric", "model", "scenario", "sweep",
    "weighting",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Public names are imported when first used, so that importing the package is instant."""
    return lazily(__name__, _WHERE, name)
