"""Models of OpenAI and of servers that speak its protocol."""

from desist.models.openai.chat import OpenAIChat

__all__ = ["OpenAIChat"]
