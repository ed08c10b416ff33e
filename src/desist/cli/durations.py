"""Parse durations of options: `90`, `90s`, `10m`, `2h`, `1.5d`."""

from __future__ import annotations

import re
from typing import Any

import typer

__all__ = ["duration_option", "parse_duration"]

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def parse_duration(text: str | float) -> float:
    """Return a duration in seconds.

    Raises:
        typer.BadParameter: the text isn't a duration.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw]?)", str(text).strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} isn't a time: write 90, 90s, 10m, 2h or 7d")
    return float(found[1]) * _UNITS[found[2]]


def duration_option(help: str, **more: Any) -> Any:
    """Return the definition of an option that takes a duration."""
    return typer.Option(help=help, parser=parse_duration, metavar="TIME", **more)
