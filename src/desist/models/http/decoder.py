"""Decodes JSON to typed structures. Called by the parsers.

msgspec reads the usual event in a microsecond; what it refuses (half of a surrogate pair, an object in place of a text)
gets a second, lenient reading, which leaves out what doesn't fit.
"""

from __future__ import annotations

import functools
import json
from typing import Any, Generic, TypeVar, get_args, get_origin

import msgspec

from desist.exceptions import ModelResponseError
from desist.models.http.text import clean, truncate

__all__ = ["Decoder"]

T = TypeVar("T", bound=msgspec.Struct)


class Decoder(Generic[T]):
    """Decodes JSON to a msgspec structure. `name` is the expected thing, for error messages."""

    def __init__(self, shape: type[T], name: str) -> None:
        self._shape, self._name = shape, name
        self._read = msgspec.json.Decoder(shape).decode

    def __call__(self, payload: bytes) -> T:
        """Return `payload` as the shape. Fields that don't fit have their defaults.

        Raises:
            ModelResponseError: it isn't the JSON of an object; the message shows its beginning.
        """
        try:
            return self._read(payload)
        except (msgspec.DecodeError, RecursionError):
            pass
        return self._shape() if (found := _fitting(self.document(payload), self._shape)) is None else found

    def document(self, payload: bytes) -> dict[str, Any]:
        """Return `payload` as a dict; of a list, its first object.

        Raises:
            ModelResponseError: it isn't the JSON of an object.
        """
        try:
            value = clean(json.loads(payload.decode(errors="replace"), strict=False))
        except (ValueError, RecursionError) as error:
            raise ModelResponseError(
                f"the server sent something that isn't {self._name} ({error}): {truncate(payload)}"
            ) from None
        if isinstance(value, list):
            value = next((entry for entry in value if isinstance(entry, dict)), None)
        return value if isinstance(value, dict) else {}


def _fitting(value: Any, kind: Any) -> Any:
    """Return `value` as `kind`, without the parts of it that don't fit; None if nothing does.

    One object in place of a list is a list of one.
    """
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError:
        pass
    if get_origin(kind) is list:
        entries = [_fitting(entry, get_args(kind)[0]) for entry in (value if isinstance(value, list) else [value])]
        return [entry for entry in entries if entry is not None] or None
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if not isinstance(value, dict):
            return None
        return kind(**{name: _fitting(value[name], type_) for name, type_ in _fields(kind) if name in value})
    found = (_fitting(value, choice) for choice in get_args(kind))
    return next((entry for entry in found if entry is not None), None)


@functools.cache
def _fields(shape: type[msgspec.Struct]) -> list[tuple[str, Any]]:
    """Return names and types of the fields. Slow, because the annotations are texts."""
    return [(field.name, field.type) for field in msgspec.structs.fields(shape)]
