"""The SDKs' and the HTTP client's errors, said in ours. Called by `model`; the libraries are imported by then.

The key never appears in a message, whatever a server echoes, and no error keeps the request (and so the key) alive.
"""

from __future__ import annotations

import http
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from desist.exceptions import ModelError
from desist.models.http.sdk import Sdk
from desist.models.http.text import truncate
from desist.models.retry import LONGEST_ASKED, ModelCallError, is_retryable, retry_after

__all__ = ["RequestTarget", "foreign_errors", "reported_error", "translated"]

#: A provider's error type or code that contains one of these words is worth another try.
_RETRYABLE_WORDS = ("server_error", "api_error", "overloaded", "rate_limit", "timeout", "unavailable")
SHORT_KEY = 6  #: characters; a shorter key is a placeholder, and would be found in ordinary words


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTarget:
    """Where a request went."""

    sdk: Sdk
    server: str  #: host and port, named in messages
    key: str = field(repr=False)  #: cut out of messages
    key_variable: str  #: the environment's variable for it


def foreign_errors(sdk: Sdk) -> tuple[type[Exception], ...]:
    """Return the classes that `translated` takes."""
    import httpx2

    return (sdk.base_error, httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError)


def translated(error: Exception, target: RequestTarget, *, clock: Callable[[], float] = time.time) -> ModelError:
    """Return `error`, of a request to `target`, as a `ModelError`."""
    import httpx2

    sdk, server, key = target.sdk.module, target.server, target.key
    if isinstance(error, sdk.APIStatusError):
        return _refused(error, target, clock)
    cause = error.__cause__ if isinstance(error, sdk.APIConnectionError) else error
    words = _without(key, truncate(str(cause or error))) or type(cause or error).__name__
    if isinstance(error, sdk.APITimeoutError) or isinstance(cause, httpx2.TimeoutException):
        return ModelError(f"{server} was too slow: {words}", retryable=True)
    if isinstance(cause, httpx2.UnsupportedProtocol | httpx2.LocalProtocolError | httpx2.InvalidURL):
        return ModelError(f"the request to {server} can't be sent: {words}")
    if isinstance(cause, httpx2.TooManyRedirects | httpx2.StreamError | httpx2.DecodingError):
        return ModelError(f"the answer of {server} can't be read: {words}")
    if isinstance(cause, httpx2.ConnectError | httpx2.ProxyError):
        return ModelError(words if server in words else f"no connection with {server}: {words}", retryable=True)
    return ModelError(f"the connection with {server} failed: {words}", retryable=isinstance(cause, httpx2.HTTPError))


def reported_error(error: Any) -> ModelError:
    """Return a `ModelError` for an error inside a response with status 200.

    `error` is usually an object with `message`, `type` and `code`.
    """
    fields = error if isinstance(error, dict) else {"message": error}
    code = str(fields.get("code"))
    status = int(code) if code.isdecimal() and len(code) == 3 and code[0] in "45" else None
    kind = f"{fields.get('type')} {code}".lower()
    retryable = is_retryable(status) if status else any(word in kind for word in _RETRYABLE_WORDS)
    message = truncate(str(fields.get("message") or error))
    return ModelError(f"the provider reported an error: {message}", status_code=status, retryable=retryable)


def _refused(error: Any, target: RequestTarget, clock: Callable[[], float]) -> ModelError:
    status = error.status_code
    asked = retry_after(error.response.headers, clock=clock)
    retryable = is_retryable(status)
    words = f"{target.server} answered {status} {_phrase(status)}: {_without(target.key, _message(error))}"
    if status in (401, 403):
        words += f" (is {target.key_variable}, or api_key=, the right key for this server?)"
    if retryable and asked is not None and asked > LONGEST_ASKED:
        words += f" (it asks to wait {asked:.0f} s: that is too long to wait here)"
    return ModelCallError(words, status_code=status, retryable=retryable, retry_after=asked)


def _message(error: Any) -> str:
    body = error.body
    if isinstance(body, dict):
        told = body.get("error")  # the one SDK takes it out, the other doesn't
        body = told if isinstance(told, dict) else body
        body = body.get("message") or body.get("detail") or body
    return truncate(str(body)) if body else truncate(error.response.text) or "nothing more"


def _without(key: str, text: str) -> str:
    return text.replace(key, "[key]") if len(key) > SHORT_KEY else text


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "(unknown status)"
