"""What the outputs of agents and workflows share."""

from __future__ import annotations

from typing import Any

from desist.cancel.status import RunStatus
from desist.run.events.base import content_text
from desist.run.records.record import Record

__all__ = ["BaseRunOutput"]


class BaseRunOutput(Record):
    """Base of `RunOutput` and `WorkflowRunOutput`, which have the fields. Not a dataclass itself."""

    content: Any
    status: RunStatus

    @property
    def is_paused(self) -> bool:
        """Whether the run waits for a human."""
        return self.status is RunStatus.paused

    @property
    def is_cancelled(self) -> bool:
        """Whether the run has ended cancelled; False while it is being cancelled."""
        return self.status is RunStatus.cancelled

    def get_content_as_string(self) -> str:
        """Return the content as text: a string unchanged, None as "", any other value as indented JSON."""
        return content_text(self.content)
