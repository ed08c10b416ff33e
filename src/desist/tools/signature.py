"""Inspect a callable: its parameters and their types, which parameters are injected, and whether it is async.

Called by `parameters` and `function`. Annotations are resolved here, and converted to a schema in `parameters`.
"""

from __future__ import annotations

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Container, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from desist.exceptions import ConfigurationError

__all__ = ["EMPTY", "INJECTED", "Parameter", "Signature", "is_async", "read_signature", "unwrap"]

EMPTY: Any = inspect.Parameter.empty

#: Names that hooks may ask for, and that a tool's own parameters may have if their annotation isn't ours.
INJECTED = frozenset(
    [
        "agent",
        "team",
        "run_context",
        "session_state",
        "dependencies",
        "images",
        "videos",
        "audio",
        "files",
        "cancel_token",
    ]
)
#: Types of parameters that are injected whatever their names, with the key of the value.
_INJECTED_TYPES = {"RunContext": "run_context", "CancelToken": "cancel_token"}
#: Names that are injected without an annotation too, and never the model's.
_OWN_NAMES = frozenset({"run_context", "cancel_token", "session_state"})
#: The annotations of the injected values, for error messages.
_ANNOTATIONS = {
    "agent": "Agent",
    "dependencies": "dict[str, Any]",
    "session_state": "dict[str, Any]",
    "run_context": "RunContext",
    "cancel_token": "CancelToken",
}
_DICTS = (dict, dict[str, Any], typing.Dict, typing.Dict[str, Any], Mapping[str, Any], MutableMapping[str, Any])  # noqa: UP006


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter. `annotation` is `Any` if there is none; `injected` is the key of the injected value."""

    name: str
    annotation: Any
    default: Any = EMPTY
    injected: str | None = None
    positional_only: bool = False


@dataclass(frozen=True, slots=True)
class Signature:
    """The parameters of a callable. `takes_more` is whether it has `**kwargs`."""

    parameters: tuple[Parameter, ...]
    takes_more: bool


def unwrap(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function inside a partial, a method or a callable object. Decorators are not unwrapped."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.ismethod(function):
        return unwrap(function.__func__)
    if not inspect.isroutine(function) and not inspect.isclass(function):
        return unwrap(type(function).__call__)
    return function


def is_async(function: Callable[..., Any]) -> bool:
    """Return whether a call returns a coroutine or an async generator, also for partials, methods and `__call__`."""
    function = unwrap(function)
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def read_signature(function: Callable[..., Any], tool: str) -> Signature:
    """Return the signature of `function`.

    Raises:
        ConfigurationError: no signature, `*args`, an annotation that can't be resolved, or a reserved name of which
            the annotation doesn't say whether the value is desist's or the model's.
    """
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"tool '{tool}': {function!r} has no readable signature: wrap it in a def") from error
    parameters = []
    for parameter in found:
        if parameter.kind is parameter.VAR_POSITIONAL:
            raise ConfigurationError(f"tool '{tool}' takes *{parameter.name}, which JSON can't express: use a list")
        if parameter.kind is not parameter.VAR_KEYWORD:
            parameters.append(_read(parameter, function, tool))
    return Signature(tuple(parameters), any(parameter.kind is parameter.VAR_KEYWORD for parameter in found))


def _read(parameter: inspect.Parameter, function: Callable[..., Any], tool: str) -> Parameter:
    try:
        annotation = _resolved(parameter.annotation, function)
        key = _injected_by_type(annotation) or _injected_by_name(parameter, annotation, tool)
    except ConfigurationError:
        raise
    except Exception as error:
        annotation = Any
        key = _injected_by_text(parameter.annotation, parameter.name)
        if key is None:
            raise ConfigurationError(
                f"tool '{tool}': the annotation {parameter.annotation!r} of '{parameter.name}' can't be resolved "
                f"({error}): define or import it at module level"
            ) from error
    return Parameter(
        name=parameter.name,
        annotation=annotation,
        default=parameter.default,
        injected=key,
        positional_only=parameter.kind is parameter.POSITIONAL_ONLY,
    )


def _resolved(annotation: Any, function: Callable[..., Any]) -> Any:
    """Return the annotation with its strings evaluated in the function's module and closure."""
    if annotation is EMPTY:
        return Any
    plain = inspect.unwrap(unwrap(function))
    names: dict[str, Any] = {}
    if isinstance(plain, types.FunctionType):
        names = {
            name: cell.cell_contents
            for name, cell in zip(plain.__code__.co_freevars, plain.__closure__ or (), strict=False)
            if _filled(cell)
        }
    holder: Any = types.SimpleNamespace(__annotations__={"it": annotation})
    module = getattr(plain, "__globals__", {})
    return typing.get_type_hints(holder, module, names, include_extras=True)["it"]


def _filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _injected_by_type(annotation: Any) -> str | None:
    """Return the key of an injected type, also inside `X | None` and `Annotated`."""
    if isinstance(annotation, type):
        return next((_INJECTED_TYPES[c.__name__] for c in annotation.__mro__ if _is_injectable(c)), None)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        return next((key for arg in typing.get_args(annotation) if (key := _injected_by_type(arg))), None)
    return None


def _is_injectable(candidate: type, names: Container[str] = _INJECTED_TYPES) -> bool:
    return candidate.__name__ in names and candidate.__module__.split(".")[0] == "desist"


def _injected_by_name(parameter: inspect.Parameter, annotation: Any, tool: str) -> str | None:
    """Return the key for a reserved name with our annotation, None if the value is the model's."""
    name = parameter.name
    if name not in INJECTED:
        return None
    if _is_ours(name, annotation) or (annotation is Any and name in _OWN_NAMES):
        return name
    if annotation is not Any and name not in _OWN_NAMES:
        return None
    ours = _ANNOTATIONS.get(name)
    advice = f"annotate it {ours} to get desist's" if ours else "there is no value of desist's"
    other = "rename it" if name in _OWN_NAMES else "annotate it with another type, such as str, to get the model's"
    raise ConfigurationError(
        f"tool '{tool}': '{name}' is a reserved name, and the annotation {_shown(parameter.annotation)} doesn't say "
        f"whose value it gets: {advice}, or {other}"
    )


def _is_ours(name: str, annotation: Any) -> bool:
    """Return whether an annotation is exactly that of the injected value, or with None."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _is_ours(name, typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        rest = [one for one in typing.get_args(annotation) if one is not type(None)]
        return len(rest) == 1 and _is_ours(name, rest[0])
    if name == "agent":
        return isinstance(annotation, type) and any(_is_injectable(one, ("Agent",)) for one in annotation.__mro__)
    return name in ("session_state", "dependencies") and annotation in _DICTS


def _injected_by_text(annotation: Any, name: str) -> str | None:
    """Return the key of an injected type for a string whose name may be imported under TYPE_CHECKING only."""
    words = re.findall(r"\w+", annotation) if isinstance(annotation, str) else []
    if name == "agent" and set(words) <= {"Agent", "Optional", "None"}:
        return name
    return next((_INJECTED_TYPES[word] for word in words if word in _INJECTED_TYPES), None)


def _shown(annotation: Any) -> str:
    return "Any, or none," if annotation in (EMPTY, Any, "Any") else repr(annotation)
