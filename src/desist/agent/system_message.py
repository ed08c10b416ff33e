"""The system message of an agent, made from its settings."""

from __future__ import annotations

import inspect
from typing import Any

from desist.agent.config import AgentConfig, Instructions
from desist.run.events.base import content_text
from desist.run.options.context import RunContext
from desist.run.records.message import Message
from desist.tools.resolve import tool_instructions

__all__ = ["system_message"]


async def system_message(config: AgentConfig, context: RunContext, *, add_state: bool) -> Message | None:
    """Return the system message, or None if the agent has no settings that belong into one.

    Parameters:
        add_state: include the session state.
    """
    parts: list[str] = []
    if config.description:
        parts.append(config.description)
    if config.role:
        parts.append(f"Your role: {config.role}")
    lines = await _instructions(config.instructions, config.agent, context)
    if len(lines) == 1:
        parts.append(lines[0])
    elif lines:
        parts.append("\n".join(f"- {line}" for line in lines))
    if config.markdown and config.answer_type is None:
        parts.append("Format your answer with Markdown.")
    if config.expected_output:
        parts.append(f"Expected output: {config.expected_output}")
    parts += tool_instructions(config.functions)
    if add_state and context.session_state:
        parts.append(f"<session_state>\n{content_text(context.session_state)}\n</session_state>")
    return Message("system", "\n\n".join(parts)) if parts else None


async def _instructions(instructions: Instructions | None, agent: Any, context: RunContext) -> list[str]:
    """Return the instructions as lines; a function is called, with those parameters that it has."""
    lines: Any = instructions
    if callable(instructions):
        named = {"agent": agent, "run_context": context, "session_state": context.session_state}
        parameters = inspect.signature(instructions).parameters
        lines = instructions(**{name: value for name, value in named.items() if name in parameters})
        if inspect.isawaitable(lines):
            lines = await lines
    if lines is None:
        return []
    return [lines] if isinstance(lines, str) else [str(line) for line in lines]
