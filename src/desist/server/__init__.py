"""desist over HTTP: start, follow and cancel runs. Needs the extra `server`.

Two APIs over one run service: `/agents` and `/workflows` are compatible with the API that desist follows, `/v1/runs` is
desist's own. The names below are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from desist.exceptions import MissingExtraError
from desist.lazy import lazy_names

if TYPE_CHECKING:
    from desist.server.app import create_app
    from desist.server.http_server import serve
    from desist.server.settings import Limits
    from desist.server.tokens import Token

_MODULES = {
    "Limits": "desist.server.settings",
    "Token": "desist.server.tokens",
    "create_app": "desist.server.app",
    "serve": "desist.server.http_server",
}
_NEEDED = ("fastapi", "multipart", "python_multipart", "starlette", "uvicorn")

__all__ = ["Limits", "Token", "create_app", "serve"]

_load, __dir__ = lazy_names(__name__, _MODULES)


def __getattr__(name: str) -> Any:
    try:
        return _load(name)
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED:
            raise
        raise MissingExtraError("desist.server", "server") from error
