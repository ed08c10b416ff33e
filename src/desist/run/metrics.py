"""Public import path of `Usage` and `RunMetrics`."""

from desist.run.records.metrics import RunMetrics, Usage

__all__ = ["RunMetrics", "Usage"]
