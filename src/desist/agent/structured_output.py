"""Reading the text of a model as the requested structure.

Models that don't honour a requested format put words, fences, thoughts or a byte order mark around the JSON. The text
is read as a whole first; only if that doesn't fit, a value is looked for inside.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from desist.exceptions import ModelResponseError
from desist.json_schema import WRAPPER_KEY
from desist.value_type import ValueType

__all__ = ["parse_answer"]

#: Where thoughts begin or end, a fence opens, or a value may begin.
_MARK = re.compile(
    r"<(?P<end>/?)(?P<tag>think|thinking|thought|reasoning)>|(?P<fence>(?:```|~~~)(?:[ \t]*[a-z][\w+-]*)?\s*)|[{\[]",
    re.IGNORECASE,
)
_MARKUP = "`*_'\".!\u201c\u201d \t\r\n"  #: around a word or a number
_decoder = json.JSONDecoder(strict=False)  # models write line ends into strings as they are


def parse_answer(value_type: ValueType, text: str) -> Any:
    """Return the value in `text`, converted to the type.

    Raises:
        ModelResponseError: the text has no value that fits; another request may help.
    """
    if value_type.is_text:
        return text
    whole = text.strip("\ufeff \t\r\n")
    reason: ValueError | None = None
    for candidate in _candidates(whole):
        try:
            return _value(value_type, candidate)
        except ValueError as error:
            reason = reason or error
    raise ModelResponseError(
        f"the answer isn't a {value_type.name}: {reason}; it was {text!r:.300}", retryable=True
    ) from reason


def _value(value_type: ValueType, text: str) -> Any:
    """Return the value of a JSON text, taken out of the object that was requested in its place."""
    if value_type.is_wrapped and WRAPPER_KEY in text:
        try:
            inner = json.loads(text)
            if isinstance(inner, dict) and inner.keys() == {WRAPPER_KEY}:
                return value_type.validate_json(json.dumps(inner[WRAPPER_KEY]))
        except (ValueError, RecursionError):
            pass  # the type itself may have an object with this key
    return value_type.validate_json(text)


def _candidates(text: str) -> Iterator[str]:
    """Yield JSON texts, the most trustworthy one first: the text, those in fences, those in words, the words."""
    yield text
    fenced, loose, words = _values_inside(text)
    for value in (*reversed(fenced), *reversed(loose)):
        yield json.dumps(value)
    try:
        encoded = json.loads(words)
    except (ValueError, RecursionError):
        encoded = words
    if isinstance(encoded, str):
        yield encoded  # JSON that was encoded twice
    yield json.dumps(words)  # for texts and enums, without quotes
    bare = words.strip(_MARKUP)
    yield bare
    yield json.dumps(bare)


def _values_inside(text: str) -> tuple[list[Any], list[Any], str]:
    """Return the values in fences, those elsewhere, and the text, all without what is thought.

    Linear in the length of the text: what fails to be read counts, and the search ends when too much has failed.
    """
    fenced: list[Any] = []
    loose: list[Any] = []
    words: list[str] = []
    position, shown, effort = 0, 0, 10 * len(text) + 100_000
    while effort > 0 and (mark := _MARK.search(text, position)):
        position = mark.end()
        if mark["tag"]:
            if mark["end"]:  # the beginning was in the prompt, or was left out: all so far was thought
                fenced, loose, words, shown = [], [], [], position
                continue
            words.append(text[shown : mark.start()])
            position = shown = _end_of_thought(text, mark)
            continue
        start = position if mark["fence"] else mark.start()
        try:
            value, position = _decoder.raw_decode(text, start)
            (fenced if mark["fence"] else loose).append(value)
        except json.JSONDecodeError as error:
            effort -= max(error.pos - start, 1)
        except (ValueError, RecursionError):
            effort -= 100_000
    return fenced, loose, "".join([*words, text[shown:]]).strip("\ufeff \t\r\n")


def _end_of_thought(text: str, mark: re.Match[str]) -> int:
    """Return where a thought ends. One without an end is a thought if the text begins with it."""
    end = re.compile(f"</{mark['tag']}>", re.IGNORECASE).search(text, mark.end())
    if end is not None:
        return end.end()
    return len(text) if not text[: mark.start()].strip() else mark.end()
