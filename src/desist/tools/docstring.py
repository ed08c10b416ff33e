"""Reads docstrings: what a function does, and what each of its parameters means.

Google, NumPy and Sphinx styles are understood. Called by `schema`; knows nothing of tools or JSON.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field

__all__ = ["Docstring", "parse_docstring"]

_PARAMETERS = ("args", "arguments", "parameters", "params", "other parameters", "keyword args", "keyword arguments")
_RESULTS = ("returns", "return", "yields", "yield", "raises", "raise", "exceptions", "warns")
_GOOGLE_HEADER = re.compile(r"^(\w[\w ]*):$")
_GOOGLE_ENTRY = re.compile(r"^\*{0,2}(\w+)\s*(?:\(.*?\))?\s*:(?:\s+(.*)|)$")
_NUMPY_ENTRY = re.compile(r"^(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?$")
_SPHINX_FIELD = re.compile(r"^:(\w+)(?:\s+([^:]*))?:\s*(.*)$")
_SPHINX_PARAMETER = ("param", "parameter", "arg", "argument", "key", "keyword")
_SPHINX_OTHER = ("type", "return", "returns", "rtype", "raise", "raises", "except", "exception", "yield", "yields")


@dataclass(slots=True)
class Docstring:
    """`description` is the text before the first section; `parameters` maps names to their descriptions."""

    description: str = ""
    parameters: dict[str, str] = field(default_factory=dict)


def parse_docstring(text: str | None) -> Docstring:
    """Split a docstring into its description and the descriptions of the parameters. Never raises."""
    lines = inspect.cleandoc(text or "").splitlines()
    result = Docstring()
    prose: list[str] = []
    prose_ended = False
    at = 0
    while at < len(lines):
        section, body_at = _section(lines, at)
        if section is None:
            if not prose_ended:
                prose.append(lines[at])
            at += 1
            continue
        prose_ended = prose_ended or section in ("parameters", "results")
        end = _body_end(lines, at, body_at)
        if section == "parameters":
            _read_entries(lines, at, body_at, end, result.parameters)
        elif not prose_ended:
            prose.extend(lines[at:end])
        at = end
    result.description = "\n".join(prose).strip()
    return result


def _section(lines: list[str], at: int) -> tuple[str | None, int]:
    """Return the kind of section that starts at this line, or None, and where its body starts."""
    line = lines[at].strip()
    if (match := _SPHINX_FIELD.match(line)) and match[1] in _SPHINX_PARAMETER + _SPHINX_OTHER:
        return ("parameters" if match[1] in _SPHINX_PARAMETER else "results"), at + 1
    if _underlined(lines, at):
        return _kind(line), at + 2
    if (match := _GOOGLE_HEADER.match(line)) and (kind := _kind(match[1])) != "other":
        return kind, at + 1
    return None, at + 1


def _kind(title: str) -> str:
    title = title.lower()
    return "parameters" if title in _PARAMETERS else "results" if title in _RESULTS else "other"


def _underlined(lines: list[str], at: int) -> bool:
    """Whether a NumPy header stands here."""
    following = lines[at + 1].strip() if at + 1 < len(lines) else ""
    return bool(lines[at].strip()) and len(following) >= 3 and not following.strip("-")


def _body_end(lines: list[str], at: int, body_at: int) -> int:
    """Return the line after the body: a dedent, the next header, or for a Sphinx field a blank line."""
    indent = _indent(lines[at])
    numpy = body_at == at + 2
    for end in range(body_at, len(lines)):
        line = lines[end]
        if numpy:
            if _underlined(lines, end):
                return end
        elif line.strip() and _indent(line) <= indent:
            return end
    return len(lines)


def _read_entries(lines: list[str], at: int, body_at: int, end: int, into: dict[str, str]) -> None:
    """Read the entries of a parameter section."""
    if match := _SPHINX_FIELD.match(lines[at].strip()):
        if words := (match[2] or "").split():  # ":param int count: text" names its type first
            into[words[-1].lstrip("*")] = _joined([match[3], *lines[body_at:end]])
        return
    pattern = _NUMPY_ENTRY if body_at == at + 2 else _GOOGLE_ENTRY
    body = lines[body_at:end]
    level = min((_indent(line) for line in body if line.strip()), default=0)
    names: list[str] = []
    texts: list[str] = []
    for line in [*body, ""]:
        match = pattern.match(line.strip()) if _indent(line) == level else None
        if match is None:
            texts.append(line)
            continue
        _store(names, texts, into)
        names = [name.strip(" *") for name in match[1].split(",")]
        texts = [match[2] or ""] if pattern is _GOOGLE_ENTRY else []
    _store(names, texts, into)


def _store(names: list[str], texts: list[str], into: dict[str, str]) -> None:
    for name in names:
        if text := _joined(texts):
            into[name] = text


def _joined(texts: list[str]) -> str:
    return " ".join(text.strip() for text in texts if text.strip())


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
