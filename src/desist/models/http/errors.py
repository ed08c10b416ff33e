"""Converts errors of the SDKs and the HTTP client to `ModelError`. Called by `model`, when they are imported.

The key never appears in a message, even if the server echoes it, and no error keeps a reference to the request.
"""

from __future__ import annotations

import http
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from desist.exceptions import ModelError
from desist.models.http.reported_error import error_message, is_exhausted
from desist.models.http.sdk import Sdk
from desist.models.http.text import truncate
from desist.models.retry import LONGEST_RETRY_AFTER, ModelCallError, is_retryable, retry_after

__all__ = ["RequestTarget", "foreign_errors", "model_error"]

SHORT_KEY = 6  #: characters; a shorter key is a placeholder, and might be part of ordinary words


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTarget:
    """The server and key of a request, for messages."""

    sdk: Sdk
    server: str  #: host and port
    key: str = field(repr=False)  #: replaced in messages
    key_variable: str  #: the environment variable of the key


def foreign_errors(sdk: Sdk) -> tuple[type[Exception], ...]:
    """Return the error classes that `model_error` converts."""
    import httpx2

    return (sdk.base_error, httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError)


def model_error(error: Exception, target: RequestTarget, *, clock: Callable[[], float] = time.time) -> ModelError:
    """Return a `ModelError` for an error of a request to `target`."""
    import httpx2

    sdk, server, key = target.sdk.module, target.server, target.key
    if isinstance(error, sdk.APIStatusError):
        return _refused(error, target, clock)
    cause = error.__cause__ if isinstance(error, sdk.APIConnectionError) else error
    message = _without(key, truncate(str(cause or error))) or type(cause or error).__name__
    if isinstance(error, sdk.APITimeoutError) or isinstance(cause, httpx2.TimeoutException):
        return ModelError(f"{server} did not respond in time: {message}", retryable=True)
    if isinstance(cause, httpx2.UnsupportedProtocol | httpx2.LocalProtocolError | httpx2.InvalidURL):
        return ModelError(f"the request to {server} can't be sent: {message}")
    if isinstance(cause, httpx2.TooManyRedirects | httpx2.StreamError | httpx2.DecodingError):
        return ModelError(f"the response of {server} can't be read: {message}")
    if isinstance(cause, httpx2.ConnectError | httpx2.ProxyError):
        return ModelError(message if server in message else f"can't connect to {server}: {message}", retryable=True)
    return ModelError(f"the connection to {server} failed: {message}", retryable=isinstance(cause, httpx2.HTTPError))


def _refused(error: Any, target: RequestTarget, clock: Callable[[], float]) -> ModelError:
    status = error.status_code
    wait = retry_after(error.response.headers, clock=clock)
    told = _message(error)
    retryable = is_retryable(status) and not is_exhausted(f"{error.body} {told}")
    message = f"{target.server} answered {status} {_phrase(status)}: {_without(target.key, told)}"
    if status in (401, 403):
        message += f" (is {target.key_variable}, or api_key=, the right key for this server?)"
    if retryable and wait is not None and wait > LONGEST_RETRY_AFTER:
        message += f" (the server asks to wait {wait:.0f} s, longer than the limit of {LONGEST_RETRY_AFTER:.0f} s)"
    return ModelCallError(message, status_code=status, retryable=retryable, retry_after=wait)


def _message(error: Any) -> str:
    return (error_message(error.body) if error.body else truncate(error.response.text)) or "no message"


def _without(key: str, text: str) -> str:
    return text.replace(key, "[key]") if len(key) > SHORT_KEY else text


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "(unknown status)"
