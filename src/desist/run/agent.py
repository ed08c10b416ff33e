"""Public import path of an agent's events and output.

The classes are defined in `events.agent_base`, `events.agent` and `outputs.agent`; `RunOutputEvent` is defined here.
"""

from typing import TypeAlias

from desist.run.events import agent, agent_base
from desist.run.events.agent import *  # noqa: F403
from desist.run.events.agent_base import *  # noqa: F403
from desist.run.events.agent_base import BaseAgentRunEvent
from desist.run.events.base import CancelRecord, RunStatus
from desist.run.outputs.agent import RunOutput

#: Any event of an agent's stream. Supports `isinstance`.
RunOutputEvent: TypeAlias = BaseAgentRunEvent

__all__ = ["CancelRecord", "RunOutput", "RunOutputEvent", "RunStatus"]
__all__ += agent.__all__
__all__ += agent_base.__all__
