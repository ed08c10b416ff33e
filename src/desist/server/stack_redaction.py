"""Remove file names and source lines from JSON that is sent to clients. Clients see function names only.

Stacks of abandoned calls are in receipts, records, outputs and events, and in `/live`. They are stored complete and
removed here, from every response, so that a new route can't forget to. `ShowStacks` turns this off.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from typing import Any

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from desist.run.observability.live import innermost_frame
from desist.run.records.json_values import to_json_line

__all__ = ["ShowStacks", "without_stacks"]

_shown: ContextVar[bool] = ContextVar("desist_stacks_shown", default=False)
#: ` (file:line)` at the end of a frame's description.
_FILE = re.compile(r" \(\S.*:\d+\)$")
_MARKS = (b'"blocked_in":', b'"where":')


class ShowStacks:
    """ASGI middleware: within it, responses keep file names and source lines."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        token = _shown.set(True)
        try:
            await self._app(scope, receive, send)
        finally:
            _shown.reset(token)


def without_stacks(raw: bytes) -> bytes:
    """Return JSON without file names and source lines, unless `ShowStacks` is active.

    JSON without stacks is returned as it is, without parsing.
    """
    if _shown.get() or not any(mark in raw for mark in _MARKS):
        return raw
    return to_json_line(_without(msgspec.json.decode(raw)))


def _without(value: Any) -> Any:
    if isinstance(value, list):
        return [_without(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() >= {"name", "kind", "blocked_in"} and isinstance(value["blocked_in"], str):  # an `Abandoned`
        return value | {"blocked_in": _FILE.sub("", innermost_frame(value["blocked_in"])) or None}
    if value.keys() >= {"where", "line", "alive"}:  # `left` in `/live`
        return value | {"where": _FILE.sub("", str(value["where"])), "line": ""}
    if value.keys() >= {"blocked_in", "grace_left"} and isinstance(value["blocked_in"], list):  # a run of `/live`
        return value | {"blocked_in": [_FILE.sub("", str(frame)) for frame in value["blocked_in"]]}
    return {key: _without(item) for key, item in value.items()}
