"""A paused run of an earlier process, in files that only one process uses: this process takes it into its memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from desist.cancel.receipt import CancelRecord
from desist.cancel.status import RunStatus
from desist.exceptions import UnsupportedError
from desist.run.outputs.agent import RunOutput
from desist.run.records.message import NOT_CALLED_RESULT
from desist.run.records.requirement import Requirement
from desist.run.records.tool_results import normalize_history
from desist.run.storage.paused_runs import paused_runs
from desist.run.storage.shared_store import shared_store
from desist.run.storage.store import RunStore
from desist.run.storage.values import CancelRequest, StoredRun

__all__ = ["adopt_stored"]


class _StoredPause:
    """A paused run as its store has it."""

    def __init__(self, store: RunStore, stored: StoredRun) -> None:
        self.run_id, self._store, self._stored = stored.run_id, store, stored
        self._output: Any = stored.output

    def to_stored(self, status: RunStatus) -> StoredRun:
        """Return the run as a store takes it."""
        self._stored.status = self._output.status = status
        return self._stored

    def apply_answers(self, requirements: Sequence[Requirement]) -> None:
        """Put the answers into the output."""
        known = {one.requirement_id: one for one in requirements}
        for one in self._output.requirements or []:
            if (found := known.get(one.id)) is not None and not found.is_open:
                one.apply(found)

    def save_answers(self) -> None:
        """Store the output."""
        done = self._store.save_run(self.to_stored(RunStatus.paused))
        if done is not None:
            done.result()  # ends in time: the store bounds it

    def end_paused(self, request: CancelRequest, record: CancelRecord) -> Future[None] | None:
        """End the run as cancelled, and store that."""
        record.delivered_at = record.settled_at = time.time()
        self._output.cancel, self._output.content = record, None
        self._output.messages = normalize_history(self._output.messages or [], NOT_CALLED_RESULT)
        return self._store.save_run(self.to_stored(RunStatus.cancelled))


def adopt_stored(store: RunStore, run_id: str) -> None:
    """Take a paused run of an earlier process into the memory of this one, if there is such a run. May block.

    Raises:
        UnsupportedError: it is a run of a workflow.
    """
    if shared_store(store) is not None or paused_runs.knows(run_id) or not store.blocking:
        return
    stored = store.load_run(run_id)
    if stored is None or stored.status is not RunStatus.paused:
        return
    if not isinstance(stored.output, RunOutput):
        raise UnsupportedError(
            f"run {run_id} of a workflow was paused by an earlier process, and this database keeps the answers to such"
            " runs in the memory of their process: start a new run, or use a SqliteDb"
        )
    requirements = []
    for one in stored.output.requirements or []:
        made = one.as_stored(run_id, run_id, None)
        made.state, made.by, made.at = one.state, one.by, one.answered_at
        made.deadline, made.on_timeout = one.timeout_at, one.on_timeout
        answer = one.recorded_answer()
        made.answer = answer.to_dict() if answer is not None else None
        requirements.append(made)
    paused_runs.adopt(_StoredPause(store, stored), requirements)
