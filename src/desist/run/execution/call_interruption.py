"""Interrupting the work of cancelled runs: by the calling thread if there is little of it, else in helper threads.

The decision was made before: nothing new starts in these runs, and their tokens are cancelled. What is left is to wake
what waits. Interrupting one blocked thread takes a tenth of a millisecond or more, and the woken threads compete for
the GIL: a caller that interrupted hundreds by itself would be delayed by all of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from functools import partial

from desist.cancel.token import CancelToken, deliver, deliver_urgent
from desist.run.execution.interruption import FEW, Action, InterruptibleRun
from desist.runtime.helper_threads import interrupting_helpers

__all__ = ["CallInterruption", "interrupt_all"]

log = logging.getLogger("desist.run")


class CallInterruption:
    """The interruption of runs that were just cancelled.

    `begin`, each of `actions`, `end`, in this order, without the lock. Actions may run in several threads at once. To
    interrupt a call that has ended meanwhile does nothing.

    Parameters:
        runs: children first.
        grace: seconds; None for each run's own.
        force: leave no time for cleanup.
    """

    def __init__(self, runs: Sequence[InterruptibleRun], grace: float | None, force: bool) -> None:
        self._runs, self._grace, self._force = runs, grace, force
        self._marked: list[CancelToken] = []
        self.size = len(runs) if len(runs) > FEW else sum(1 + len(run.scope.work) for run in runs)

    def begin(self) -> None:
        """Close the connections to providers: those of all runs, before anything else, because they cost money."""
        now = time.time()
        for run in self._runs:
            with run.lock:
                run.interruption.show_cancelling()
                if run.record is not None and run.record.delivered_at is None:
                    run.record.delivered_at = now
                reason = run.scope.reason
            if reason is not None:
                self._marked += run.token.mark(reason) or ()
        for token in self._marked:
            deliver_urgent(token)

    def actions(self) -> Iterable[Action]:
        """Return the rest, as actions that don't depend on one another."""
        for token in self._marked:
            yield partial(deliver, (token,))
        for run in self._runs:
            grace = run.grace if self._grace is None else self._grace
            yield partial(run.interruption.deliver_to_tasks, grace, self._force)
            for call in list(run.scope.work):
                yield partial(call.interrupt, grace, force=self._force)

    def end(self, *, late: bool) -> None:
        """Advance the runs: all their work was interrupted, and some of it may have ended."""
        for run in self._runs:
            run.interruption.on_delivered(late=late)
        for run in self._runs:
            log.info("run %s is being cancelled: %s", run.run_id, run.scope.reason, extra=run.ids)


def interrupt_all(interruptions: list[CallInterruption]) -> None:
    """Carry interruptions out, in this thread or, if there is much to do, in helper threads; then return at once."""
    if sum(one.size for one in interruptions) > FEW:
        interrupting_helpers.hand_over(lambda: _share(interruptions))
        return
    for one in interruptions:
        one.begin()
    for one in interruptions:
        for action in one.actions():
            action()
        one.end(late=False)


def _share(interruptions: list[CallInterruption]) -> None:
    for one in interruptions:
        one.begin()

    def end() -> None:
        for one in interruptions:
            one.end(late=True)

    interrupting_helpers.share([action for one in interruptions for action in one.actions()], end)
