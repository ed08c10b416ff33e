"""The limits of a run: deadlines and budgets. Past one the run is cancelled."""

from __future__ import annotations

import time

from desist.cancel.reason import CancelReason, Source
from desist.cancel.scope import Reach
from desist.run.execution.run_core import RunCore
from desist.run.options.budget import Budget, BudgetMeter
from desist.run.options.durable_limits import Deadline, DurableLimits
from desist.runtime.timer_thread import Timer, timers

__all__ = ["RunLimits"]


class RunLimits:
    """The deadlines of one run, its timers, and the budgets that it counts against.

    Parameters:
        run: cancelled past a limit.
        parent: the limits of the run in which it was started; those budgets hold for this run, too.
    """

    def __init__(self, run: RunCore, parent: RunLimits | None) -> None:
        self._run = run
        self.meters: tuple[BudgetMeter, ...] = parent.meters if parent else ()
        self.durable = DurableLimits()  #: stored with the run: they hold for it in each process that resumes it
        self._timers: list[Timer] = []
        self._own_reason: CancelReason | None = None  #: of a deadline with reach "own"

    def set_deadline(self, seconds: float | None, what: str, reach: Reach = "run", until: float | None = None) -> None:
        """Cancel the run when `seconds` have passed, with source `deadline`.

        Parameters:
            seconds: None: no deadline.
            what: the name of the deadline, for messages.
            reach: "own" for the timeout of a step, which the step's code handles.
            until: the end in seconds since the epoch, if the seconds count from an earlier time than now.
        """
        if seconds is None or self._run.token.cancelled:
            return
        if reach == "run":
            self.durable.limits.append(Deadline(seconds, what, time.time() + seconds if until is None else until))
        left = seconds if until is None else until - time.time()
        text = f"{what} of {seconds:g} s is over" if seconds > 0 else f"{what} is over"

        def expire() -> None:
            reason = CancelReason(source=Source.deadline, text=text, by="desist")
            # Before the cancel: the step that waits for this run reads `stopped_by_own_deadline` as soon as it ends.
            self._own_reason = reason if reach == "own" else None
            self._run.cancel(reason, reach=reach)

        if left > 0:
            self.add_timer(timers.call_at(time.monotonic() + left, expire))
        else:
            expire()

    @property
    def stopped_by_own_deadline(self) -> bool:
        """Whether the run was cancelled by the timeout of the step that started it."""
        return self._own_reason is not None and self._run.scope.reason is self._own_reason

    def set_budget(self, budget: Budget | None) -> None:
        """Count what this run and all below it spend, and cancel it past the budget. Before `start`."""
        if budget is not None:
            self.durable.budget = budget
            resumable = getattr(self._run.body, "resumable", False)
            meter = BudgetMeter(self._run, budget, self.durable.spent, checkpointed=resumable)
            self.meters = (*self.meters, meter)

    def add_timer(self, timer: Timer) -> None:
        """Cancel a timer when the run ends, so that the timer thread doesn't wake for a run that is over."""
        self._timers.append(timer)

    def close(self) -> None:
        """Cancel all timers. At the end of the run; a timer that fires meanwhile finds nothing to do."""
        for timer in self._timers:
            timer.cancel()
