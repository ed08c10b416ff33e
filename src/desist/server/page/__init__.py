"""The web page at `/` and its static files. The page gets its data from `/v1`.

The files are plain ES modules, custom elements and CSS: no build step, nothing from other hosts.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.staticfiles import StaticFiles

from desist.server.security_middleware import PAGE

__all__ = ["page_routes"]

#: The page may load its own files and send requests to its own server. No inline scripts, no eval.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)


def page_routes() -> APIRouter:
    """Return the routes of the page and its files. They need no token: all are part of the package."""
    routes = APIRouter(include_in_schema=False)
    files = StaticFiles(directory=Path(__file__).parent / "files")

    @routes.api_route("/", methods=["GET", "HEAD"])
    async def page(request: Request) -> Response:
        return await file("index.html", request)

    @routes.api_route(PAGE + "{name:path}", methods=["GET", "HEAD"])
    async def file(name: str, request: Request) -> Response:
        response = await files.get_response(name, request.scope)
        response.headers.update({"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"})
        return response

    return routes
