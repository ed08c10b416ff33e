"""How a step that calls an overridden `arun` or `run` makes the run inside it a child of its own.

The step sets an opening; the first run that the component opens in that context is opened by it. Runs that the user's
code starts of other components, or afterwards, are opened as anywhere else.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from desist.run.component.options import apply_limits
from desist.run.execution.run import Run

__all__ = ["StepOpening", "take_opening"]

_current: contextvars.ContextVar[StepOpening | None] = contextvars.ContextVar("desist_step_opening", default=None)


class StepOpening:
    """Opens one run of a component, as the child run of a step.

    Parameters:
        component: the agent or workflow.
        open_run: opens the run for an input; the second argument is whether the user's code reads its events.
    """

    def __init__(self, component: Any, open_run: Callable[[Any, bool], Run]) -> None:
        self.component = component
        self.run: Run | None = None  #: once it is open
        self._open_run = open_run

    def open(self, input: Any, options: Mapping[str, Any], *, stream: bool) -> Run:
        """Open the run, once. Of the options that the user's code passes the limits count; the ids are the step's."""
        run = self.run = self._open_run(input, stream)
        with run.withdrawn_on_error():
            apply_limits(run, {**options, "run_id": None})
        return run

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make this the opening of the context."""
        before = _current.set(self)
        try:
            yield
        finally:
            _current.reset(before)


def take_opening(component: Any) -> StepOpening | None:
    """Return the opening for a run of the component, or None if the run is opened as anywhere else."""
    opening = _current.get()
    return opening if opening is not None and opening.component is component and opening.run is None else None
