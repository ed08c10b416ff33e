"""`Record`: base of events and outputs, dataclasses that convert to plain dicts and JSON and back.

Subclassed by events and outputs, and by the step outputs in `desist.workflow`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self, TypeVar, dataclass_transform

import msgspec

from desist.exceptions import DesistError
from desist.run.records.json_values import Path, fields_of, names_of, to_json_line, to_json_value

__all__ = ["Record", "Reviver", "list_of", "record_class", "reviver"]

Reviver = Callable[[Any], Any]
T = TypeVar("T")


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(dataclasses.field,))
def record_class(kind: type[T]) -> type[T]:
    """Make a `Record` a keyword-only dataclass whose `__init__` is compiled at the first call.

    Compilation is nine tenths of a dataclass's import time, and a program uses few of some sixty event classes.
    """
    made = dataclasses.dataclass(kw_only=True, eq=False, repr=False, init=False, match_args=False)(kind)

    def __init__(self: Any, **values: Any) -> None:
        _compile_init(made)
        made.__init__(self, **values)  # `_compile_init` has replaced this function

    __init__.__qualname__ = f"{made.__qualname__}.__init__"
    made.__init__ = __init__  # type: ignore[method-assign]
    return made


def _compile_init(kind: type) -> None:
    """Give a record's class the `__init__` that a dataclass would have. Two threads may do this at the same time."""
    known: dict[str, Any] = {"_unset": object()}
    params, body = [], []
    for field in dataclasses.fields(kind):
        name = field.name
        value = name
        if field.default_factory is not dataclasses.MISSING:
            known[f"_new_{name}"] = field.default_factory
            params.append(f"{name}=_unset")
            value = f"_new_{name}() if {name} is _unset else {name}"
        elif field.default is not dataclasses.MISSING:
            known[f"_default_{name}"] = field.default
            params.append(f"{name}=_default_{name}")
        else:
            params.append(name)
        body.append(f"    self.{name} = {value}\n")
    source = f"def __init__(self, *, {', '.join(params)}):\n{''.join(body)}"
    # Compile first: `exec` of a string makes Python lose a KeyboardInterrupt that ends the program.
    exec(compile(source, "<init>", "exec"), known)
    init = known["__init__"]
    init.__qualname__ = f"{kind.__qualname__}.__init__"
    init.__module__ = kind.__module__
    kind.__init__ = init  # type: ignore[misc]


class Record:
    """Base of dataclasses that are stored and sent.

    Subclasses define the fields that are never sent (`_not_serialized`) and the functions that rebuild fields from
    plain values (`_revivers`).
    """

    _not_serialized: ClassVar[frozenset[str]] = frozenset()
    _revivers: ClassVar[Mapping[str, Reviver]] = {}

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values. None fields are omitted."""
        return self._fields(())

    def to_json(self) -> str:
        """Return `to_dict()` as one line of compact JSON. Non-ASCII characters are not escaped."""
        return to_json_line(self._to_plain(())).decode()

    def _fields(self, path: Path) -> dict[str, Any]:
        """Return the plain fields. `path` has the ids of the containers around this record, to detect cycles."""
        return fields_of(self, path)

    def _to_plain(self, path: Path) -> Any:
        """Return the plain form: `_fields`, or the result of `to_dict` if a user's subclass overrides it."""
        if type(self).to_dict is Record.to_dict:
            return self._fields(path)
        return to_json_value(self.to_dict(), (*path, id(self)))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Create a record from a dict as returned by `to_dict()`.

        Unknown keys are ignored, so that an older program can read the records of a newer one. A field of type `Any`
        keeps the plain value.

        Raises:
            DesistError: a value doesn't fit its field; the message names class and field.
        """
        known: dict[str, Any] = {}
        for name in names_of(cls):
            value = data.get(name)
            if value is not None:
                known[name] = cls._revive(name, value) if name in cls._revivers else value
        return cls(**known)

    @classmethod
    def _revive(cls, name: str, value: Any) -> Any:
        try:
            return cls._revivers[name](value)
        except DesistError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DesistError(f"{cls.__name__}.{name} can't be read from {value!r:.200}: {error}") from error

    def _values(self) -> dict[str, Any]:
        """Return the fields that `__eq__` and `__repr__` use."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]  # subclasses are dataclasses
        return {f.name: getattr(self, f.name, None) for f in fields if f.compare}

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    __hash__ = None  # type: ignore[assignment]  # records are mutable

    def __repr__(self) -> str:
        text = ", ".join(f"{name}={_short(value)}" for name, value in self._values().items() if value not in (None, ""))
        return f"{type(self).__name__}({text})"


def _short(value: Any) -> str:
    """Return a short `repr`: asyncio calls `repr` on every task's result, and an output may have 10,000 steps."""
    if isinstance(value, list | tuple | dict | set) and len(value) > 5:
        return f"<{type(value).__name__} of {len(value)}>"
    if isinstance(value, str | bytes) and len(value) > 200:
        return f"{value[:200]!r}... ({len(value)})"
    return repr(value)


def reviver(kind: type) -> Reviver:
    """Return a function that creates a `kind` from its plain form, and returns a `kind` unchanged."""
    own = getattr(kind, "from_dict", None)

    def revive(value: Any) -> Any:
        if isinstance(value, kind):
            return value
        return own(value) if own is not None else msgspec.convert(value, kind, strict=False)

    return revive


def list_of(reviver: Reviver) -> Reviver:
    """Return a function that applies `reviver` to each item of a list."""
    return lambda values: [reviver(value) for value in values]
