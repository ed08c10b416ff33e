"""Reads the errors that providers and proxies report, in whichever shape. Called by the parsers and by `errors`.

An error may be an object or a text; stand under `error`, `errors`, `detail` or `base_resp`, or be the whole document;
come with status 200, alone or in the middle of a stream. Its words say whether another try makes sense.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from desist.exceptions import ModelError
from desist.models.http.text import clean_text, truncate
from desist.models.retry import is_retryable

__all__ = ["error_in", "error_message", "is_exhausted", "is_passing", "reported_error"]

#: Words of causes that pass. Looked for in type, code and message, in lower case, with `_` for blanks.
_PASSING = re.compile(
    r"server_error|api_error|overload|rate_limit|ratelimit|too_many_requests|timeout|timed_out|unavailable|throttl"
    r"|internal_error|resource_exhausted|try_again|temporar|bad_gateway|capacity|connection_(error|reset|closed)|busy"
)
#: Words of causes that don't, whatever the status: the account has no money left.
_EXHAUSTED = re.compile(
    r"insufficient_(quota|balance|credit|fund)|billing_(hard_limit|not_active)|credit_balance_is_too_low"
    r"|exceeded_current_quota_error|account_(deactivated|suspended)|payment_required"
)
#: The status codes in MiniMax's `base_resp` that pass: unknown, timeout, rate limits, internal.
_PASSING_BASE = frozenset(["1000", "1001", "1002", "1013", "1024", "1033", "1039", "1041"])
#: What an error stands under. Names are compared without `_` and in lower case.
_ERRORS = (
    *("error", "errors", "err", "exception", "errormessage", "errormsg", "errmsg", "errorcode", "errcode", "errno"),
    *("fault", "detail"),
)
#: Where the message may stand, or an object that holds it.
_TEXTS = (
    *("message", "error", "errors", "base_resp", "fault", "msg", "faultstring", "status_msg", "detail", "title"),
    *("error_description", "error_message", "error_msg", "errorMessage", "errmsg", "err", "exception", "Message"),
    *("description", "reason", "Error", "error_code", "errno", "response"),
)
_CODES = ("status_code", "status", "code", "http_code", "statusCode", "error_code")
_KINDS = ("type", "code", "status", "error_code", "__type", "error_type", "Code", "errorType")
#: Objects that an error may be inside of.
_AROUND = ("response", "data", "result", "output", "header", "body", "responsemetadata", "delta")
#: Codes of what isn't an error.
_FINE = (
    *("0", "ok", "success", "succeeded", "processing", "pending", "running", "queued", "waiting", "in_progress"),
    *("none", "null"),
)
#: Words that make an error of a message that stands alone.
_BAD = re.compile(
    r"error|fail|exception|invalid|not_found|denied|forbidden|unauthorized|exceeded|too_(many|long|large)|limit|crash"
)


def error_in(document: Mapping[str, Any], depth: int = 3) -> ModelError | None:
    """Return the error that a JSON document reports, or None. Documents that hold an answer are not passed here.

    Parameters:
        depth: how many objects around the error are looked into.
    """
    base = document.get("base_resp")
    code = str(base.get("status_code")) if isinstance(base, dict) else ""
    if code.isdecimal() and code not in ("0", "200"):
        message = error_message(base)
        return ModelError(_told(message), retryable=code in _PASSING_BASE and not is_exhausted(message))
    named = {_plain(name): name for name in document}
    for name in (named[plain] for plain in _ERRORS if plain in named):
        value = document[name]
        if _says_something(value):  # a flag or number says less than what stands beside it
            flag = not isinstance(value, str | dict | list)
            return reported_error({**document, name: None} if flag else value, document)
    kind = str(document.get("type") or document.get("object") or document.get("status")).lower()
    kind = kind.rpartition(".")[2]
    if kind in ("error", "failed", "exception") or document.get("success") is False or _status(document):
        return reported_error(document)
    if _is_bad_code(document) or _is_bad_message(document):
        return reported_error(document)
    inside = [value for name, value in document.items() if isinstance(value, dict) and _plain(name) in _AROUND]
    return next((error for value in inside if depth and (error := error_in(value, depth - 1)) is not None), None)


def _is_bad_code(document: Mapping[str, Any]) -> bool:
    """Return whether a code, with a message beside it, is that of an error."""
    given = document.get("code")
    code = str(given or "").lower() if isinstance(given, int | str) and given is not True else ""
    has_message = any(isinstance(document.get(name), str) and document[name] for name in ("message", "msg", "Message"))
    return bool(code) and has_message and code not in _FINE and not (len(code) == 3 and code[0] in "12")


def _is_bad_message(document: Mapping[str, Any]) -> bool:
    """Return whether a message that stands alone is that of an error."""
    texts = [document.get(name) for name in ("message", "msg", "Message", "__type")]
    words = _words(" ".join(text for text in texts if isinstance(text, str)))
    return bool(words) and (bool(_BAD.search(words)) or is_passing(words) or is_exhausted(words))


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def reported_error(error: Any, around: Mapping[str, Any] | None = None) -> ModelError:
    """Return a `ModelError` for an error inside a response with status 200.

    Parameters:
        error: its JSON, as bytes or decoded: usually an object with `message`, `type` and `code`.
        around: the object that holds it, which may hold the code too.
    """
    fields = _fields(_parsed(error) if isinstance(error, bytes) else error)
    if "message" not in fields and _says_something(fields.get("error")):
        fields, around = _fields(fields["error"]), fields
    status = _status(fields) or _status(around or {})
    message = error_message(fields)
    kinds = [fields.get(name) for name in _KINDS] + [(around or {}).get("code")]
    words = " ".join(kind for kind in [*kinds, message] if isinstance(kind, str))
    retryable = is_retryable(status) and not is_exhausted(words) if status else is_passing(words)
    return ModelError(_told(message), status_code=status, retryable=retryable)


def is_passing(words: str) -> bool:
    """Return whether an error's words say that its cause may pass, so that another try makes sense."""
    return _PASSING.search(_words(words)) is not None and not is_exhausted(words)


def is_exhausted(words: str) -> bool:
    """Return whether an error says that the account has no money or quota left, so that another try is in vain."""
    return _EXHAUSTED.search(_words(words)) is not None


def error_message(error: Any) -> str:
    """Return the message in an error's JSON, shortened; all of it if there is no message."""
    for _ in range(5):  # levels of nesting
        fields = _fields(error)
        found = next((name for name in _TEXTS if _says_something(fields.get(name))), None)
        if found is None:
            break
        error = fields[found]
    if isinstance(error, str) or not _says_something(error):
        return truncate(clean_text(error if isinstance(error, str) else "")) or "(no message)"
    try:
        return truncate(json.dumps(error, default=str, ensure_ascii=False))
    except (ValueError, TypeError, RecursionError):
        return "(no message)"


def _fields(error: Any) -> dict[str, Any]:
    """Return an error as an object: of several, the first; a text as its message."""
    while isinstance(error, list) and error:
        error = error[0]
    return error if isinstance(error, dict) else {"message": error}


def _says_something(value: Any) -> bool:
    """Return whether a field holds an error: some servers always send it, empty or full of nulls."""
    return any(value.values()) if isinstance(value, dict) else bool(value)


def _status(fields: Mapping[str, Any]) -> int | None:
    for name in _CODES:
        code = str(fields[name]) if isinstance(fields.get(name), int | str) else ""
        if len(code) == 3 and code.isascii() and code.isdecimal() and code[0] in "45":
            return int(code)
    return None


def _parsed(payload: bytes) -> Any:
    try:
        return json.loads(payload.decode(errors="replace"))
    except (ValueError, RecursionError):
        return payload.decode(errors="replace")


def _words(text: str) -> str:
    return re.sub(r"[\s-]+", "_", text.lower())


def _told(message: str) -> str:
    return f"the provider reported an error: {message}"
