"""Runs: their statuses, events and outputs, what drives them, and how they are cancelled."""

from desist.run.base import RunStatus
from desist.run.context import RunContext

__all__ = ["RunContext", "RunStatus"]
