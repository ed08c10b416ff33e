"""Convert any Python value to plain JSON values, and plain values to one line of JSON text.

Called by records (events, outputs), the store and the server. This module doesn't depend on events: it handles
dataclasses, objects with `to_dict` or `model_dump`, and built-in types. Conversion never fails: a value without a JSON
form is replaced by its `str()`.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import operator
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any

import msgspec

__all__ = ["clean_text", "dump", "error_text", "fields_of", "names_of", "to_json_line", "to_json_value"]

Path = tuple[int, ...]  #: ids of the containers around a value, to detect cycles and to limit the depth

#: Maximum depth of values within one record, and of records within records.
_MAX_DEPTH, _MAX_RECORDS = 60, 40
#: Marker that follows the id of a record in a path.
_RECORD = 0
_encoder = msgspec.json.Encoder()
_names: dict[type, tuple[str, ...]] = {}
_getters: dict[type, Callable[[Any], tuple[Any, ...]]] = {}
_plain_records: set[type] = set()


def to_json_value(value: Any, path: Path = ()) -> Any:
    """Return `value` converted to dict, list, str, int, float, bool and None. Never fails.

    None fields of objects are omitted; None in lists and dicts is kept. Bytes become base64, sets sorted lists, times
    ISO text, a `timedelta` seconds, NaN and infinities None, lone surrogates U+FFFD, integers beyond 64 bits text.
    A container that contains itself, or is nested more than 60 levels deep in its record, becomes text.
    A record inside 40 other records keeps only the fields that aren't containers, so that stored JSON can always be
    read back.

    Args:
        value: any object.
        path: ids of the containers around `value`; for internal use.
    """
    return _BY_TYPE.get(type(value), _other)(value, path)


def dump(value: Any) -> bytes:
    """Return `value`, converted by `to_json_value`, as one line of JSON."""
    return to_json_line(to_json_value(value))


def to_json_line(value: Any) -> bytes:
    """Return a plain value as one line of compact JSON in UTF-8.

    U+0085, U+2028 and U+2029 are escaped, because some readers treat them as line ends. Other non-ASCII characters
    are not.
    """
    raw = _encoder.encode(value)
    if raw.isascii():
        return raw
    return (
        raw.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029").replace(b"\xc2\x85", b"\\u0085")
    )


def names_of(kind: type) -> tuple[str, ...]:
    """Return the names of a dataclass's fields except those in `_not_serialized`. Cached per class."""
    names = _names.get(kind)
    if names is None:
        unsent = getattr(kind, "_not_serialized", ())
        names = tuple(f.name for f in dataclasses.fields(kind) if f.name not in unsent)
        _getters[kind] = _getter_of(names)  # first: another thread that finds the names finds it, too
        _names[kind] = names
    return names


def _getter_of(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """Return a function that returns these attributes of an object."""
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda value: tuple(getattr(value, name) for name in names)


def fields_of(value: Any, path: Path = ()) -> dict[str, Any]:
    """Return the fields of a dataclass instance that aren't None, converted to plain values."""
    inside = (*path, id(value), _RECORD)
    inmost = len(path) >= _MAX_RECORDS and path.count(_RECORD) >= _MAX_RECORDS
    found = {}
    names, all_of = names_of(type(value)), _getters[type(value)]
    try:
        items = all_of(value)
    except AttributeError:  # a field was deleted
        items = tuple(getattr(value, name, None) for name in names)
    for name, item in zip(names, items, strict=True):
        if item is None:
            continue
        convert = _BY_TYPE.get(type(item), _other)
        if inmost and convert in _DEEPER and not isinstance(item, Enum | str | int | float):
            continue
        found[name] = item if convert is _keep else convert(item, inside)
    return found


def _keep(value: Any, path: Path) -> Any:
    return value


def clean_text(value: str, path: Path = ()) -> str:
    """Return `value` as valid Unicode: surrogate pairs joined, lone halves replaced by U+FFFD."""
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def _whole(value: int, path: Path) -> int | str:
    return value if -(2**63) <= value < 2**64 else _str(value)


def _real(value: float, path: Path) -> float | None:
    return value if value - value == 0 else None  # inf - inf and nan - nan are nan


def _list(value: Iterable[Any], path: Path) -> Any:
    if _too_deep(value, path):
        return _str(value)
    inside = (*path, id(value))
    return [to_json_value(item, inside) for item in value]


def _dict(value: Mapping[Any, Any], path: Path) -> Any:
    if _too_deep(value, path):
        return _str(value)
    inside = (*path, id(value))
    return {_key(key): to_json_value(item, inside) for key, item in value.items()}


def _key(key: Any) -> str:
    if isinstance(key, Enum):
        key = key.value
    return clean_text(key) if type(key) is str else _str(key)


def _sorted(value: Iterable[Any], path: Path) -> Any:
    items = [to_json_value(item, path) for item in value]
    return sorted(items, key=lambda item: (type(item).__name__, _str(item)))


def _base64(value: Any, path: Path) -> str:
    return base64.b64encode(bytes(value)).decode("ascii")


def _iso(value: Any, path: Path) -> str:
    return str(value.isoformat())


def _too_deep(value: object, path: Path) -> bool:
    if id(value) in path:
        return True
    if len(path) < _MAX_DEPTH:
        return False
    own = next((count for count, one in enumerate(reversed(path)) if one == _RECORD), len(path))
    return own >= _MAX_DEPTH


def _str(value: object) -> str:
    """Return `str(value)`, or the name of its type if `str` fails."""
    try:
        return clean_text(str(value))
    except Exception:
        return f"<{type(value).__qualname__}>"


def error_text(error: BaseException) -> str:
    """Return the message of an exception, or the name of its type if it has none, or its `__str__` fails."""
    try:
        return str(error) or type(error).__name__
    except Exception:
        return type(error).__name__


def _other(value: Any, path: Path) -> Any:
    """Convert a value whose type is not in `_BY_TYPE`: an enum, a subclass of a built-in type, or any other object."""
    kind = type(value)
    if kind in _plain_records or _is_plain_record(kind):
        try:
            return _str(value) if id(value) in path else value._to_plain(path)
        except Exception:
            return _str(value)
    if isinstance(value, Enum):
        return to_json_value(value.value, path)
    if isinstance(value, type) or (id(value) in path if _is_record(value) else _too_deep(value, path)):
        return _str(value)
    for base, convert in _BY_BASE:
        if isinstance(value, base):
            return convert(value, path)
    try:
        return _object(value, path)
    except Exception:
        return _str(value)


def _is_plain_record(kind: type) -> bool:
    """Whether values of a type are records and nothing else that is converted in another way. Cached if so."""
    if not hasattr(kind, "_to_plain") or issubclass(kind, (Enum, type, *(base for base, _ in _BY_BASE))):
        return False
    _plain_records.add(kind)
    return True


def _is_record(value: object) -> bool:
    """Whether `value` is a record, whose depth `fields_of` limits."""
    return hasattr(value, "_to_plain") or dataclasses.is_dataclass(value)


def _object(value: Any, path: Path) -> Any:
    record = getattr(value, "_to_plain", None)
    if record is not None:
        return record(path)
    for method in ("to_dict", "model_dump"):
        own = getattr(value, method, None)
        if callable(own):
            return to_json_value(_sparse(own(), method), (*path, id(value)))
    return fields_of(value, path) if dataclasses.is_dataclass(value) else _str(value)


def _sparse(made: Any, method: str) -> Any:
    """Omit None from the result of a `to_dict`. None in a pydantic model's dump is user data and is kept."""
    if method == "to_dict" and isinstance(made, dict):
        return {key: item for key, item in made.items() if item is not None}
    return made


_Convert = Callable[[Any, Path], Any]

_BY_TYPE: dict[type, _Convert] = {
    str: clean_text,
    int: _whole,
    bool: _keep,
    type(None): _keep,
    float: _real,
    list: _list,
    tuple: _list,
    dict: _dict,
    bytes: _base64,
    dt.datetime: _iso,
}

_DEEPER = (_list, _dict, _other)

# Checked in this order with `isinstance`: a str enum is a str, a datetime is a date.
_BY_BASE: tuple[tuple[type | tuple[type, ...], _Convert], ...] = (
    (str, lambda value, path: clean_text(str.__str__(value))),
    (int, lambda value, path: _whole(int.__int__(value), path)),
    (float, lambda value, path: _real(float.__float__(value), path)),
    (Mapping, _dict),
    ((list, tuple), _list),
    ((set, frozenset), _sorted),
    ((bytes, bytearray, memoryview), _base64),
    ((dt.date, dt.time), _iso),
    (dt.timedelta, lambda value, path: value.total_seconds()),
)
