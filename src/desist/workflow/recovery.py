"""Going on with runs that a dead process has left: `Recovery` is a base of `Workflow`.

Unlike `continue_run` it goes on with the same run, under its id: whoever knows that id may still cancel it. Which runs
these are, and that no other process goes on with them, too, is decided by the store.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from desist.exceptions import ConfigurationError, DesistError
from desist.run.component.awaitable import awaitable
from desist.run.component.options import WorkflowOptions, validate_options
from desist.run.execution.run import Run
from desist.run.options.durable_limits import DurableLimits
from desist.run.records.metrics import Usage
from desist.run.storage.shared_store import SharedStore, shared_store
from desist.run.storage.store import RunStore
from desist.run.storage.values import StoredRun

__all__ = ["Recovery", "checked_on_crash"]

log = logging.getLogger("desist.run")


class Recovery:
    """What a workflow can do with its runs whose process has died."""

    id: str
    on_crash: str

    @property
    def store(self) -> RunStore:
        """Where runs are recorded."""
        raise NotImplementedError

    def _open_continuation(
        self, earlier: Any, options: dict[str, Any], *, stream: bool, stream_events: bool | None, replay: bool = False
    ) -> Run:
        """Register a run that goes on from what an earlier one left."""
        raise NotImplementedError

    def resume_lost_runs(self, *, price: Callable[[str, Usage], float] | None = None) -> list[str]:
        """Go on with this workflow's runs whose processes have died, in the background; return their ids.

        For a workflow with `on_crash="resume"`; call it when a worker starts, and now and then. Steps that had finished
        are taken as they were, the first unfinished one runs again. A run that was cancelled is ended instead. Each run
        is taken by one process only, and after its fifth crash by none: then it is an error.

        A run keeps the limits that it was started with: its deadline and timeouts, counted from then; its budget, with
        what is known to be spent of it.

        Parameters:
            price: what a model call costs, as for `Budget`. For runs whose budget limits the cost: without it they
                don't go on, and end as an error.

        Raises:
            ConfigurationError: this workflow's runs aren't resumed.
            StoreError: the database can't be used.
        """
        shared = shared_store(self.store)
        if self.on_crash != "resume" or shared is None:
            raise ConfigurationError(f'workflow {self.id!r} resumes no runs: give it on_crash="resume" and a SqliteDb')
        return [run.run_id for run in shared.take_orphans("workflow", self.id) if self._resume(shared, run, price)]

    def _resume(self, shared: SharedStore, lost: StoredRun, price: Callable[[str, Usage], float] | None) -> bool:
        output = lost.output
        options = validate_options("resume_lost_runs()", {"run_id": lost.run_id}, WorkflowOptions)
        options["first_event"] = lost.next_event
        try:
            options["kept"] = (lost.options or DurableLimits()).with_price(price)
            run = self._open_continuation(output, options, stream=True, stream_events=True, replay=True)
        except DesistError as error:
            log.error("run %s can't be resumed: %s", lost.run_id, error)
            shared.fail_claimed_run(lost.run_id, f"its process died, and it can't be resumed: {error}")
            return False
        run.body.output.continued_from = None  # it is the same run
        run.start()
        return True

    aresume_lost_runs = awaitable(resume_lost_runs)


def checked_on_crash(value: str, what: str, db: Any) -> str:
    """Return what becomes of runs whose process has died.

    Raises:
        ConfigurationError: it isn't known, or there is no database that could hold it.
    """
    if value not in ("mark", "resume"):
        raise ConfigurationError(f"on_crash={value!r} of {what} must be 'mark' or 'resume'")
    if value == "resume" and shared_store(getattr(db, "store", db)) is None:
        raise ConfigurationError(
            f"on_crash='resume' of {what} needs a database that outlives a process: db=SqliteDb(...)"
        )
    return value
