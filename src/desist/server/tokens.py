"""Bearer tokens: who asks, what they may do, and whose runs they see."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

from desist.exceptions import ConfigurationError

__all__ = ["ANYONE", "SCOPES", "Caller", "Token", "Tokens"]

#: What a token can be good for.
SCOPES = ("read", "run", "cancel")
SHORTEST = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A secret that a client shows.

    Parameters:
        secret: what the client sends; at least 16 characters. `Token.new_secret()` makes one.
        name: who holds it; stands as `by` in cancel records, and in no other place.
        owner: its runs belong to this user: it sees and stops no others. None: it sees all, and says whose a run is.
        scopes: of "read", "run" and "cancel".

    Raises:
        ConfigurationError: the secret is short, or a scope isn't known.
    """

    secret: str = field(repr=False)
    name: str = "token"
    owner: str | None = None
    scopes: frozenset[str] = frozenset(SCOPES)

    def __post_init__(self) -> None:
        if len(self.secret) < SHORTEST or not self.secret.isascii():
            raise ConfigurationError(
                f"the secret of token {self.name!r} must be at least {SHORTEST} ASCII characters:"
                " Token.new_secret() makes one"
            )
        object.__setattr__(self, "scopes", frozenset(self.scopes))
        unknown = sorted(self.scopes - set(SCOPES))
        if unknown or not self.scopes:
            raise ConfigurationError(f"scopes={unknown} of token {self.name!r}: use some of {', '.join(SCOPES)}")

    @staticmethod
    def new_secret() -> str:
        """Return a secret that nobody can guess."""
        return secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks."""

    key: str  #: tells clients apart where they are counted
    name: str | None = None
    owner: str | None = None
    scopes: frozenset[str] = frozenset(SCOPES)


#: Whoever asks where there are no tokens.
ANYONE = Caller(key="")


class Tokens:
    """The tokens of a server. Secrets are looked up by their digest, so that the time it takes tells nothing."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._by_digest: dict[bytes, Caller] = {}
        for token in tokens:
            digest = _digest(token.secret)
            if digest in self._by_digest:
                raise ConfigurationError(f"two tokens have the secret of {token.name!r}: give each its own")
            self._by_digest[digest] = Caller(
                key=f"token {digest.hex()[:16]}", name=token.name, owner=token.owner, scopes=token.scopes
            )

    def __bool__(self) -> bool:
        return bool(self._by_digest)

    def caller(self, header: str) -> Caller | None:
        """Return whose token an `Authorization` header shows, or None."""
        kind, _, secret = header.partition(" ")
        return self._by_digest.get(_digest(secret.strip())) if kind.lower() == "bearer" else None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()
