"""What can be said about one run, as keywords of `run`, `arun` and `print_response` alike."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any, TypedDict

from desist.run.execution.cleanup import check_hook
from desist.run.execution.run import Run
from desist.run.options.budget import Budget
from desist.run.options.deadline import seconds_until
from desist.run.options.durable_limits import DurableLimits
from desist.run.options.strict import refuse_unknown

__all__ = ["AgentOptions", "RunOptions", "WorkflowOptions", "apply_limits", "validate_options"]


class RunOptions(TypedDict, total=False):
    """One run of an agent or workflow. What is left out, or None, is as the agent or workflow has it."""

    run_id: str | None  #: an id for the run; a cancel that came before, for this id, holds
    user_id: str | None
    session_id: str | None
    session_state: dict[str, Any] | None
    dependencies: dict[str, Any] | None
    metadata: dict[str, Any] | None
    timeout: float | None  #: seconds after which the run is cancelled, with source `deadline`
    deadline: dt.datetime | float | None  #: the same as a time: an aware datetime, or seconds since the epoch
    budget: Budget | None  #: what the run and all that it starts may spend; past it the run is cancelled
    on_cancel: Callable[..., Any] | None  #: cleans up if the run is cancelled; it is given the output


class AgentOptions(RunOptions, total=False):
    """One run of an agent."""

    add_history_to_context: bool | None
    add_session_state_to_context: bool | None


class WorkflowOptions(RunOptions, total=False):
    """One run of a workflow."""

    additional_data: dict[str, Any] | None  #: what steps find as `step_input.additional_data`
    images: list[Any] | None  #: what function steps find as `step_input.images`, and so on; agents aren't given them
    videos: list[Any] | None
    audio: list[Any] | None
    files: list[Any] | None


def validate_options(where: str, values: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """Return all options of `kind`, None where nothing is given.

    Raises:
        UnsupportedError: an option that there isn't, by name.
        ConfigurationError: a value can't be used.
    """
    known = kind.__annotations__
    refuse_unknown(where, {name: value for name, value in values.items() if name not in known})
    options = {name: values.get(name) for name in known}
    check_hook(options["on_cancel"], f"on_cancel= of {where}")
    seconds_until(options["deadline"])
    return options


def apply_limits(run: Run, options: Mapping[str, Any]) -> None:
    """Put what `options` say on a run that hasn't started: its limits, and whether others may know its id."""
    if options["run_id"] is not None:
        run.require_claim()
    kept: DurableLimits | None = options.get("kept")
    if kept is not None:  # it goes on: its limits are those that it was started with
        run.options.spent = kept.spent
        for limit in kept.limits:
            run.set_deadline(limit.seconds, limit.what, until=limit.until)
        run.set_budget(kept.budget)
        return
    run.set_deadline(options["timeout"], "the timeout of this run")
    run.set_deadline(seconds_until(options["deadline"]), "the deadline of this run")
    run.set_budget(options["budget"])
