"""`ToolCallAssembler`: which call a piece belongs to, and the calls put together.

Called by `desist.models.http.answer` and the parsers. Servers disagree on how a piece names its call: some send index 0
for all calls, or no index; some no id, one id for all, or another with each piece; some repeat the name, or split it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

from desist.models.response import ToolCallDelta

__all__ = ["ToolCallAssembler", "is_whole"]


#: What opens and closes in JSON, and what is escaped.
_TOKENS = re.compile(r'\\.|["{}\[\]]', re.DOTALL)


def is_whole(arguments: str) -> bool:
    """Return whether `arguments` is the JSON of an object, so that nothing can be missing; it may be encoded twice."""
    if not arguments.rstrip().endswith(("}", '"')):
        return False
    try:
        value = json.loads(arguments)
        return isinstance(json.loads(value) if isinstance(value, str) else value, dict)
    except (ValueError, RecursionError):
        return False


def _same(one: str, other: str) -> bool:
    """Return whether two texts are the same whole object."""
    return is_whole(one) and is_whole(other) and bool(json.loads(one) == json.loads(other))


class _Brackets:
    """Tells whether all brackets of JSON text are closed, without reading the text again for each piece."""

    __slots__ = ("_carry", "_depth", "_quoted", "_read")

    def __init__(self) -> None:
        self._read = 0  # parts
        self._carry = ""  # a backslash at the end of a part
        self._depth = 0
        self._quoted = False

    def closed(self, parts: list[str]) -> bool:
        """Return whether nothing is open after `parts`, which have grown since the last call."""
        for part in parts[self._read :]:
            text = self._carry + part
            self._carry = "\\" if (len(text) - len(text.rstrip("\\"))) % 2 else ""
            for token in _TOKENS.findall(text):
                if token == '"':
                    self._quoted = not self._quoted
                elif not self._quoted:
                    self._depth += (token in "{[") - (token in "}]")
        self._read = len(parts)
        return self._depth <= 0 and not self._quoted


class _Call:
    """A call that is being received."""

    __slots__ = ("_brackets", "_end", "_parts", "chunk", "closed", "id", "index", "name", "tentative")

    def __init__(self, index: int | None, chunk: int) -> None:
        self.index, self.chunk = index, chunk
        self.id: str | None = None
        self.name = ""
        self.closed = False
        self.tentative = False  # it counts only if arguments come
        self._parts: list[str] = []
        self._end = ""  # the last character that isn't blank
        self._brackets = _Brackets()

    def add(self, text: str) -> None:
        """Add a piece of the arguments."""
        self._parts.append(text)
        self._end = text.rstrip()[-1:] or self._end

    def set(self, text: str) -> None:
        """Replace the arguments."""
        self._parts.clear()
        self._brackets = _Brackets()
        self.add(text)

    @property
    def has_arguments(self) -> bool:
        return bool(self._end)

    @property
    def arguments(self) -> str:
        """The pieces joined. Left out is what a later piece repeats, and a first `{}` that means "none yet"."""
        parts = self._parts
        joined = "".join(parts)
        if len(parts) > 1 and not is_whole(joined):
            before, last = "".join(parts[:-1]), parts[-1]
            if is_whole(last) and (last.startswith(parts[-2]) or _same(before, last)):
                return last
            rest = "".join(parts[1:])
            if is_whole(rest) and (_same(parts[0], "{}") or _same(parts[0], rest)):
                return rest
        return joined

    def is_whole(self) -> bool:
        """Return whether the arguments are whole, or `null`, which some servers send for none."""
        if self._end not in ("}", '"', "l") or not self._brackets.closed(self._parts):
            return False
        return is_whole(self.arguments) or self.arguments.strip() == "null"


class ToolCallAssembler:
    """Puts calls together from their pieces. `names` are those of the tools, which settles where a name ends."""

    def __init__(self, names: Collection[str] = ()) -> None:
        self._names = names
        self._calls: list[_Call] = []
        self._at_index: dict[int | None, _Call] = {}  # the latest
        self._with_id: dict[str, list[_Call]] = {}
        self._chunk = 0

    def next_chunk(self) -> None:
        """Note that what follows is from another chunk: two names in one chunk are two calls."""
        self._chunk += 1

    def add(self, *, index: int | None, id: str | None, name: str | None, arguments: Any) -> None:
        """Add a piece of a call.

        A new id with a name begins a call, and so does a name when the arguments so far are a whole object.
        """
        text = _text(arguments)
        if id or name or text:
            call = self._owner(index, id or None, name or "", text)
            self._extend(call or self._new(index), id, name, text)

    def begin(self, *, index: int | None, id: str | None, name: str | None, arguments: Any) -> None:
        """Begin a call, for an API that says so; nothing new if the same was said before."""
        known, text = self._by_id(id, index), _text(arguments)
        if known is not None and known.index == index and known.name == name:
            if known.has_arguments and text == known.arguments:
                return
            if not known.has_arguments:
                self._extend(known, id, name, text)
                return
        self._extend(self._new(index), id, name, text)

    def finish(
        self, *, index: int | None, id: str | None, name: str | None, arguments: Any, closes: bool = True
    ) -> None:
        """Take all of a call's arguments, for an API that repeats them. What arrived whole in pieces stays.

        `closes`: nothing more comes of this call, and another one may have its index.
        """
        text = _text(arguments)
        call = self._by_id(id, index) or self._at(index)
        if call is not None and call.closed:
            moved = index is not None and index != call.index and text != call.arguments
            other = bool(id) and id != call.id and call.id is not None
            if other or moved or (name and name != call.name):
                call = None
        if call is None:
            if not (id or name or text):
                return
            call = self._new(index)
        if text and (call.arguments.strip() == "{}" or not call.is_whole()):
            call.set(text)
        call.closed = call.closed or closes
        self._extend(call, id, name, "")

    def all_whole(self, count: int = 0) -> bool:
        """Return whether nothing can be missing in any call, and there are at least `count`."""
        found = self._found()
        return len(found) >= count and all(call.is_whole() for call in found)

    def calls(self) -> list[ToolCallDelta]:
        """Return the calls in order of their beginnings."""
        return [
            ToolCallDelta(index=index, id=call.id, name=call.name or None, arguments=call.arguments)
            for index, call in enumerate(self._found())
        ]

    def _found(self) -> list[_Call]:
        return [call for call in self._calls if call.has_arguments or (call.name and not call.tentative)]

    # -- which call it is

    def _new(self, index: int | None) -> _Call:
        call = self._at_index[index] = _Call(index, self._chunk)
        self._calls.append(call)
        return call

    def _by_id(self, id: str | None, index: int | None) -> _Call | None:
        """Return the latest call with this id; of several, the one with this index."""
        same = self._with_id.get(id or "", [])
        return next((call for call in reversed(same) if call.index == index), same[-1] if same else None)

    def _at(self, index: int | None) -> _Call | None:
        """Return the latest call with this index, without an index the latest of all."""
        if index is None:
            return self._calls[-1] if self._calls else None
        return self._at_index.get(index)

    def _owner(self, index: int | None, id: str | None, name: str, text: str) -> _Call | None:
        """Return the call that a piece continues, or None if it begins one."""
        known = self._by_id(id, index)
        call = known or self._at(index)
        if call is None or (known is None and id is not None and call.id is not None and name):
            last = call or (self._calls[-1] if self._calls else None)
            if last is None or not _goes_on(last, name, text):
                return None
            if id and name:
                self._drop_empty_before(last)
            return last
        whole = call.is_whole()
        if not name:
            return None if whole and text.strip() and known is None and id and call.id else call
        if whole and call.name:
            if name == call.name and not text.strip():  # repeats the name, or begins another call of the tool
                call = self._new(index)
                call.tentative = True
                return call
            repeats = known is not None and (text == call.arguments or call.arguments.strip() == "{}")
            return call if name == call.name and repeats else None
        if self._is_other(call.name, name):
            return None
        elsewhere = index is not None and index != call.index
        if elsewhere and (name != call.name or (call.has_arguments and text.lstrip().startswith("{"))):
            return None
        if call.has_arguments:
            return call
        in_one_chunk = known is None and call.chunk == self._chunk and call.name
        return None if in_one_chunk and call.name + name not in self._names else call

    def _drop_empty_before(self, call: _Call) -> None:
        """Where each piece has another id, and the name again: a call without arguments just before was a piece too."""
        for before in reversed(self._calls[: self._calls.index(call)]):
            if before.name != call.name or before.has_arguments:
                return
            before.tentative = True

    def _is_other(self, so_far: str, name: str) -> bool:
        """Return whether `name` can't belong to a call named `so_far`, as far as the names of the tools tell."""
        if name == so_far or so_far not in self._names:
            return False
        return name in self._names or not (so_far + name in self._names or name.startswith(so_far))

    def _extend(self, call: _Call, id: str | None, name: str | None, text: str) -> None:
        if id and call.id is None:
            call.id = id
            self._with_id.setdefault(id, []).append(call)
        if name and name != call.name:
            if not call.name or (name.startswith(call.name) and not call.has_arguments):
                call.name = name
            elif not call.has_arguments or call.name + name in self._names:
                call.name += name
        if text:
            call.add(text)


def _goes_on(call: _Call, name: str, text: str) -> bool:
    """Return whether a piece with another id or index is the next one of this call nevertheless."""
    if not text.strip() or call.is_whole():
        return False
    return not name or (name == call.name and call.has_arguments and not text.lstrip().startswith("{"))


def _text(arguments: Any) -> str:
    """Return the arguments as text. Some servers send an object."""
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else json.dumps(arguments)
