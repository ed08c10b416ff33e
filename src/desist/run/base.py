"""Public import path of the names that events and outputs of all runs share."""

from desist.run.events.base import (
    Abandoned,
    BaseRunOutputEvent,
    CancellationStage,
    CancelRecord,
    CustomFields,
    RunContext,
    RunStatus,
    content_text,
    now,
)

__all__ = [
    "Abandoned",
    "BaseRunOutputEvent",
    "CancelRecord",
    "CancellationStage",
    "CustomFields",
    "RunContext",
    "RunStatus",
    "content_text",
    "now",
]
