"""Parse docstrings in Google, NumPy and Sphinx style for the descriptions of a tool and its parameters.

Called by `function`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import docstring_parser

__all__ = ["Docstring", "parse_docstring"]

_PARAMETERS = ("Args", "Arguments", "Parameters", "Params", "Other Parameters", "Keyword Args", "Keyword Arguments")
_RESULTS = ("Returns", "Return", "Yields", "Yield", "Raises", "Raise", "Exceptions", "Warns")
_ROLE = re.compile(
    r"^(?=:[\w:]+:`)", re.MULTILINE
)  #: a line that begins with a role such as :class:`Name`, which is not a field


@dataclass(slots=True)
class Docstring:
    """`description` is the text before the first section; `parameters` maps names to their descriptions."""

    description: str = ""
    parameters: dict[str, str] = field(default_factory=dict)


def parse_docstring(text: str | None) -> Docstring:
    """Split a docstring into its description and the descriptions of the parameters.

    Never raises. If the text has no sections, or sections that can't be parsed, all of it is the description.
    """
    text = inspect.cleandoc(text or "")
    found = (
        max(_parsed(text), key=lambda one: (len(one.params), len(one.meta)), default=None)
        if "\n" in text or ":" in text
        else None
    )
    if found is None or not (found.params or found.many_returns or found.raises):
        return Docstring(text)  # a section of examples or notes belongs to the description
    parameters = {
        name.strip(" *"): " ".join(one.description.split())
        for one in found.params
        if one.description
        for name in one.arg_name.split(",")
    }
    return Docstring((found.description or "").strip().replace("\n :", "\n:"), parameters)


def _parsed(text: str) -> Iterator[docstring_parser.Docstring]:
    if ":" not in text and "---" not in text:  # no sections: avoid the import of the library
        return
    from docstring_parser import ParseError

    for parse in _parsers():
        try:
            yield parse(_ROLE.sub(" ", text))
        except ParseError:
            continue


@cache
def _parsers() -> tuple[Callable[[str], docstring_parser.Docstring], ...]:
    """Return a parser for each style. The sections of the Google parser are limited to those named above."""
    from docstring_parser import google, numpydoc, rest

    multiple, single = google.SectionType.MULTIPLE, google.SectionType.SINGULAR
    sections = [google.Section(title, "param", multiple) for title in _PARAMETERS]
    sections += [google.Section(title, "returns", single) for title in _RESULTS]
    return google.GoogleParser(sections).parse, numpydoc.parse, rest.parse
