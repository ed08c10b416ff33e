"""A paused run of an agent that goes on: its conversation, and the calls that were waiting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from desist.agent.conversation import Conversation
from desist.agent.tool_calls import ToolCallBatch, result_message
from desist.run.outputs.agent import RunOutput
from desist.run.records.message import Message, ToolCall
from desist.run.records.requirement import Requirement
from desist.run.records.run_requirement import RunRequirement

if TYPE_CHECKING:
    from desist.run.execution.run import Run

__all__ = ["AgentResume", "stopped_answer"]


class AgentResume:
    """The state of a paused run, put into the conversation of the `Run` that continues it.

    Nothing is shared with the output of the paused run, which the program has.

    Parameters:
        conversation: of the new `Run`; still empty.
        answers: the requirements of the pause, all resolved.
    """

    def __init__(self, conversation: Conversation, paused: RunOutput, answers: Sequence[Requirement]) -> None:
        self._conversation = conversation
        self._answers = {one.requirement_id: one for one in answers}
        conversation.messages.extend(paused.messages or [])
        self.executions = [replace(one) for one in paused.tools or []]
        conversation.executions.extend(self.executions)
        conversation.tool_calls = len(self.executions)
        if paused.metrics is not None:
            conversation.metrics = replace(paused.metrics)
        by_call = {one.tool_call_id: one for one in self.executions}
        self.requirements: list[RunRequirement] = []
        for one in paused.requirements or []:
            made = RunRequirement.from_dict(one.to_dict())
            execution = made.tool_execution
            if execution is not None and execution.tool_call_id in by_call:
                made.tool_execution = by_call[execution.tool_call_id]
            if (answer := self._answers.get(made.id)) is not None:
                made.apply(answer)
            self.requirements.append(made)

    async def make_calls(self, run: Run, batch: ToolCallBatch) -> Message | None:
        """Make the calls that were waiting. Return the answer if one of their tools ends the run.

        The results of the turn stand in the messages in the order of the calls.
        """
        messages = self._conversation.messages
        position = max(number for number, message in enumerate(messages) if message.tool_calls)
        asked = messages[position]
        by_call = {one.tool_call_id: one for one in self.executions}
        answers = {
            one.tool_execution.tool_call_id: self._answers[one.id]
            for one in self.requirements
            if one.tool_execution is not None and one.id in self._answers and one.tool_execution.tool_call_id
        }
        calls = [call for call in asked.tool_calls or () if call.id in answers]
        for execution in self.executions:
            if execution.ended_at is not None:
                run.checkpoint("tool", execution)
        await batch.resume_all(calls, [by_call[call.id] for call in calls], answers)
        results = [result_message(by_call[call.id]) for call in asked.tool_calls or () if call.id in by_call]
        run.commit(lambda: messages.__setitem__(slice(position + 1, None), results))
        return (
            stopped_answer(self._conversation, asked.content) if batch.stop or self._stops(asked.tool_calls) else None
        )

    def _stops(self, calls: Sequence[ToolCall] | None) -> bool:
        """Return whether a tool that was called before the pause ends the run after this turn."""
        ids = {call.id for call in calls or ()}
        return any(
            one.stop_after_tool_call and not one.tool_call_error for one in self.executions if one.tool_call_id in ids
        )


def stopped_answer(conversation: Conversation, otherwise: str | None) -> Message:
    """Return the answer of a run that a tool has ended: the last result."""
    shown = [one.result for one in conversation.executions if one.result and one.tool_call_error is False]
    return Message("assistant", shown[-1] if shown else otherwise)
