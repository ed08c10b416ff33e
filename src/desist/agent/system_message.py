"""What a model is told first: the system message, made of what the agent was given."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from desist.run.events.base import content_text
from desist.run.options.context import RunContext
from desist.run.records.message import Message
from desist.tools.resolve import tool_instructions

if TYPE_CHECKING:
    from desist.agent.agent import Agent
    from desist.tools.function import Function

__all__ = ["Instructions", "system_message"]

Instructions = str | list[str] | Callable[..., Any]


async def system_message(
    agent: Agent, context: RunContext, functions: Mapping[str, Function], *, add_state: bool = False
) -> Message | None:
    """Return the system message, or None if there is nothing to say.

    Parameters:
        add_state: tell the session's state.
    """
    parts: list[str] = []
    if agent.description:
        parts.append(agent.description)
    if agent.role:
        parts.append(f"Your role: {agent.role}")
    lines = await _instructions(agent.instructions, agent, context)
    if len(lines) == 1:
        parts.append(lines[0])
    elif lines:
        parts.append("\n".join(f"- {line}" for line in lines))
    if agent.markdown and agent.output_schema is None:
        parts.append("Format your answer with Markdown.")
    if agent.expected_output:
        parts.append(f"Expected output: {agent.expected_output}")
    parts += tool_instructions(functions)
    if add_state and context.session_state:
        parts.append(f"<session_state>\n{content_text(context.session_state)}\n</session_state>")
    return Message("system", "\n\n".join(parts)) if parts else None


async def _instructions(instructions: Instructions | None, agent: Agent, context: RunContext) -> list[str]:
    """Return the instructions as lines, calling the function that makes them if they are one."""
    lines: Any = instructions
    if callable(instructions):
        named = {"agent": agent, "run_context": context, "session_state": context.session_state}
        wanted = inspect.signature(instructions).parameters
        lines = instructions(**{name: value for name, value in named.items() if name in wanted})
        if inspect.isawaitable(lines):
            lines = await lines
    if lines is None:
        return []
    return [lines] if isinstance(lines, str) else [str(line) for line in lines]
