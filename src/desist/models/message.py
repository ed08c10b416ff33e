"""Public import path of `Message`. The class is defined in `run.records`, because the output of a run has messages."""

from desist.run.records.message import Message, Role, ToolCall

__all__ = ["Message", "Role", "ToolCall"]
