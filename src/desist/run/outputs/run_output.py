"""Base class of the outputs of agents and workflows."""

from __future__ import annotations

from typing import Any

from desist.cancel.status import RunStatus
from desist.run.events.base import content_text
from desist.run.records.record import Record

__all__ = ["BaseRunOutput"]


class BaseRunOutput(Record):
    """Base of `RunOutput` and `WorkflowRunOutput`, which define the fields. Not a dataclass itself."""

    content: Any
    status: RunStatus

    @property
    def is_paused(self) -> bool:
        """Whether the run is paused and waits for a human."""
        return self.status is RunStatus.paused

    @property
    def is_cancelled(self) -> bool:
        """Whether the run has ended as cancelled. False while a cancel is in progress."""
        return self.status is RunStatus.cancelled

    def get_content_as_string(self) -> str:
        """Return the content as text: a string unchanged, None as "", other values as indented JSON."""
        return content_text(self.content)
