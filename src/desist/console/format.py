"""Format small values for display: symbols, durations, counts; and sanitize text for a terminal."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from rich.console import Console

__all__ = [
    "ASCII",
    "UNICODE",
    "Symbols",
    "clean",
    "count",
    "escaped",
    "milliseconds",
    "one_line",
    "seconds",
    "signs_for",
]

#: Escape sequences and control characters, except tab and line feed. Text from models and tools is untrusted.
_CONTROL = re.compile(r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
#: Line and paragraph separators and bidirectional controls, which can make a text look like a different one.
_MISLEADING = re.compile("[\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Symbols:
    """The symbols at the start of lines."""

    done: str
    stopped: str
    failed: str
    waits: str
    asked: str
    tool: str
    dot: str
    frames: str  #: of the spinner


UNICODE = Symbols("✓", "■", "✗", "⏸", "›", "⚙", "·", "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
ASCII = Symbols("+", "#", "x", "=", ">", "*", "-", "|/-\\")


def signs_for(console: Console) -> Symbols:
    """Return the symbols that the console's encoding supports."""
    return UNICODE if console.encoding.lower().startswith("utf") else ASCII


def clean(text: str, encoding: str = "utf-8") -> str:
    """Return a text without control sequences, with "?" for each character that the encoding lacks."""
    text = _MISLEADING.sub(" ", _CONTROL.sub("", text.replace("\r\n", "\n")))
    return text.encode(encoding, "replace").decode(encoding)


def escaped(text: str) -> str:
    """Return a text with control characters, line feeds too, as `\\uXXXX`. The value of a JSON text doesn't change."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def one_line(value: Any, limit: int = 200) -> str:
    """Return a value as one short line of clean text."""
    text = " ".join(clean(str(value)).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def seconds(value: float) -> str:
    """Return a duration: `0.42 s`, `8.1 s`, `2 min 03 s`."""
    if value < 1:
        return f"{value:.2f} s"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(int(value), 60)
    return f"{minutes} min {rest:02d} s"


def milliseconds(value: float) -> str:
    """Return a short duration, given in seconds: `0.4 ms`, `12 ms`; a long one as by `seconds`."""
    if value >= 10:
        return seconds(value)
    value *= 1000
    return f"{value:.1f} ms" if value < 10 else f"{value:,.0f} ms"


def count(number: int, noun: str) -> str:
    """Return `1 step`, `1,204 steps`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
