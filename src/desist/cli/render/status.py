"""Render a status as a symbol and a word, so that it can be recognized without colour."""

from __future__ import annotations

from rich.text import Text

__all__ = ["sign_of", "status_text", "style_of"]

#: Symbol, its ASCII form, style.
_STYLES = {
    "PENDING": ("○", "o", "dim"),
    "RUNNING": ("●", "*", "cyan"),
    "PAUSED": ("⏸", "=", "magenta"),
    "CANCELLING": ("◐", "%", "bold yellow"),
    "CANCELLED": ("■", "#", "yellow"),
    "COMPLETED": ("✓", "+", "green"),
    "ERROR": ("✗", "x", "red"),
}


def sign_of(status: str, encoding: str = "utf-8") -> str:
    """Return the symbol of a status."""
    sign, plain, _ = _STYLES.get(status, ("·", "-", ""))
    return sign if encoding.lower().startswith("utf") else plain


def style_of(status: str) -> str:
    """Return the style of a status."""
    return _STYLES.get(status, ("", "", ""))[2]


def status_text(status: str, encoding: str = "utf-8") -> Text:
    """Return the symbol and the word of a status."""
    return Text(f"{sign_of(status, encoding)} {status}", style=style_of(status))
