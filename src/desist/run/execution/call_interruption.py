"""Telling the work of cancelled runs to stop: at once if that is little, else in helper threads.

The decision is older: by now nothing of these runs may start anything, and their tokens say so. What is left is to
wake what waits. Interrupting one blocked thread takes a tenth of a millisecond and more, and those who are woken want
the interpreter: a caller who interrupted hundreds by itself would be held for as long as all that takes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from desist.cancel.token import CancelToken, deliver, deliver_urgent
from desist.runtime.helper_threads import interrupting_helpers

if TYPE_CHECKING:
    from desist.run.execution.interruption import Interruption

__all__ = ["CallInterruption", "do_all", "interrupt_all"]

log = logging.getLogger("desist.run")

#: How many runs and calls are interrupted by the caller itself.
FEW = 16

Piece = Callable[[], object]


class CallInterruption:
    """What has to be done about runs that were just cancelled.

    Parameters:
        runs: children first.
        grace: seconds; None for each run's own.
        force: leave no time for cleanup.
    """

    def __init__(self, runs: list[Interruption], grace: float | None, force: bool) -> None:
        self._runs, self._grace, self._force = runs, grace, force
        self._marked: list[CancelToken] = []
        self.size = len(runs) if len(runs) > FEW else sum(1 + len(run.scope.work) for run in runs)

    def begin(self) -> None:
        """Close connections to providers: all of them, before anything else."""
        now = time.time()
        for run in self._runs:
            with run.lock:
                run.show_cancelling()
                if run.record is not None and run.record.delivered_at is None:
                    run.record.delivered_at = now
                reason = run.scope.reason
            if reason is not None:
                self._marked += run.token.mark(reason) or ()
        for token in self._marked:
            deliver_urgent(token)

    def pieces(self) -> Iterable[Piece]:
        """Return the rest, in parts that don't depend on one another."""
        for token in self._marked:
            yield partial(deliver, (token,))
        for run in self._runs:
            grace = run.grace if self._grace is None else self._grace
            yield partial(run.deliver_to_tasks, grace, self._force)
            for work in list(run.scope.work):
                yield partial(work.interrupt, grace, force=self._force)

    def end(self, *, late: bool) -> None:
        """All were told: what is due now?"""
        for run in self._runs:
            run.was_told(late=late)
        for run in self._runs:
            log.info("run %s is being cancelled: %s", run.run_id, run.scope.reason, extra=run.ids)


def interrupt_all(interruptions: list[CallInterruption]) -> None:
    """Carry interruptions out, here or, if it is much, in helper threads; then this returns at once."""
    if sum(one.size for one in interruptions) > FEW:
        interrupting_helpers.hand_over(lambda: _share(interruptions))
        return
    for one in interruptions:
        one.begin()
    for one in interruptions:
        for piece in one.pieces():
            piece()
        one.end(late=False)


def _share(interruptions: list[CallInterruption]) -> None:
    for one in interruptions:
        one.begin()

    def end() -> None:
        for one in interruptions:
            one.end(late=True)

    interrupting_helpers.share([piece for one in interruptions for piece in one.pieces()], end)


def do_all(pieces: list[Piece]) -> None:
    """Do what doesn't depend on one another, here or, if it is much, in helper threads."""
    if len(pieces) > FEW:
        interrupting_helpers.hand_over(lambda: interrupting_helpers.share(pieces, lambda: None))
        return
    for piece in pieces:
        piece()
