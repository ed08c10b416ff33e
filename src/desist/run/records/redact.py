"""Credentials taken out of text that is shown: addresses, connection strings, keys. For messages, findings and `repr`.

What isn't sure to be harmless goes: a message may lose more than the secret. Called by whoever shows what a program's
user or another library wrote; never for what is sent or stored.
"""

from __future__ import annotations

import re

__all__ = ["redact"]

HIDDEN = "***"
#: Of databases, users put anything into the password: all up to the last "@" of the line.
_DATABASE = re.compile(r"\b((?:postgres|postgresql|redis|rediss|mysql|amqp)(?:\+\w+)?://)([^\n]*)@", re.IGNORECASE)
_URL = re.compile(r"\b([a-z][a-z0-9+.-]*://)([^\s\"'<>]+)", re.IGNORECASE)
#: The same where the scheme was forgotten.
_BARE = re.compile(r"(?<![\w/:@])([^\s:/@\"'<>*]+):(?!//)[^\s@\"'<>]+@")
#: `password=...` in a connection string, `?token=...` in an address; not `max_tokens=5`.
_FIELD = re.compile(
    r"""((?<![\w-])[\w-]*?(?:password|passwd|pwd|secret|api[_-]?key|access[_-]?key|client[_-]?key|token|signature)
    \s*=\s*)('(?:\\.|[^'\\])*(?:'|$)|"(?:\\.|[^"\\])*(?:"|$)|[^\s&;,'"]+)""",
    re.IGNORECASE | re.VERBOSE,
)
_QUERY = re.compile(r"([?&](?:key|sig|auth|code|pass|user)=)[^\s&#'\"]+", re.IGNORECASE)
_BEARER = re.compile(r"\b(Bearer|Basic)(\s+)[\w.~+/=-]{6,}", re.IGNORECASE)
_KEY = re.compile(r"\b(sk|pk|rk)-[\w-]{8,}")


def redact(text: str) -> str:
    """Return a text without the credentials in it."""
    if "@" in text:
        text = _DATABASE.sub(_of_database, text)
        text = _BARE.sub(rf"\g<1>:{HIDDEN}@", _URL.sub(_of_url, text))
    if "=" in text:
        text = _QUERY.sub(rf"\g<1>{HIDDEN}", _FIELD.sub(rf"\g<1>{HIDDEN}", text))
    return _KEY.sub(HIDDEN, _BEARER.sub(rf"\g<1>\g<2>{HIDDEN}", text))


def _of_database(found: re.Match[str]) -> str:
    """Keep the user's name: it says whom the server refused."""
    user, colon, _ = found[2].partition(":")
    return f"{found[1]}{user}:{HIDDEN}@" if colon else f"{found[1]}{user}@"


def _of_url(found: re.Match[str]) -> str:
    """Hide user and password: a token may stand in the place of either."""
    scheme, rest = found[1], found[2]
    if _DATABASE.match(found[0]):
        return found[0]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        return f"{scheme}{HIDDEN}@{authority.rpartition('@')[2]}{rest[len(authority) :]}"
    port = authority.rpartition(":")[2]
    if ":" in authority and "@" in rest and not port.isdigit():  # "/" or "?" in a password: no address at all
        return f"{scheme}{HIDDEN}@{rest.rpartition('@')[2]}"
    return found[0]
