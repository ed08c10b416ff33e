"""Resuming runs whose process has died. `Workflow.resume_lost_runs` is the public method.

Unlike `continue_run`, this resumes the same run under the same id, which can still be cancelled by that id. The store
decides which runs these are, and that only one process resumes each.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from desist.exceptions import ConfigurationError, DesistError
from desist.run.component.continuation import ContinuationOpener
from desist.run.component.options import WorkflowOptions, validate_options
from desist.run.options.durable_limits import DurableLimits
from desist.run.records.metrics import Usage
from desist.run.storage.shared_store import SharedStore, shared_store
from desist.run.storage.values import DURABILITIES, Durability, StoredRun

__all__ = ["Recovery", "checked_durability", "checked_on_crash"]

log = logging.getLogger("desist.run")


class Resumable(ContinuationOpener, Protocol):
    """What `Recovery` needs of a workflow."""

    id: str
    on_crash: str


class Recovery:
    """Resumes the runs of one workflow whose processes have died."""

    def __init__(self, workflow: Resumable) -> None:
        self._workflow = workflow

    def resume(self, price: Callable[[str, Usage], float] | None) -> list[str]:
        """Resume the runs in the background; return their ids."""
        workflow = self._workflow
        shared = shared_store(workflow.store)
        if workflow.on_crash != "resume" or shared is None:
            raise ConfigurationError(
                f'workflow {workflow.id!r} resumes no runs: give it on_crash="resume" and a SqliteDb'
            )
        return [run.run_id for run in shared.take_orphans("workflow", workflow.id) if self._resume(shared, run, price)]

    def _resume(self, shared: SharedStore, orphan: StoredRun, price: Callable[[str, Usage], float] | None) -> bool:
        output = orphan.output
        options = validate_options("resume_lost_runs()", {"run_id": orphan.run_id}, WorkflowOptions)
        options["first_event"] = orphan.next_event
        try:
            options["kept"] = (orphan.options or DurableLimits()).with_price(price)
            run = self._workflow.open_continuation(output, options, stream=True, stream_events=True, replay=True)
        except DesistError as error:
            log.error("run %s can't be resumed: %s", orphan.run_id, error)
            shared.fail_claimed_run(orphan.run_id, f"its process died, and the run can't be resumed: {error}")
            return False
        run.body.output.continued_from = None  # the same run, not a new one that continues it
        run.start()
        return True


def checked_on_crash(value: str, what: str, db: Any) -> str:
    """Return the checked `on_crash` of a workflow.

    Raises:
        ConfigurationError: the value is unknown, or "resume" has no database that outlives a process.
    """
    if value not in ("mark", "resume"):
        raise ConfigurationError(f"on_crash={value!r} of {what} must be 'mark' or 'resume'")
    if value == "resume" and shared_store(getattr(db, "store", db)) is None:
        raise ConfigurationError(
            f"on_crash='resume' of {what} needs a database that outlives a process: db=SqliteDb(...)"
        )
    return value


def checked_durability(value: Durability, on_crash: str, what: str) -> Durability:
    """Return the checked `durability` of a workflow.

    Raises:
        ConfigurationError: there is no such value, or the runs could not be resumed.
    """
    if value not in DURABILITIES:
        raise ConfigurationError(f"durability={value!r} of {what} must be one of {', '.join(map(repr, DURABILITIES))}")
    if value != "full" and on_crash == "resume":
        raise ConfigurationError(
            f"durability={value!r} of {what} keeps no checkpoints, so on_crash='resume' could not resume a run: use"
            " durability='full' or on_crash='mark'"
        )
    return value
