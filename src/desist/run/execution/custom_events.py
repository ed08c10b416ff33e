"""Events of the user's own: which ids they carry, and how one that a tool makes gets to whoever reads the run.

Called by tools and function steps. It must not know agents or workflows: their bodies say what their events carry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from desist.run.events.base import BaseRunOutputEvent, CustomFields
from desist.run.execution.run import current_run

__all__ = ["emit_custom_event", "set_missing_ids"]


def set_missing_ids(event: BaseRunOutputEvent, common: Mapping[str, Any]) -> None:
    """Give an event of the user's own the ids that it lacks. Others have theirs."""
    if isinstance(event, CustomFields):
        for name, value in common.items():
            if not getattr(event, name, None):
                setattr(event, name, value)


def emit_custom_event(event: BaseRunOutputEvent) -> None:
    """Tell the reader of the current run an event that user code has made. Outside of any run nobody hears it.

    Raises:
        RunCancelled: the run takes nothing more.
    """
    run = current_run()
    if run is not None:
        set_missing_ids(event, getattr(run.body, "common", {}))
        run.emit(event)
