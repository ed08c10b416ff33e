"""Server-sent events out of the lines of a stream, as dicts. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from desist.exceptions import DesistError

__all__ = ["events_of"]


def events_of(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Return the events, each as the dict that stands in its data.

    Raises:
        DesistError: data isn't a JSON object.
    """
    data: list[str] = []
    for line in lines:
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            yield _decoded("\n".join(data))
            data.clear()


def _decoded(text: str) -> dict[str, Any]:
    try:
        event = json.loads(text)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise DesistError(f"the server sent an event that isn't a JSON object: {text!r:.200}")
    return event
