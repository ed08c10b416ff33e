"""The public place of `Message`; the class lives in `desist.run.records.message`, because a run's record holds it."""

from desist.run.records.message import Message, Role, ToolCall

__all__ = ["Message", "Role", "ToolCall"]
