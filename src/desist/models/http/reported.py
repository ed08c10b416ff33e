"""An error that a provider reports inside of an answer, where no HTTP status tells it. Called by the readers."""

from __future__ import annotations

from typing import Any

from desist.exceptions import ModelError
from desist.models.http.text import truncate
from desist.models.retry import is_retryable

__all__ = ["reported"]

#: Words in a provider's error type or code after which another try may help.
_RETRYABLE_WORDS = ("server_error", "api_error", "overloaded", "rate_limit", "timeout", "unavailable")


def reported(error: Any) -> ModelError:
    """Return the error that `error` describes: usually an object with `message`, `type` and `code`."""
    facts = error if isinstance(error, dict) else {"message": error}
    code = str(facts.get("code"))
    status = int(code) if code.isdecimal() and len(code) == 3 and code[0] in "45" else None
    kind = f"{facts.get('type')} {code}".lower()
    retryable = is_retryable(status) if status else any(word in kind for word in _RETRYABLE_WORDS)
    said = truncate(str(facts.get("message") or error))
    return ModelError(f"the provider reported an error: {said}", status_code=status, retryable=retryable)
