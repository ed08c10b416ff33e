"""Says no to the parameters of tools that desist doesn't have. Called by every constructor of this floor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from desist.exceptions import UnsupportedError

__all__ = ["refuse"]

#: Known from the API that we follow, and not here yet. Switched off, they have the effect they ask for: none.
_NOT_YET = frozenset(
    {
        "approval_type",
        "cache_dir",
        "cache_results",
        "cache_ttl",
        "external_execution",
        "external_execution_required_tools",
        "external_execution_silent",
        "has_side_effects",
        "id",
        "requires_confirmation",
        "requires_confirmation_tools",
        "requires_user_input",
        "sanitize_arguments",
        "tool_hooks",
        "user_input_fields",
    }
)


def refuse(where: str, given: Mapping[str, Any]) -> None:
    """Raise `UnsupportedError` for the first parameter in `given`, unless it is a known one that is switched off."""
    for name, value in given.items():
        if name not in _NOT_YET:
            raise UnsupportedError(f"{where} has no parameter '{name}'")
        if value not in (None, False, [], ()):
            raise UnsupportedError(f"{where}: '{name}' is not supported yet: leave it out (got {value!r})")
