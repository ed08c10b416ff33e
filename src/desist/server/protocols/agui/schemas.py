"""The AG-UI request that starts a run. Unsupported fields are refused by name."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from desist.server.api.v1_schemas import Id

__all__ = ["RunAgentInput"]

_RunId = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_.:\-]+$")]
#: Unsupported fields, and why.
_REFUSED = {
    "state": "sessions keep their state on the server",
    "tools": "the server can't call tools of the client",
    "context": "put it into the message",
    "forwarded_props": "no component receives them",
    "resume": "no run of this server waits for input",
}


class _ProtocolModel(BaseModel):
    """Ignores unknown fields, which later versions of the protocol may add."""

    model_config = ConfigDict(extra="ignore", alias_generator=to_camel, populate_by_name=True)


class AGUIPart(_ProtocolModel):
    """A part of a message."""

    type: str
    text: str | None = None


class AGUIMessage(_ProtocolModel):
    """A message of the conversation."""

    role: str
    content: str | list[AGUIPart] | None = None


class RunAgentInput(_ProtocolModel):
    """A run to start. The last message is the input; earlier messages are in the session of `threadId`."""

    thread_id: Id = Field(description="The conversation: the run's session.")
    run_id: _RunId = Field(description="The run's id, by which it can be cancelled. Not that of an earlier run.")
    messages: list[AGUIMessage] = Field(
        min_length=1, description="The last one must have the role user and contain only text."
    )
    state: Any = None
    tools: Any = None
    context: Any = None
    forwarded_props: Any = None
    resume: Any = None

    @model_validator(mode="after")
    def _check_supported(self) -> RunAgentInput:
        for name, why in _REFUSED.items():
            if getattr(self, name):
                raise ValueError(f"{to_camel(name)} isn't supported: {why}; leave it out")
        self.text()
        return self

    def text(self) -> str:
        """Return the input.

        Raises:
            ValueError: the last message is not a text of the user.
        """
        last = self.messages[-1]
        parts = last.content if isinstance(last.content, list) else [AGUIPart(type="text", text=last.content)]
        if last.role != "user" or any(part.type != "text" or part.text is None for part in parts):
            raise ValueError("the last message must have the role user and contain only text")
        return "".join(part.text or "" for part in parts)
