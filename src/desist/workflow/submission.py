"""Queueing runs for workers. `Workflow.submit`, `submitted` and `open_from_queue` are the public methods.

A queued run is the id of its workflow and JSON, in the database that the workers share. A worker claims the record and
opens the run with `open_from_queue`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from desist.exceptions import ConfigurationError, UnsupportedError
from desist.run.component.continuation import ContinuationOpener
from desist.run.component.options import WorkflowOptions, validate_options
from desist.run.component.submitted_run import SubmittedRun
from desist.run.component.submitted_runs import SubmittedRuns
from desist.run.execution.run import Run, new_id
from desist.run.options.budget import Budget
from desist.run.options.deadline import seconds_until
from desist.run.options.numbers import check_number
from desist.run.options.parent_context import ParentContext
from desist.run.outputs.input import check_input
from desist.run.outputs.workflow import WorkflowRunOutput
from desist.run.records.ids import id_text
from desist.run.records.json_values import to_json_value
from desist.run.storage.queue_store import ClaimedRun, QueueRequest, QueueStore, queue_store
from desist.run.storage.values import StoredRun
from desist.value_type import ValueType
from desist.workflow.schedule import check_cron, next_time
from desist.workflow.validation import checked_input

__all__ = ["Submission"]

log = logging.getLogger("desist.run")

#: The options of a run that can't be sent to another process, and why.
_NOT_SENDABLE = {
    "on_cancel": "a function can't be sent to another process: give it to the Workflow",
    **dict.fromkeys(
        ("images", "videos", "audio", "files"),
        "media can't be sent to another process: put URLs or paths into the input",
    ),
}
_BUDGET = ("tokens", "tool_calls", "model_calls", "cost")


class Submittable(ContinuationOpener, Protocol):
    """What `Submission` needs of a workflow."""

    id: str
    name: str | None
    on_crash: str

    def input_type(self) -> ValueType | None:
        """Return the type of the input."""

    def check(self) -> None:
        """Raise ConfigurationError if the workflow can't run."""

    def parent_context(self, options: Mapping[str, Any]) -> ParentContext:
        """Return the context of a new run."""


class Submission:
    """Queues runs of one workflow for workers, and opens queued runs in workers."""

    def __init__(self, workflow: Submittable) -> None:
        self._workflow = workflow

    def submit(self, input: Any, options: Mapping[str, Any]) -> SubmittedRun:
        """Check and queue a run; see `Workflow.submit`."""
        return self._submit([input], options, "Workflow.submit()")[0]

    def submit_many(self, inputs: Iterable[Any], options: Mapping[str, Any]) -> SubmittedRuns:
        """Check and queue runs, all or none; see `Workflow.submit_many`."""
        if options.get("run_id") is not None or options.get("dedup_key") is not None:
            raise ConfigurationError("submit_many() takes no run_id= or dedup_key=: each run has its own")
        return SubmittedRuns(self._submit(list(inputs), options, "Workflow.submit_many()"), store=self._store())

    def schedule(self, cron: str, input: Any, name: str, timezone: str, options: Mapping[str, Any]) -> str:
        """Check and store a schedule; see `Workflow.schedule`."""
        where, store = "Workflow.schedule()", self._store()
        check_cron(cron, timezone)
        for option in ("run_id", "deadline", "at"):
            if options.get(option) is not None:
                raise ConfigurationError(f"{where} takes no {option}=: it would be the same for each run")
        self._requests([input], options, where)  # refuses now what each submission would refuse
        kept = _require_json(dict(options), f"the options of {where}")
        request = msgspec.json.encode({"input": to_json_value(input), "options": kept}).decode()
        at = next_time(cron, timezone, time.time())
        store.store_schedule(name, self._workflow.id, cron, timezone, request, at)
        return name

    def _submit(self, inputs: Sequence[Any], options: Mapping[str, Any], where: str) -> list[SubmittedRun]:
        workflow, store = self._workflow, self._store()
        requests = self._requests(inputs, options, where)
        run_ids = store.queue_runs(requests) if requests else []
        for run_id in run_ids if len(run_ids) == 1 else ():
            log.info("workflow run %s waits for a worker", run_id, extra={"run_id": run_id})
        return [
            SubmittedRun(run_id, store=store, workflow_id=workflow.id, session_id=request.run.session_id)
            for run_id, request in zip(run_ids, requests, strict=True)
        ]

    def _requests(self, inputs: Sequence[Any], options: Mapping[str, Any], where: str) -> list[QueueRequest]:
        """Check everything that can be checked before a run is queued."""
        workflow = self._workflow
        what = f"workflow {workflow.id!r}"
        queueing, options = _queue_options(options)
        checked = validate_options(where, options, WorkflowOptions)
        for name, why in _NOT_SENDABLE.items():
            if checked[name] is not None:
                raise UnsupportedError(f"{where} can't take {name}=: {why}")
        workflow.check()
        packed, input_type = _packed(checked, where), workflow.input_type()
        requests: list[QueueRequest] = []
        for input in inputs:
            check_input(input, what, required=False)
            sendable = _require_json(checked_input(input_type, input, what), f"the input of {what}")
            run = self._queued(sendable, checked)
            requests.append(QueueRequest(run, packed, given_id=checked["run_id"] is not None, **queueing))
        return requests

    def _store(self) -> QueueStore:
        store = queue_store(self._workflow.store)
        if store is None:
            raise ConfigurationError(
                f"submit() of workflow {self._workflow.id!r} needs a database that its workers share:"
                " db=PostgresDb(...), or SqliteDb(...) on one machine"
            )
        return store

    def find(self, run_id: str) -> SubmittedRun:
        """Return the handle of a run that was submitted before."""
        workflow = self._workflow
        store = queue_store(workflow.store)
        found = store.load_run(run_id) if store is not None else None
        if store is None or found is None or found.owner_id != workflow.id:
            raise ConfigurationError(f"there is no run {run_id!r} of workflow {workflow.id!r} in its database")
        return SubmittedRun(run_id, store=store, workflow_id=workflow.id, session_id=found.session_id)

    def _queued(self, input: Any, options: dict[str, Any]) -> StoredRun:
        """Return the run as it is stored while it is queued."""
        workflow = self._workflow
        parent, run_id = workflow.parent_context(options), options["run_id"] or new_id()
        output = WorkflowRunOutput(
            input=input,
            workflow_id=workflow.id,
            workflow_name=workflow.name,
            run_id=run_id,
            session_id=parent.session_id,
            user_id=parent.user_id,
            metadata=_require_json(parent.metadata, "metadata="),
            additional_data=_require_json(options["additional_data"], "additional_data="),
        )
        return StoredRun(
            run_id=run_id,
            kind="workflow",
            status=output.status,
            output=output,
            root_run_id=run_id,
            session_id=parent.session_id,
            owner_id=workflow.id,
            user_id=parent.user_id,
            resumable=workflow.on_crash == "resume",
        )

    # -- for workers

    def open(self, claimed: ClaimedRun) -> Run:
        """Register a claimed run, to be started here; see `Workflow.open_from_queue`."""
        run_id = claimed.run.run_id
        values = {"run_id": run_id, **_unpacked(claimed.options)}
        options = validate_options("Workflow.submit()", values, WorkflowOptions)
        if claimed.run.options is not None:  # started before: the limits of the first start hold
            options["kept"] = claimed.run.options.with_price(None)
        options["first_event"] = claimed.run.next_event
        options["new_session"] = claimed.new_session
        run = self._workflow.open_continuation(
            claimed.run.output, options, stream=True, stream_events=True, replay=True
        )
        run.body.output.continued_from = None  # the same run, not a new one that continues it
        return run


def _queue_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields of a `QueueRequest`, and the options of the run.

    Raises:
        ConfigurationError: a value is invalid.
    """
    rest = dict(options)
    priority, delay, at = rest.pop("priority", 0), rest.pop("delay", None), rest.pop("at", None)
    keys = {name: id_text(rest.pop(name, None), name) for name in ("concurrency_key", "dedup_key")}
    if not isinstance(priority, int) or isinstance(priority, bool) or abs(priority) >= 2**31:
        raise ConfigurationError(f"priority={priority!r:.80} must be a whole number of 32 bits")
    if at is not None and delay is not None:
        raise ConfigurationError("submit() takes at= or delay=, not both")
    check_number(delay, "delay", "of submit()")
    due_at = time.time() + left if (left := seconds_until(at, "at")) else None
    return {"priority": priority, "delay": delay, "due_at": due_at, **keys}, rest


def _packed(options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the options that are not part of the stored run, as JSON values."""
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
            raise UnsupportedError(f"{where} can't take a budget with price=: a function can't be stored")
        packed["budget"] = {name: getattr(budget, name) for name in _BUDGET if getattr(budget, name) is not None}
    return packed


def _unpacked(packed: Mapping[str, Any]) -> dict[str, Any]:
    budget = packed.get("budget")
    return {**packed, **({"budget": Budget(**budget)} if budget else {})}


def _require_json(value: Any, what: str) -> Any:
    """Return a value as JSON values.

    Raises:
        ConfigurationError: a part of the value would change its type or value; the message says which.
    """
    made = to_json_value(value)
    wrong = _changed(value.model_dump(mode="json") if hasattr(value, "model_dump") else value, made, "")
    if wrong:
        raise ConfigurationError(
            f"{what} can't be sent to another process: {wrong}. Give text, numbers, lists and dicts"
        )
    return made


def _changed(value: Any, made: Any, path: str) -> str | None:
    """Return a description of the first part of a value that differs from its JSON value, or None."""
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
