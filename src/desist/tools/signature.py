"""Inspect a callable: its parameters and their types, which parameters are injected, and whether it is async.

Called by `parameters` and `function`. Annotations are resolved here, and converted to a schema in `parameters`.
"""

from __future__ import annotations

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from desist.exceptions import ConfigurationError

__all__ = ["EMPTY", "INJECTED", "Parameter", "Signature", "is_async", "read_signature", "unwrap"]

EMPTY: Any = inspect.Parameter.empty

#: Names of parameters that desist injects and never shows to the model.
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
#: Types that no injected value has: with an injected name they are a mistake that would go unnoticed.
_MODEL_TYPES = (str, int, float, bool, list[str], list[int], list[float], list[bool])


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
        ConfigurationError: no signature, `*args`, an annotation that can't be resolved, or an injected name with a
            type that no injected value has.
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
    key = parameter.name if parameter.name in INJECTED else None
    try:
        annotation = _resolved(parameter.annotation, function)
    except Exception as error:
        annotation = Any
        key = key or _injected_by_text(parameter.annotation)
        if key is None:
            raise ConfigurationError(
                f"tool '{tool}': the annotation {parameter.annotation!r} of '{parameter.name}' can't be resolved "
                f"({error}): define or import it at module level"
            ) from error
    if key and annotation in _MODEL_TYPES:
        raise ConfigurationError(
            f"tool '{tool}': '{parameter.name}' is injected by desist and never shown to the model, "
            f"but is annotated {parameter.annotation!r}: rename the parameter"
        )
    return Parameter(
        name=parameter.name,
        annotation=annotation,
        default=parameter.default,
        injected=key or _injected_by_type(annotation),
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


def _is_injectable(candidate: type) -> bool:
    return candidate.__name__ in _INJECTED_TYPES and candidate.__module__.split(".")[0] == "desist"


def _injected_by_text(annotation: Any) -> str | None:
    """Return the key of an injected type for a string whose name may be imported under TYPE_CHECKING only."""
    names = re.findall(r"\w+", annotation) if isinstance(annotation, str) else []
    return next((_INJECTED_TYPES[name] for name in names if name in _INJECTED_TYPES), None)
