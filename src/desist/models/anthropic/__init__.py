"""Models of Anthropic. `Claude` is loaded when first used, the SDK (extra `anthropic`) when it is first called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from desist.models.anthropic.claude import Claude

__all__ = ["Claude"]


def __getattr__(name: str) -> Any:
    if name != "Claude":
        raise AttributeError(f"module 'desist.models.anthropic' has no attribute {name!r}")
    import importlib

    value = globals()[name] = importlib.import_module("desist.models.anthropic.claude").Claude
    return value
