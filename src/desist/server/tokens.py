"""Bearer tokens: the caller of a request, its scopes, and the user whose runs it sees."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

from desist.exceptions import ConfigurationError

__all__ = ["ANYONE", "SCOPES", "Caller", "Token", "Tokens"]

#: Every scope that a token can have.
SCOPES = ("read", "run", "cancel")
SHORTEST = 16  #: characters of a secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A secret that a client sends with each request.

    Parameters:
        secret: at least 16 ASCII characters. `Token.new_secret()` returns a random one.
        name: the holder; recorded as `by` in cancel records, and nowhere else.
        owner: the user that its runs belong to; it sees and cancels no others. None: it sees the runs of all users,
            and chooses the user of a new run.
        scopes: any of "read", "run" and "cancel".

    Raises:
        ConfigurationError: the secret is too short, or a scope is unknown.
    """

    secret: str = field(repr=False)
    name: str = "token"
    owner: str | None = None
    scopes: frozenset[str] = frozenset(SCOPES)

    def __post_init__(self) -> None:
        if len(self.secret) < SHORTEST or not self.secret.isascii():
            raise ConfigurationError(
                f"the secret of token {self.name!r} must be at least {SHORTEST} ASCII characters:"
                " use Token.new_secret()"
            )
        object.__setattr__(self, "scopes", frozenset(self.scopes))
        unknown = sorted(self.scopes - set(SCOPES))
        if unknown or not self.scopes:
            raise ConfigurationError(f"scopes={unknown} of token {self.name!r}: use some of {', '.join(SCOPES)}")

    @staticmethod
    def new_secret() -> str:
        """Return a random secret."""
        return secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The sender of a request."""

    key: str  #: identifies the client where clients are counted
    name: str | None = None
    owner: str | None = None
    scopes: frozenset[str] = frozenset(SCOPES)


#: The caller of public paths, and of servers over stdio.
ANYONE = Caller(key="")


class Tokens:
    """The tokens of a server. Secrets are looked up by digest, so that the timing reveals nothing about them."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._by_digest: dict[bytes, Caller] = {}
        for token in tokens:
            digest = _digest(token.secret)
            if digest in self._by_digest:
                raise ConfigurationError(f"two tokens have the same secret as {token.name!r}: give each its own")
            self._by_digest[digest] = Caller(
                key=f"token {digest.hex()[:16]}", name=token.name, owner=token.owner, scopes=token.scopes
            )

    def __bool__(self) -> bool:
        return bool(self._by_digest)

    def caller(self, header: str) -> Caller | None:
        """Return the caller for an `Authorization` header, or None for an unknown token."""
        kind, _, secret = header.partition(" ")
        return self._by_digest.get(_digest(secret.strip())) if kind.lower() == "bearer" else None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()
