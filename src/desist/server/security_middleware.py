"""ASGI middleware: authentication, host and origin checks, body size limit, security headers.

Runs before the routes. Knows addresses, headers and tokens, but no runs.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from desist.server.problems import HTTPProblem
from desist.server.tokens import ANYONE, Caller, Tokens

__all__ = ["OPEN", "PAGE", "SecurityMiddleware", "is_loopback"]

#: Paths that need no token: the page, the health check, and the OpenAPI schema.
OPEN = frozenset({"/", "/health", "/openapi.json"})
#: The prefix of the page's files, which need no token: they are part of the package.
PAGE = "/page/"
#: A name, an address, or an IPv6 address in brackets; and a port.
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+(%[\w.~-]+)?\]|[\w.~!$&'()*+,;=%-]*)(:(?P<port>[0-9]{0,5}))?", re.ASCII)
#: Digits of Content-Length that are parsed: a longer number is above any limit.
_DIGITS = 20
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_PROXIED = ("forwarded", "x-forwarded-for", "x-real-ip")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Return whether a name or address is a loopback one."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class SecurityMiddleware:
    """Rejects requests that may not be served, and stores the `Caller` in the scope.

    Parameters:
        app: the application to protect.
        tokens: if empty, only requests from this machine, to a loopback name and from no other origin are served.
        body: the largest request body in bytes.
        origins: other origins whose pages may send requests.
    """

    def __init__(self, app: ASGIApp, *, tokens: Tokens, body: int, origins: Collection[str] = ()) -> None:
        self._app, self._tokens, self._body, self._origins = app, tokens, body, frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, and pass it to the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        guarded = _with_headers(send)
        try:
            headers = Headers(scope=scope)
            host = _host(headers)
            scope["desist.caller"] = self._caller(scope, headers, host)
            body = await self._whole_body(scope, receive)
        except HTTPProblem as problem:
            await problem.response()(scope, receive, guarded)
            return
        if body is not None:
            await self._app(scope, body, guarded)

    def _caller(self, scope: Scope, headers: Headers, host: str) -> Caller:
        """Return the caller.

        Raises:
            HTTPProblem: 401 without a valid token; 403 if the server has no tokens and the request is not local.
        """
        if not self._tokens:
            self._check_origin_and_host(scope, headers, host)
            return Caller(key=f"address {(scope.get('client') or ('', 0))[0]}")
        caller = self._tokens.caller(headers.get("authorization", ""))
        if caller is not None:
            return caller
        if (scope["path"] in OPEN or scope["path"].startswith(PAGE)) and scope["method"] in _SAFE:
            return ANYONE
        raise HTTPProblem(401, "a token is required: send Authorization: Bearer ...", {"WWW-Authenticate": "Bearer"})

    def _check_origin_and_host(self, scope: Scope, headers: Headers, host: str) -> None:
        """Reject requests that are not local. Without tokens, everything that reaches the server could use it."""
        client = (scope.get("client") or ("", 0))[0]
        if not is_loopback(client) or any(name in headers for name in _PROXIED):
            raise HTTPProblem(
                403, "this server has no tokens, so it serves only its own machine, and no proxy: set tokens"
            )
        if not is_loopback(host):  # DNS rebinding: the name of another site that resolves to this machine
            raise HTTPProblem(
                403, "this server has no tokens, so it serves only the host localhost or 127.0.0.1: use one of these"
            )
        if scope["method"] in _SAFE:
            return
        origin = headers.get("origin")
        own = {f"http://{headers.get('host', '')}", f"https://{headers.get('host', '')}"}
        foreign = origin is not None and origin not in own | self._origins
        if foreign or (origin is None and headers.get("sec-fetch-site", "none") not in ("none", "same-origin")):
            raise HTTPProblem(
                403, "this server has no tokens, so pages of other origins can't use it: set tokens or cors_origins"
            )

    async def _whole_body(self, scope: Scope, receive: Receive) -> Receive | None:
        """Read the whole body. Return a `receive` that yields it again, or None if the client has left.

        Raises:
            HTTPProblem: 413 if the body is too large, 400 for an invalid Content-Length.
        """
        if scope["method"] in _SAFE:
            return receive
        length = Headers(scope=scope).get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise HTTPProblem(400, "the header Content-Length is not a number", {"Connection": "close"})
        if int(length[:_DIGITS]) > self._body:
            raise self._too_big()
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None  # before the request was complete: do nothing
            parts.append(message.get("body", b""))
            size, more = size + len(parts[-1]), message.get("more_body", False)
            if size > self._body:
                raise self._too_big()
        return _replay([{"type": "http.request", "body": b"".join(parts), "more_body": False}], receive)

    def _too_big(self) -> HTTPProblem:
        return HTTPProblem(413, f"the body is larger than {self._body} bytes", {"Connection": "close"})


def _host(headers: Headers) -> str:
    """Return the name in the Host header, or "" if there is none.

    Raises:
        HTTPProblem: 400 for an invalid header. The routes build URLs from it.
    """
    found = _HOST.fullmatch(headers.get("host", ""))
    if found is None or int(found["port"] or 0) > 65535:
        raise HTTPProblem(400, "the header Host is not a name and a port")
    return found["name"].strip("[]")


def _replay(first: list[Message], receive: Receive) -> Receive:
    async def replaying() -> Message:
        return first.pop(0) if first else await receive()

    return replaying


def _with_headers(send: Send) -> Send:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending
