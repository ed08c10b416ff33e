"""The options of one run: keywords of `run`, `arun` and `print_response`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any, TypedDict

from desist.exceptions import ConfigurationError
from desist.run.execution.cleanup import check_hook
from desist.run.execution.run import Run
from desist.run.options.budget import Budget
from desist.run.options.deadline import seconds_until
from desist.run.options.durable_limits import DurableLimits
from desist.run.options.numbers import check_number
from desist.run.options.strict import refuse_unknown
from desist.run.records.ids import id_text

__all__ = ["AgentOptions", "RunOptions", "SubmitOptions", "WorkflowOptions", "apply_limits", "validate_options"]


class RunOptions(TypedDict, total=False):
    """Options of agents and workflows. An option that is left out, or None, is as set on the agent or workflow."""

    run_id: str | None  #: an id for the run; an earlier cancel of this id applies
    user_id: str | None
    session_id: str | None
    session_state: dict[str, Any] | None
    dependencies: dict[str, Any] | None
    metadata: dict[str, Any] | None
    timeout: float | None  #: seconds after which the run is cancelled, with source `deadline`
    deadline: dt.datetime | float | None  #: the same as a time: an aware datetime, or seconds since the epoch
    budget: Budget | None  #: limits for the run and all runs that it starts; beyond them it is cancelled
    on_cancel: Callable[..., Any] | None  #: called with the output if the run is cancelled


class AgentOptions(RunOptions, total=False):
    """Options of an agent's run."""

    add_history_to_context: bool | None
    add_session_state_to_context: bool | None


class WorkflowOptions(RunOptions, total=False):
    """Options of a workflow's run."""

    additional_data: dict[str, Any] | None  #: steps get it as `step_input.additional_data`
    images: list[Any] | None  #: function steps get it as `step_input.images`, and so on; agents do not
    videos: list[Any] | None
    audio: list[Any] | None
    files: list[Any] | None


class SubmitOptions(WorkflowOptions, total=False):
    """Options of a submitted run."""

    priority: int  #: runs of a workflow with a higher one are claimed first; 0 if it is left out
    delay: float | None  #: seconds until it may be claimed
    at: dt.datetime | float | None  #: when it may be claimed: an aware datetime, or seconds since the epoch
    concurrency_key: str | None  #: runs with one key are executed one after the other, or as many as the limit says
    dedup_key: str | None  #: while a run with this key waits, no other is queued, and the handle is that run's


_DICTS = frozenset({"session_state", "dependencies", "metadata", "additional_data"})
_LISTS = frozenset({"images", "videos", "audio", "files"})


def validate_options(where: str, values: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """Return all options of `kind`, None for those that are left out.

    Raises:
        UnsupportedError: an unknown option; the message names it.
        ConfigurationError: a value can't be used.
    """
    known = kind.__annotations__
    refuse_unknown(where, {name: value for name, value in values.items() if name not in known})
    options = {name: values.get(name) for name in known}
    for name in ("run_id", "session_id", "user_id"):
        options[name] = id_text(options[name], name)
    check_hook(options["on_cancel"], f"on_cancel= of {where}")
    seconds_until(options["deadline"])
    check_number(options["timeout"], "timeout", f"of {where}")
    if not isinstance(options["budget"], Budget | None):
        raise ConfigurationError(f"budget= of {where} must be a Budget, not {options['budget']!r:.80}")
    for name in _DICTS & known.keys():
        if not isinstance(options[name], dict | None):
            raise ConfigurationError(f"{name}= of {where} must be a dict, not {options[name]!r:.80}")
    for name in _LISTS & known.keys():
        if not isinstance(options[name], list | tuple | None):
            raise ConfigurationError(f"{name}= of {where} must be a list, not {options[name]!r:.80}")
    return options


def apply_limits(run: Run, options: Mapping[str, Any]) -> None:
    """Set the limits of a run that has not started, and whether its id must be claimed before it starts."""
    if options["run_id"] is not None:
        run.ownership.require_claim()
    durable: DurableLimits | None = options.get("kept")
    if durable is not None:  # a resumed run: the limits of its first start hold
        run.limits.durable.spent = durable.spent
        for limit in durable.limits:
            run.limits.set_deadline(limit.seconds, limit.what, until=limit.until)
        run.limits.set_budget(durable.budget)
        return
    run.limits.set_deadline(options["timeout"], "the timeout of this run")
    run.limits.set_deadline(seconds_until(options["deadline"]), "the deadline of this run")
    run.limits.set_budget(options["budget"])
