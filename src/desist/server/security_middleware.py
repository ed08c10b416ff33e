"""The door: who asks, whether the request may come in at all, how big it is, and the headers of every answer.

A pure ASGI layer before the routes. It knows addresses, headers and tokens; it must not know of runs.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from desist.server.problems import HTTPProblem, answer
from desist.server.tokens import ANYONE, Caller, Tokens

__all__ = ["OPEN", "PAGE", "SecurityMiddleware", "is_loopback"]

#: What anybody may read: that the server is there, and what it speaks.
OPEN = frozenset({"/", "/health", "/openapi.json"})
#: Where the page's own files are: they are in the package, so nobody learns anything from them.
PAGE = "/page/"
#: A name, an address, or an IPv6 address in brackets; and a port.
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+(%[\w.~-]+)?\]|[\w.~!$&'()*+,;=%-]*)(:(?P<port>[0-9]{0,5}))?", re.ASCII)
#: How much of a length is looked at: more digits are more than any limit.
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
    """Whether a name or address is this machine, as seen from itself."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class SecurityMiddleware:
    """Lets in what may come in.

    Parameters:
        app: what is behind it.
        tokens: none: requests come from this machine only, for this machine's name, from no other origin.
        body: bytes that a request's body may have.
        origins: other origins whose pages may ask.
    """

    def __init__(self, app: ASGIApp, *, tokens: Tokens, body: int, origins: Collection[str] = ()) -> None:
        self._app, self._tokens, self._body, self._origins = app, tokens, body, frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        guarded = _with_headers(send)
        try:
            headers = Headers(scope=scope)
            host = _host(headers)
            scope["desist.caller"] = self._caller(scope, headers, host)
            body = await self._whole_body(scope, receive)
        except HTTPProblem as refused:
            await answer(refused)(scope, receive, guarded)
            return
        if body is not None:
            await self._app(scope, body, guarded)

    def _caller(self, scope: Scope, headers: Headers, host: str) -> Caller:
        """Return who asks.

        Raises:
            Refused: nobody that may.
        """
        if not self._tokens:
            self._check_origin_and_host(scope, headers, host)
            return Caller(key=f"address {(scope.get('client') or ('', 0))[0]}")
        caller = self._tokens.caller(headers.get("authorization", ""))
        if caller is not None:
            return caller
        if (scope["path"] in OPEN or scope["path"].startswith(PAGE)) and scope["method"] in _SAFE:
            return ANYONE
        raise HTTPProblem(401, "show a token: Authorization: Bearer ...", {"WWW-Authenticate": "Bearer"})

    def _check_origin_and_host(self, scope: Scope, headers: Headers, host: str) -> None:
        """Without tokens, whoever can reach the server can use it. So: this machine, and no page of another site."""
        client = (scope.get("client") or ("", 0))[0]
        if not is_loopback(client) or any(name in headers for name in _PROXIED):
            raise HTTPProblem(403, "this server has no tokens: it answers its own machine only, and no proxy")
        if not is_loopback(host):  # another site's name that points here
            raise HTTPProblem(403, "this server has no tokens: ask for it as localhost or 127.0.0.1")
        if scope["method"] in _SAFE:
            return
        origin = headers.get("origin")
        own = {f"http://{headers.get('host', '')}", f"https://{headers.get('host', '')}"}
        foreign = origin is not None and origin not in own | self._origins
        if foreign or (origin is None and headers.get("sec-fetch-site", "none") not in ("none", "same-origin")):
            raise HTTPProblem(403, "a page of another site can't use this server: it has no tokens")

    async def _whole_body(self, scope: Scope, receive: Receive) -> Receive | None:
        """Read the body, which may not be too big, and return where it can be had again; None: the client has left."""
        if scope["method"] in _SAFE:
            return receive
        length = Headers(scope=scope).get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise HTTPProblem(400, "the header Content-Length isn't a number", {"Connection": "close"})
        if int(length[:_DIGITS]) > self._body:
            raise self._too_big()
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None  # in the middle of its question: nothing is done
            parts.append(message.get("body", b""))
            size, more = size + len(parts[-1]), message.get("more_body", False)
            if size > self._body:
                raise self._too_big()
        return _after([{"type": "http.request", "body": b"".join(parts), "more_body": False}], receive)

    def _too_big(self) -> HTTPProblem:
        return HTTPProblem(413, f"the body is bigger than {self._body} bytes", {"Connection": "close"})


def _host(headers: Headers) -> str:
    """Return the name that a request is for; "" if it doesn't say.

    Raises:
        Refused: with 400: it isn't one. Everything behind the guard makes addresses of it.
    """
    found = _HOST.fullmatch(headers.get("host", ""))
    if found is None or int(found["port"] or 0) > 65535:
        raise HTTPProblem(400, "the header Host isn't a name and a port")
    return found["name"].strip("[]")


def _after(first: list[Message], receive: Receive) -> Receive:
    async def again() -> Message:
        return first.pop(0) if first else await receive()

    return again


def _with_headers(send: Send) -> Send:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending
