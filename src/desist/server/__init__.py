"""desist over HTTP: start, watch and stop runs. Needs the extra `server`. Above `db`; only the command line is higher.

Two faces over one core: `/agents` and `/workflows` have the shape of the API that we follow, `/v1/runs` is our own.
The names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from desist.exceptions import MissingExtraError
from desist.lazy import lazy_names

if TYPE_CHECKING:
    from desist.server.app import create_app
    from desist.server.serve import serve
    from desist.server.settings import Limits
    from desist.server.tokens import Token

_PLACES = {
    "Limits": "desist.server.settings",
    "Token": "desist.server.tokens",
    "create_app": "desist.server.app",
    "serve": "desist.server.serve",
}
_NEEDED = ("fastapi", "multipart", "python_multipart", "starlette", "uvicorn")

__all__ = ["Limits", "Token", "create_app", "serve"]

_load, __dir__ = lazy_names(__name__, _PLACES)


def __getattr__(name: str) -> Any:
    try:
        return _load(name)
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED:
            raise
        raise MissingExtraError("desist.server", "server") from error
