"""A status as a shape and a word: told apart without colour, too."""

from __future__ import annotations

from rich.text import Text

__all__ = ["sign_of", "status_text", "style_of"]

#: Sign, its ASCII form, style.
_LOOKS = {
    "PENDING": ("○", "o", "dim"),
    "RUNNING": ("●", "*", "cyan"),
    "PAUSED": ("⏸", "=", "magenta"),
    "CANCELLING": ("◐", "%", "bold yellow"),
    "CANCELLED": ("■", "#", "yellow"),
    "COMPLETED": ("✓", "+", "green"),
    "ERROR": ("✗", "x", "red"),
}


def sign_of(status: str, encoding: str = "utf-8") -> str:
    """Return the sign of a status."""
    sign, plain, _ = _LOOKS.get(status, ("·", "-", ""))
    return sign if encoding.lower().startswith("utf") else plain


def style_of(status: str) -> str:
    """Return the style of a status."""
    return _LOOKS.get(status, ("", "", ""))[2]


def status_text(status: str, encoding: str = "utf-8") -> Text:
    """Return sign and word."""
    return Text(f"{sign_of(status, encoding)} {status}", style=style_of(status))
