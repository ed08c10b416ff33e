"""desist over HTTP: start, watch and stop runs. Needs the extra `server`. Above `db`; only the command line is higher.

Two faces over one core: `/agents` and `/workflows` have the shape of the API that we follow, `/v1/runs` is our own.
The names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from desist.exceptions import MissingExtraError

if TYPE_CHECKING:
    from desist.server.app import create_app
    from desist.server.process import serve
    from desist.server.settings import Limits
    from desist.server.tokens import Token

_PLACES = {
    "Limits": "desist.server.settings",
    "Token": "desist.server.tokens",
    "create_app": "desist.server.app",
    "serve": "desist.server.process",
}
_NEEDED = ("fastapi", "multipart", "python_multipart", "starlette", "uvicorn")

__all__ = ["Limits", "Token", "create_app", "serve"]


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'desist.server' has no attribute {name!r}")
    import importlib

    try:
        value = globals()[name] = getattr(importlib.import_module(place), name)
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED:
            raise
        raise MissingExtraError("desist.server", "server") from error
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
