"""The public face of usage and metrics."""

from desist.run.records.metrics import RunMetrics, Usage

__all__ = ["RunMetrics", "Usage"]
