"""Errors as `application/problem+json` (RFC 9457), the format of every error response."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse

from desist.exceptions import (
    ConfigurationError,
    DesistError,
    RunIdInUseError,
    RunStateError,
    StoreError,
    UnreadableError,
)

__all__ = ["PROBLEM", "HTTPProblem", "internal_error", "problem_from_error", "problem_from_validation"]

PROBLEM = "application/problem+json"


class HTTPProblem(Exception):
    """An error response: status, `detail` text, headers. `more` are additional members of the JSON object."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers, self.more = status, detail, dict(headers or {}), more

    def response(self) -> JSONResponse:
        """Return the response. Text from the client appears only in the JSON body, never in a header."""
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **self.more,
        }
        return JSONResponse(body, self.status, self.headers, PROBLEM)


def internal_error() -> HTTPProblem:
    """Return the error response for an unexpected exception, which is in the log."""
    return HTTPProblem(500, "internal server error: see the server's log")


def problem_from_error(error: DesistError) -> HTTPProblem:
    """Return the error response for a `DesistError`."""
    if isinstance(error, ConfigurationError):
        return HTTPProblem(422, str(error))
    if isinstance(error, RunStateError | RunIdInUseError):
        return HTTPProblem(409, str(error))
    if isinstance(error, UnreadableError):
        return HTTPProblem(500, str(error).partition(": ")[0])  # the run only; the cause goes to the log
    if isinstance(error, StoreError):
        return HTTPProblem(503, "the database is unavailable: try again later", {"Retry-After": "5"})
    return internal_error()


def problem_from_validation(errors: list[Any]) -> HTTPProblem:
    """Return the error response for a request that failed validation: fields and messages, without the values sent."""
    found = [{"loc": [str(part) for part in one["loc"]], "msg": str(one["msg"])} for one in errors[:20]]
    details = "; ".join(f"{'.'.join(one['loc'])}: {one['msg']}" for one in found[:5])
    return HTTPProblem(422, f"the request is invalid: {details}"[:2000], errors=found)
