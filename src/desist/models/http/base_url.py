"""`BaseUrl`: the address of an API as people have it, checked. Called by `model`."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass, field
from typing import Self

from desist.exceptions import ConfigurationError
from desist.run.records.redact import redact

__all__ = ["BaseUrl"]

#: The SDKs add these themselves.
_ENDPOINTS = ("/chat/completions", "/completions", "/responses", "/messages")


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseUrl:
    """An address: without its query, which is sent with each request, and without slashes at its end."""

    url: str = field(repr=False)  # may contain a password
    server: str  #: host and port
    query: dict[str, object] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, given: str, *, like: str) -> Self:
        """Return `given` as an address. `like` is an example for the error message.

        Raises:
            ConfigurationError: it isn't an address, or that of an endpoint.
        """
        shown = redact(given)
        try:
            parts = urllib.parse.urlsplit(given)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ConfigurationError(f"base_url must look like {like}, not {shown!r}: {error}") from None
        if parts.scheme not in ("http", "https") or not host:
            raise ConfigurationError(f"base_url must look like {like}, not {shown!r}")
        odd = next((c for c in given if c.isspace() or not c.isprintable()), "#" if parts.fragment else None)
        if odd is not None:
            raise ConfigurationError(f"base_url must look like {like}: {shown!r} contains {odd!r}")
        path = parts.path.rstrip("/")
        endpoint = next((name for name in _ENDPOINTS if path.endswith(name)), None)
        if endpoint is not None:
            raise ConfigurationError(
                f"base_url must look like {like}, not {shown!r}: leave out {endpoint!r}, which is added to each request"
            )
        url = urllib.parse.urlunsplit((parts.scheme, parts.netloc, path, "", ""))
        server = f"{host}:{port or (443 if parts.scheme == 'https' else 80)}"
        query: dict[str, object] = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
        return cls(url=url, server=server, query=query)
