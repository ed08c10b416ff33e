"""Errors as `application/problem+json`: one shape for all that a request can be told."""

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

__all__ = ["PROBLEM", "HTTPProblem", "answer", "of_error", "of_invalid"]

PROBLEM = "application/problem+json"


class HTTPProblem(Exception):
    """A request that isn't done, and why. `more` stands beside the words."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers, self.more = status, detail, dict(headers or {}), more


def answer(refused: HTTPProblem) -> JSONResponse:
    """Return the response. What a client sent stands in it as JSON text only, never in a header."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(refused.status).phrase,
        "status": refused.status,
        "detail": refused.detail,
        **refused.more,
    }
    return JSONResponse(body, refused.status, refused.headers, PROBLEM)


def of_error(error: DesistError) -> HTTPProblem:
    """Return what a client is told about an error of ours."""
    if isinstance(error, ConfigurationError):
        return HTTPProblem(422, str(error))
    if isinstance(error, RunStateError | RunIdInUseError):
        return HTTPProblem(409, str(error))
    if isinstance(error, UnreadableError):
        return HTTPProblem(500, str(error).partition(": ")[0])  # which run; why is for the log
    if isinstance(error, StoreError):
        return HTTPProblem(503, "the database can't be read or written now", {"Retry-After": "5"})
    return HTTPProblem(500, "the server made a mistake: its log says more")


def of_invalid(errors: list[Any]) -> HTTPProblem:
    """Return what a client is told whose request isn't of the right shape: where, and what; not its own values."""
    found = [{"loc": [str(part) for part in one["loc"]], "msg": str(one["msg"])} for one in errors[:20]]
    words = "; ".join(f"{'.'.join(one['loc'])}: {one['msg']}" for one in found[:5])
    return HTTPProblem(422, f"the request can't be used: {words}"[:2000], errors=found)
