"""Remove credentials from displayed text: URLs, connection strings, keys.

Used for error messages, findings and `repr` that contain text of the user or of another library, never for data that
is sent or stored. Ambiguous text is removed too: a message may lose more than the secret.
"""

from __future__ import annotations

import re

__all__ = ["redact"]

HIDDEN = "***"
#: The password of a database URL may contain any character, so it extends to the last "@" of the line.
_DATABASE = re.compile(r"\b((?:postgres|postgresql|redis|rediss|mysql|amqp)(?:\+\w+)?://)([^\n]*)@", re.IGNORECASE)
_URL = re.compile(r"\b([a-z][a-z0-9+.-]*://)([^\s\"'<>]+)", re.IGNORECASE)
#: Credentials in a URL without a scheme.
_BARE = re.compile(r"(?<![\w/:@])([^\s:/@\"'<>*]+):(?!//)[^\s@\"'<>]+@")
#: `password=...` in a connection string, `?token=...` in a URL; not `max_tokens=5`.
_FIELD = re.compile(
    r"""((?<![\w-])[\w-]*?(?:password|passwd|pwd|secret|api[_-]?key|access[_-]?key|client[_-]?key|token|signature)
    \s*=\s*)('(?:\\.|[^'\\])*(?:'|$)|"(?:\\.|[^"\\])*(?:"|$)|[^\s&;,'"]+)""",
    re.IGNORECASE | re.VERBOSE,
)
_QUERY = re.compile(r"([?&](?:key|sig|auth|code|pass|user)=)[^\s&#'\"]+", re.IGNORECASE)
_BEARER = re.compile(r"\b(Bearer|Basic)(\s+)[\w.~+/=-]{6,}", re.IGNORECASE)
_KEY = re.compile(r"\b(sk|pk|rk)-[\w-]{8,}")


def redact(text: str) -> str:
    """Return `text` with its credentials replaced by `***`."""
    if "@" in text:
        text = _DATABASE.sub(_of_database, text)
        text = _BARE.sub(rf"\g<1>:{HIDDEN}@", _URL.sub(_of_url, text))
    if "=" in text:
        text = _QUERY.sub(rf"\g<1>{HIDDEN}", _FIELD.sub(rf"\g<1>{HIDDEN}", text))
    return _KEY.sub(HIDDEN, _BEARER.sub(rf"\g<1>\g<2>{HIDDEN}", text))


def _of_database(found: re.Match[str]) -> str:
    """Hide the password. The user name is kept, because it shows which user the server refused."""
    user, colon, _ = found[2].partition(":")
    return f"{found[1]}{user}:{HIDDEN}@" if colon else f"{found[1]}{user}@"


def _of_url(found: re.Match[str]) -> str:
    """Hide user and password, because either may be a token."""
    scheme, rest = found[1], found[2]
    if _DATABASE.match(found[0]):
        return found[0]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        return f"{scheme}{HIDDEN}@{authority.rpartition('@')[2]}{rest[len(authority) :]}"
    port = authority.rpartition(":")[2]
    if ":" in authority and "@" in rest and not port.isdigit():  # "/" or "?" in a password: not a valid URL
        return f"{scheme}{HIDDEN}@{rest.rpartition('@')[2]}"
    return found[0]
