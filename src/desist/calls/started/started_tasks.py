"""The tasks that a call has started on one event loop, beside the task that makes the call."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

from desist.cancel.receipt import Abandoned
from desist.runtime.run_tasks import RunTasks

if TYPE_CHECKING:
    from desist.calls.started.started_work import StartedWork

__all__ = ["StartedTasks"]

#: Seconds after which a loop that hasn't delivered a cancellation counts as blocked by the code that it runs.
BLOCKED_AFTER = 0.005


class StartedTasks:
    """Tasks on one loop. `add` is called on the loop's thread, mostly; the rest from any thread."""

    kind = "task"

    def __init__(self, loop: asyncio.AbstractEventLoop, work: StartedWork) -> None:
        self.thread_id = threading.get_ident()  #: the thread in which the loop runs, as far as that is known
        self._work = work
        self._tasks = RunTasks()
        self._tasks.loop = loop
        self._interrupted_at: float | None = None
        self.name = "tasks"
        self.started_at = time.time()

    @property
    def ended(self) -> bool:
        """Whether no task is left."""
        return not self._tasks.live()

    @property
    def shield_deadline(self) -> float:
        """Before this time the tasks must not be abandoned; seconds of `time.monotonic`."""
        return self._tasks.shield_deadline

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop on which the tasks run."""
        return self._tasks.loop

    def add(self, task: asyncio.Task[Any]) -> None:
        """Take a task over. On the thread that creates it."""
        self._tasks.adopt(task)
        task.add_done_callback(lambda _: self._work.member_ended(self))

    def interrupt(self, grace: float, force: bool) -> None:
        """Cancel the tasks, again with back-off until they have ended. From any thread; returns at once."""
        if self._interrupted_at is None:
            self._interrupted_at = time.monotonic()
        self._tasks.cancel_until_done(grace, lambda: not self.ended, force=force)

    def are_being_cancelled(self) -> bool:
        """Return whether tasks are left, and their loop delivers the cancellation or has not had the time to."""
        if self._interrupted_at is None or self.ended:
            return False
        return self._tasks.delivered or time.monotonic() < self._interrupted_at + BLOCKED_AFTER

    def stack(self) -> str:
        """Return the stacks of the tasks as text."""
        return self._tasks.stack()

    def abandon(self, call: str) -> list[Abandoned]:
        """Return a record of each task that is left."""
        return [
            Abandoned(name=task.get_name(), kind=self.kind, blocked_in=stack or None, call=call)
            for task, stack in self._tasks.stacks()
        ]
