"""`AgentConfig`: the settings of an agent, as one run uses them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from desist.models.base import Model
from desist.tools.function import Function
from desist.value_type import ValueType

__all__ = ["AgentConfig", "Instructions"]

Instructions = str | list[str] | Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """Made by `Agent.config` when a run is opened: later changes of the agent are for later runs."""

    agent: Any  #: the Agent, passed to tools and instructions that ask for `agent`
    id: str
    name: str | None
    model: Model
    functions: Mapping[str, Function]  #: the tools by name
    instructions: Instructions | None
    description: str | None
    role: str | None
    expected_output: str | None
    markdown: bool
    answer_type: ValueType | None  #: of `output_schema`
    tool_choice: str | dict[str, Any] | None
    tool_call_limit: int | None
    add_session_state_to_context: bool
    add_history_to_context: bool
    num_history_runs: int
    retries: int
    delay_between_retries: float
    exponential_backoff: bool
    stall_timeout: float | None
    on_cancel: Callable[..., Any] | None
