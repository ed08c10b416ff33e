"""The tool calls of a turn that wait for a human, and what becomes of each when the run goes on.

A call waits as a `ToolExecution` without a result and a `RunRequirement`. When the run continues, each is called once,
or gets the result that the answer says.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from desist.exceptions import ConfigurationError, ToolError
from desist.run.records.json_values import to_json_value
from desist.run.records.message import ToolExecution
from desist.run.records.requirement import Requirement
from desist.run.records.run_requirement import RunRequirement
from desist.tools.arguments import parse_arguments

if TYPE_CHECKING:
    from desist.tools.function import Function

__all__ = ["REJECTED", "check_edit", "describe_waiting", "requirement_for", "resolution_of", "stored_requirements"]

#: The result of a call that a human did not allow.
REJECTED = "A human has rejected this call: the tool was not called."


def requirement_for(function: Function, arguments: str | None, execution: ToolExecution) -> RunRequirement:
    """Mark a call as waiting, and return what it waits for.

    Raises:
        ToolError: the arguments of the model are invalid: nobody is asked.
    """
    human = function.human
    given = to_json_value(parse_arguments(arguments, function.name))
    if not human.requires_user_input or human.asks:
        function.bind(given)  # nobody is asked about a call that can't be made
    execution.tool_args = given
    execution.requires_confirmation = human.requires_confirmation or None
    if human.requires_user_input:
        execution.requires_user_input = True
        if human.asks == "questions":
            execution.user_feedback_schema = human.questions(given)
        else:
            execution.user_input_schema = human.fields(function.parameters, given)
    if human.external_execution:
        execution.external_execution_required = True
        execution.external_execution_silent = human.external_execution_silent or None
    return RunRequirement(
        tool_execution=execution,
        user_input_schema=execution.user_input_schema,
        user_feedback_schema=execution.user_feedback_schema,
    )


def stored_requirements(
    waiting: Sequence[RunRequirement], functions: Mapping[str, Function], run_id: str, root_run_id: str
) -> list[Requirement]:
    """Return what a run waits for, as a store decides about it. The deadlines count from now."""
    made = []
    for one in waiting:
        function = functions.get((one.tool_execution.tool_name if one.tool_execution else None) or "")
        stored = one.as_stored(run_id, root_run_id, function.parameters if function is not None else None)
        timeout = function.human.timeout if function is not None else None
        if function is not None and timeout is not None:
            stored = replace(stored, deadline=time.time() + timeout, on_timeout=function.human.on_timeout)
        one.timeout_at, one.on_timeout = stored.deadline, stored.on_timeout
        made.append(stored)
    return made


def resolution_of(execution: ToolExecution, requirement: Requirement) -> tuple[str | None, dict[str, Any] | None]:
    """Return the result that an answer gives to a call, or the arguments to call the tool with.

    Raises:
        ToolError: the call was rejected; the message is for the model.
    """
    answer = requirement.answer or {"decision": "reject"}
    decision = answer["decision"]
    if decision == "reject":
        raise ToolError(answer.get("note") or REJECTED)
    if decision == "result":
        return str(answer["result"]), None
    if decision == "feedback":
        return msgspec.json.encode(answer["values"]).decode(), None
    if decision == "edit":
        return None, dict(answer["arguments"])
    arguments = dict(execution.tool_args or {})
    if "user_input_fields" in arguments and decision == "input":  # of `UserControlFlowTools`
        return msgspec.json.encode(answer["values"]).decode(), None
    return None, arguments | answer["values"] if decision == "input" else arguments


def check_edit(function: Function | None, arguments: Mapping[str, Any], where: str) -> None:
    """Check edited arguments against the tool.

    Raises:
        ConfigurationError: the tool does not take them.
    """
    if function is None:
        return
    try:
        function.bind(arguments)
    except ToolError as error:
        raise ConfigurationError(f"{where}: {error}") from error


def describe_waiting(waiting: Sequence[RunRequirement]) -> str | None:
    """Return what a paused run waits for, as a sentence for people; None if it waits silently."""
    words = {
        "confirmation": "to be confirmed",
        "user_input": "values from a human",
        "user_feedback": "a choice of a human",
        "external_execution": "a result from outside",
    }
    shown = [one for one in waiting if not one.external_execution_silent]
    if not shown:
        return None
    names = [one.tool_execution.tool_name if one.tool_execution else "?" for one in shown]
    calls = [f"{name} ({words[one.pause_type]})" for name, one in zip(names, shown, strict=True)]
    return f"The run is paused. These tool calls wait: {', '.join(calls)}."
