"""Models of Anthropic. `Claude` is imported when first used, the SDK (extra `anthropic`) at the first call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from desist.lazy import lazy_names

if TYPE_CHECKING:
    from desist.models.anthropic.claude import Claude

__all__ = ["Claude"]

__getattr__, __dir__ = lazy_names(__name__, {"Claude": "desist.models.anthropic.claude"})
