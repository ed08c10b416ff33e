"""The body of a run, as its parts see it: what an agent or a workflow implements, except its work itself."""

from __future__ import annotations

from typing import Any, Protocol

from desist.cancel.status import RunStatus
from desist.run.execution.cleanup import CleanupHook
from desist.run.storage.values import Output, SessionUpdate

__all__ = ["RunBody"]


class RunBody(Protocol):
    """The events and the output of a run. The body never decides how the run ends.

    If it has an attribute `on_event`, a function, that is called with every event, visible to a reader or not.
    """

    kind: str  #: "workflow" or "agent"
    has_reader: bool  #: whether a reader of this process gets its events
    first_event_index: int  #: the number of its first event; not 0 for a resumed run

    @property
    def output(self) -> Output:
        """The output: a RunOutput or WorkflowRunOutput. Changed only through `Run.emit` and `Run.commit`."""

    @property
    def session(self) -> SessionUpdate | None:
        """What the run changes in its session, stored together with the run."""

    def start_event(self) -> Any:
        """Return the first event."""

    def terminal_events(self, status: RunStatus, error: BaseException | None) -> list[Any]:
        """Finish the output and return the closing events, the terminal one last. Must not fail or block."""

    def cleanup_hooks(self, compensate: bool) -> list[CleanupHook]:
        """Return the hooks that clean up after a cancel, in the order in which they are to run."""

    def partial_content(self) -> Any:
        """Return the content so far. With the lock of the tree held; must not block."""

    def describe_activity(self) -> str:
        """Return what is running: the names of tools or steps."""

    def enable_all_events(self) -> None:
        """Enable all events, because they are stored. Called before `execute`."""

    def is_visible(self, event: Any) -> bool:
        """Whether a reader of this run gets the event: one of its own, or of a bound child."""
