"""Parsing the text of a model as the requested structure."""

from __future__ import annotations

import json
import re
from typing import Any

from desist.exceptions import ModelResponseError

__all__ = ["parse_answer"]

_FENCE = re.compile(r"^\s*```(?:json)?\s*(.*?)\s*```\s*$", re.DOTALL)


def parse_answer(schema: type[Any] | dict[str, Any], text: str) -> Any:
    """Return `text` as an object of `schema`: a pydantic class, or a JSON schema, for which it is a dict.

    Raises:
        ModelResponseError: the text does not fit the schema; another request may help.
    """
    fenced = _FENCE.match(text)
    text = fenced.group(1) if fenced else text
    try:
        if isinstance(schema, dict):
            return json.loads(text)
        return schema.model_validate_json(text)
    except (ValueError, RecursionError) as error:
        name = "the JSON schema" if isinstance(schema, dict) else schema.__name__
        raise ModelResponseError(f"the answer isn't a {name}: {error}; it was {text!r:.300}", retryable=True) from error
