"""The public place of `Message`; the class lives in `desist.run.message`, because a run's record holds it."""

from desist.run.message import Message, Role, ToolCall

__all__ = ["Message", "Role", "ToolCall"]
