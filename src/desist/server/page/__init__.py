"""The web page at `/` and its static files. The page gets its data from `/v1`.

The files are plain ES modules, custom elements and CSS: no build step, nothing from other hosts. They are read once and
looked up by name, so that no path can leave their directory.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Request, Response

from desist.server.problems import HTTPProblem
from desist.server.security_middleware import PAGE

__all__ = ["page_routes"]

_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
#: The page may load its own files and send requests to its own server. No inline scripts, no eval.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)


def page_routes() -> APIRouter:
    """Return the routes of the page and its files. They need no token: all are part of the package."""
    routes = APIRouter(include_in_schema=False)

    @routes.api_route("/", methods=["GET", "HEAD"])
    async def page(request: Request) -> Response:
        return _answer("index.html", request)

    @routes.api_route(PAGE + "{name:path}", methods=["GET", "HEAD"])
    async def file(name: str, request: Request) -> Response:
        return _answer(name, request)

    return routes


def _answer(name: str, request: Request) -> Response:
    found = _files().get(name)
    if found is None:
        raise HTTPProblem(404, "there is no such file")
    body, kind, tag = found
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache", "ETag": tag}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers | {"Content-Type": kind})


@cache
def _files() -> dict[str, tuple[bytes, str, str]]:
    """Return the files by name: content, type, ETag."""
    found = {}
    for name, file in _walk(files(__name__) / "files", ""):
        body = file.read_bytes()
        tag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
        found[name] = (body, _TYPES[name.rpartition(".")[2]], tag)
    return found


def _walk(directory: Traversable, prefix: str) -> list[tuple[str, Traversable]]:
    found = []
    for item in directory.iterdir():
        if item.is_dir():
            found += _walk(item, f"{prefix}{item.name}/")
        elif item.name.rpartition(".")[2] in _TYPES:
            found.append((prefix + item.name, item))
    return found
