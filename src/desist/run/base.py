"""The public face of what all runs' events and outputs share."""

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
