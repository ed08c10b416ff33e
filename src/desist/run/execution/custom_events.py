"""Custom events: setting the ids that all events of a run carry, and emitting an event from a tool or a step.

Agents and workflows are unknown here: their bodies define the ids (`common`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from desist.run.events.base import BaseRunOutputEvent, CustomFields
from desist.run.execution.run import current_run

__all__ = ["emit_custom_event", "set_missing_ids"]


def set_missing_ids(event: BaseRunOutputEvent, common: Mapping[str, Any]) -> None:
    """Set the missing ids of a custom event. Other events are made with their ids."""
    if isinstance(event, CustomFields):
        for name, value in common.items():
            if not getattr(event, name, None):
                setattr(event, name, value)


def emit_custom_event(event: BaseRunOutputEvent) -> None:
    """Emit an event of user code in the current run. Does nothing outside of a run.

    Raises:
        RunCancelled: the run accepts no more events.
    """
    run = current_run()
    if run is not None:
        set_missing_ids(event, getattr(run.body, "common", {}))
        run.emit(event)
