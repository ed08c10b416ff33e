"""What is run: a body does the work and tells its story. `desist.run.execution.run` decides how it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from desist.cancel.status import RunStatus
from desist.run.execution.cleanup import CleanupHook
from desist.run.storage.values import SessionUpdate

if TYPE_CHECKING:
    from desist.run.execution.run import Run

__all__ = ["RunBody"]


class RunBody(Protocol):
    """What is run. It says how its story is told; it never decides how it ends.

    One with an attribute `on_event`, a function, has it called with every event, whether a reader sees it or not.
    """

    kind: str  #: "workflow" or "agent"
    output: Any  #: RunOutput or WorkflowRunOutput; changed only through `Run.emit` and `Run.commit`
    has_reader: bool  #: whether anybody hears what it tells
    first_event_index: int  #: the number of its first event; not 0 for a run that was taken up again

    @property
    def session(self) -> SessionUpdate | None:
        """What the run changes in its session, stored together with the run."""

    def start_event(self) -> Any:
        """Return the first event."""

    async def execute(self, run: Run) -> None:
        """Do it. Returning means completed, if no cancel came first; an exception means failed."""

    def terminal_events(self, status: RunStatus, error: BaseException | None) -> list[Any]:
        """Finish the output and return the closing events, the terminal one last. Must not fail or block."""

    def cleanup_hooks(self, compensate: bool) -> list[CleanupHook]:
        """Return the hooks that clean up after a cancel, in the order in which they are to run."""

    def partial_content(self) -> Any:
        """Return what it has said by now. With the lock of the tree held; must not block."""

    def describe_activity(self) -> str:
        """Return what it is at: the names of tools or steps."""

    def enable_all_events(self) -> None:
        """Nobody reads along, but all that it tells is recorded: show everything. Before it is started."""

    def is_visible(self, event: Any) -> bool:
        """Whether the reader of this run sees the event: its own, or one of a bound child."""
