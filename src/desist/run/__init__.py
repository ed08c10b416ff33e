"""Runs: statuses, events and outputs, execution, and cancellation."""

from desist.run.events.base import RunStatus
from desist.run.options.context import RunContext

__all__ = ["RunContext", "RunStatus"]
