"""Decodes JSON to typed structures. Called by the response modules.

msgspec reads the usual event in a microsecond; what it refuses (half of a surrogate pair, a float for an int) gets a
second, lenient reading.
"""

from __future__ import annotations

import json
from typing import Generic, TypeVar

import msgspec

from desist.exceptions import ModelResponseError
from desist.models.http.text import clean, truncate

__all__ = ["Decoder"]

T = TypeVar("T")


class Decoder(Generic[T]):
    """Decodes JSON to a msgspec structure. `name` is the expected thing, for error messages."""

    def __init__(self, shape: type[T], name: str) -> None:
        self._shape, self._name = shape, name
        self._read = msgspec.json.Decoder(shape).decode

    def __call__(self, payload: bytes) -> T:
        """Return `payload` as the shape.

        Raises:
            ModelResponseError: it isn't JSON, or not of that shape; the message shows its beginning.
        """
        try:
            return self._read(payload)
        except msgspec.DecodeError:
            pass
        try:
            return msgspec.convert(clean(json.loads(payload.decode(errors="replace"))), self._shape, strict=False)
        except (ValueError, RecursionError) as error:
            raise ModelResponseError(
                f"the server sent something that isn't {self._name} ({error}): {truncate(payload)}"
            ) from None
