"""Runs: their statuses, events and outputs, what drives them, and how they are cancelled."""

from desist.run.events.base import RunStatus
from desist.run.options.context import RunContext

__all__ = ["RunContext", "RunStatus"]
