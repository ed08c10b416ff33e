"""Leaving a run to the workers: `Submission` is a base of `Workflow`.

What is submitted travels as the workflow's id and JSON, through the database that workers share. It knows nothing of
who drives: a worker finds the record, and opens the run as `open_from_queue` says.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any, Unpack

from desist.exceptions import ConfigurationError, UnsupportedError
from desist.run.component.awaitable import awaitable
from desist.run.component.options import WorkflowOptions, validate_options
from desist.run.component.submitted_run import SubmittedRun
from desist.run.execution.run import Run, new_id
from desist.run.options.budget import Budget
from desist.run.options.deadline import seconds_until
from desist.run.options.parent_context import ParentContext
from desist.run.outputs.input import check_input
from desist.run.outputs.workflow import WorkflowRunOutput
from desist.run.records.json_values import to_json_value
from desist.run.storage.queue_store import ClaimedRun, queue_store
from desist.run.storage.store import RunStore
from desist.run.storage.values import StoredRun
from desist.workflow.validation import checked_input

__all__ = ["Submission"]

log = logging.getLogger("desist.run")

#: What of a run's options can't be written down for another process, and why.
_STAYS = {
    "on_cancel": "a function can't travel: give it to the Workflow",
    **dict.fromkeys(("images", "videos", "audio", "files"), "media can't travel: put where they are into the input"),
}
_BUDGET = ("tokens", "tool_calls", "model_calls", "cost")


class Submission:
    """What a workflow can do with runs that workers drive."""

    id: str
    name: str | None
    on_crash: str
    input_schema: type[Any] | None

    @property
    def store(self) -> RunStore:
        """Where runs are recorded."""
        raise NotImplementedError

    def check(self) -> None:
        """Find out what would keep it from running."""
        raise NotImplementedError

    def _parent_context(self, options: dict[str, Any]) -> ParentContext:
        raise NotImplementedError

    def _open_continuation(
        self, earlier: Any, options: dict[str, Any], *, stream: bool, stream_events: bool | None, replay: bool = False
    ) -> Run:
        raise NotImplementedError

    def submit(self, input: Any = None, **options: Unpack[WorkflowOptions]) -> SubmittedRun:
        """Leave a run to the workers that have this workflow; return at once, with what stops it and waits for it.

        It is durable when this returns: it waits, `PENDING`, until a worker takes it, however long that takes. Workers
        are started with `desist worker`, or are a `desist.engine.Worker` of some process.

        Parameters:
            input: as for `run`; a pydantic object travels as its fields.
            options: as for `run`, if JSON can hold them. `timeout` counts from the start of the run, `deadline` from
                now on. Of a `budget`, `cost` can't travel: it needs a function.

        Returns:
            SubmittedRun: with `run_id`, `status`, `wait`, `result`, `cancel`; `await` it for the output.

        Raises:
            ConfigurationError: the workflow has no database that processes share, or something can't travel.
            UnsupportedError: an option that desist doesn't have, or that can't travel.
            RunIdInUseError: there is a run with this id, live or ended.
            StoreError: it isn't known to be recorded.
        """
        what, where = f"workflow {self.id!r}", "Workflow.submit()"
        store = queue_store(self.store)
        if store is None:
            raise ConfigurationError(f"submit() of {what} needs a database that its workers share: db=PostgresDb(...)")
        given = validate_options(where, options, WorkflowOptions)
        for name, why in _STAYS.items():
            if given[name] is not None:
                raise UnsupportedError(f"{where} can't take {name}=: {why}")
        check_input(input, what, required=False)
        asked = _require_json(checked_input(self.input_schema, input, what), f"the input of {what}")
        self.check()
        run = self._queued(asked, given)
        store.queue_run(run, _packed(given, where))
        log.info("workflow run %s waits for a worker", run.run_id, extra={"run_id": run.run_id})
        return SubmittedRun(run.run_id, store=store, workflow_id=self.id, session_id=run.session_id)

    asubmit = awaitable(submit)

    def submitted(self, run_id: str) -> SubmittedRun:
        """Return what stops and waits for a run of this workflow that was submitted before, here or elsewhere.

        Raises:
            ConfigurationError: there is no such run, or no database that processes share.
        """
        store = queue_store(self.store)
        found = store.load_run(run_id) if store is not None else None
        if store is None or found is None or found.owner_id != self.id:
            raise ConfigurationError(f"there is no run {run_id!r} of workflow {self.id!r} in its database")
        return SubmittedRun(run_id, store=store, workflow_id=self.id, session_id=found.session_id)

    def _queued(self, input: Any, options: dict[str, Any]) -> StoredRun:
        """Return the run as it is recorded while it waits."""
        place, run_id = self._parent_context(options), options["run_id"] or new_id()
        output = WorkflowRunOutput(
            input=input,
            workflow_id=self.id,
            workflow_name=self.name,
            run_id=run_id,
            session_id=place.session_id,
            user_id=place.user_id,
            metadata=_require_json(place.metadata, "metadata="),
            additional_data=_require_json(options["additional_data"], "additional_data="),
        )
        return StoredRun(
            run_id=run_id,
            kind="workflow",
            status=output.status,
            output=output,
            root_run_id=run_id,
            session_id=place.session_id,
            owner_id=self.id,
            user_id=place.user_id,
            resumable=self.on_crash == "resume",
        )

    # -- for workers

    def open_from_queue(self, claimed: ClaimedRun) -> Run:
        """Register a run that this process has taken, and that is to be started here. For workers.

        Raises:
            DesistError: it can't go on: the steps are others now, or the input doesn't fit any more.
        """
        run_id = claimed.run.run_id
        given = {"run_id": run_id, **_unpacked(claimed.options)}
        options = validate_options("Workflow.submit()", given, WorkflowOptions)
        if claimed.run.options is not None:  # it has begun before: its limits are those that it was started with
            options["kept"] = claimed.run.options.with_price(None)
        options["first_event"] = claimed.run.next_event
        run = self._open_continuation(claimed.run.output, options, stream=True, stream_events=True, replay=True)
        run.body.output.continued_from = None  # it is the same run
        return run


def _packed(options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the options that aren't part of the record, as JSON can hold them."""
    packed: dict[str, Any] = {}
    for name in ("session_state", "dependencies"):
        if options[name] is not None:
            packed[name] = _require_json(options[name], f"{name}= of {where}")
    if options["timeout"] is not None:
        packed["timeout"] = options["timeout"]
    until = seconds_until(options["deadline"])
    if until is not None:
        packed["deadline"] = time.time() + until
    budget: Budget | None = options["budget"]
    if budget is not None:
        if budget.price is not None:
            raise UnsupportedError(f"{where} can't take a budget with price=: a function can't travel")
        packed["budget"] = {name: getattr(budget, name) for name in _BUDGET if getattr(budget, name) is not None}
    return packed


def _unpacked(packed: Mapping[str, Any]) -> dict[str, Any]:
    budget = packed.get("budget")
    return {**packed, **({"budget": Budget(**budget)} if budget else {})}


def _require_json(value: Any, what: str) -> Any:
    """Return a value made of what JSON has.

    Raises:
        ConfigurationError: something in it would arrive as something else; the message says what and where.
    """
    made = to_json_value(value)
    wrong = _changed(value.model_dump(mode="json") if hasattr(value, "model_dump") else value, made, "")
    if wrong:
        raise ConfigurationError(
            f"{what} can't travel to another process: {wrong}. Give text, numbers, lists and dicts"
        )
    return made


def _changed(value: Any, made: Any, path: str) -> str | None:
    """Say which part of a value isn't what became of it, or None."""
    if isinstance(value, dict) and isinstance(made, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                return f"the key {key!r:.40}{f' in {path}' if path else ''} is of type {type(key).__name__}"
            if found := _changed(item, made.get(key), f"{path}[{key!r}]"):
                return found
        return None
    if isinstance(value, list | tuple) and isinstance(made, list):
        for number, item in enumerate(value):
            if found := _changed(item, made[number], f"{path}[{number}]"):
                return found
        return None
    if type(value) in (str, int, float, bool, type(None)) and value == made:
        return None
    if type(value) is not type(made):
        return f"{path or 'it'} is of type {type(value).__name__}"
    return f"{path or 'it'} is {value!r:.40}"
