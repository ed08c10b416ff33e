"""Create the JSON schema of a callable's parameters, and validate and convert a model's arguments, with pydantic.

Called by `function`. A parameter without an annotation accepts any JSON value. pydantic is imported on first use.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from desist.exceptions import ConfigurationError, ToolError
from desist.json_schema import takes_null
from desist.tools.arguments import decoded, shortened
from desist.tools.docstring import Docstring
from desist.tools.signature import EMPTY, Parameter, Signature, read_signature

__all__ = ["ParameterSchema"]

#: Keywords whose values are data, not schemas.
_DATA = ("default", "const", "enum", "examples", "example")
#: Maximum number of validation errors in one message to the model.
_MOST_ERRORS = 5
#: How deep JSON texts may be inside of JSON texts.
_MOST_ROUNDS = 3


class ParameterSchema:
    """The parameters of one tool: `schema` describes them to the model, `validate` checks the model's arguments."""

    def __init__(self, function: Callable[..., Any], tool: str, docstring: Docstring, *, open_ended: bool) -> None:
        """Read the signature of `function`. `open_ended` allows `**kwargs`, which accept any other argument.

        Raises:
            ConfigurationError: a parameter has no JSON schema or isn't allowed.
        """
        self.tool = tool
        self.signature: Signature = read_signature(function, tool)
        if self.signature.takes_more and not open_ended:
            raise ConfigurationError(
                f"tool '{tool}' takes **kwargs, which have no JSON schema: name the parameters, or pass parameters="
            )
        self._shown = {one.name: one for one in self.signature.parameters if one.injected is None}
        self._adapter = _adapter(self._shown, tool, "allow" if self.signature.takes_more else "forbid")
        self.schema = self._described(docstring)
        properties = self.schema["properties"]
        #: Parameters for which null can only mean "use the default".
        self._null_is_default = {
            name
            for name, one in self._shown.items()
            if _default(one) is not EMPTY and not takes_null(properties.get(name, {}))
        }

    def validate(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments, converted to the annotated types.

        Raises:
            ToolError: an argument is missing, unknown or invalid. The message is for the model.
        """
        from pydantic import ValidationError

        passed = {
            name: value for name, value in arguments.items() if value is not None or name not in self._null_is_default
        }
        try:
            values = self._converted(passed)
        except ValidationError as error:
            raise ToolError(f"tool '{self.tool}': {self._explained(error)}") from error
        for name, one in self._shown.items():
            if name not in values and _is_field(one.default) and (default := _default(one)) is not EMPTY:
                values[name] = default
        return values

    def _converted(self, arguments: dict[str, Any], rounds: int = _MOST_ROUNDS) -> dict[str, Any]:
        """Validate; if that fails, again with JSON texts parsed where the schema wants something else than a text."""
        from pydantic import ValidationError

        try:
            values: dict[str, Any] = self._adapter.validate_python(arguments)
            return values
        except ValidationError as error:
            repaired: Any = arguments
            for one in error.errors(include_url=False, include_context=False):
                repaired = _parsed_at(repaired, one["loc"])
            if rounds and repaired is not arguments:
                try:
                    return self._converted(repaired, rounds - 1)
                except ValidationError:
                    pass  # the mistakes in the arguments as they were sent say more
            raise

    def _described(self, docstring: Docstring) -> dict[str, Any]:
        """Return the JSON schema with defaults and descriptions, and without pydantic's titles."""
        schema: dict[str, Any] = self._adapter.json_schema()
        _drop_titles(schema)
        schema.setdefault("properties", {})
        schema.pop("description", None)
        for name, one in self._shown.items():
            prop = schema["properties"].get(name)
            if prop is None:  # renamed by an alias
                continue
            text = _annotated_text(one.annotation) or docstring.parameters.get(name)
            if text:
                prop.setdefault("description", text)
            if (default := _jsonable(_default(one))) is not EMPTY:
                prop.setdefault("default", default)
        return {"type": "object", **schema}

    def _explained(self, error: Any) -> str:
        found = error.errors(include_url=False, include_context=False)
        texts = [self._one_error(each) for each in found[:_MOST_ERRORS]]
        if len(found) > _MOST_ERRORS:
            texts.append(f"and {len(found) - _MOST_ERRORS} more mistakes")
        return "; ".join(texts)

    def _one_error(self, error: Mapping[str, Any]) -> str:
        path = _path(error["loc"])
        if error["type"] == "missing":
            return f"argument '{path}' is missing"
        if error["type"] == "extra_forbidden":
            known = ", ".join(self.schema["properties"]) or "none"
            return f"unknown argument '{path}' (it takes: {known})" if len(error["loc"]) == 1 else f"unknown '{path}'"
        return f"argument '{path}': {error['msg']}, got {shortened(repr(error['input']))}"


def _parsed_at(value: Any, path: Sequence[int | str]) -> Any:
    """Return the value with the JSON text at or above a path parsed; the value itself if there is none."""
    if isinstance(value, str):
        return None if value.strip() == "null" else decoded(value)
    if not path:
        return value
    key: Any = path[0]
    if isinstance(value, dict) and key in value:
        part = _parsed_at(value[key], path[1:])
        return value if part is value[key] else {**value, key: part}
    if isinstance(value, list) and isinstance(key, int) and key < len(value):
        part = _parsed_at(value[key], path[1:])
        return value if part is value[key] else [*value[:key], part, *value[key + 1 :]]
    return _parsed_at(value, path[1:])  # a member of a union


def _adapter(parameters: Mapping[str, Parameter], tool: str, extra: str) -> Any:
    """Return a pydantic adapter for a `TypedDict`. Unlike a model's fields, its keys may have any name."""
    from pydantic import PydanticUserError, TypeAdapter
    from pydantic.errors import PydanticSchemaGenerationError
    from typing_extensions import TypedDict  # pydantic refuses that of typing before 3.12

    fields: dict[str, Any] = {}
    for name, one in parameters.items():
        annotation = typing.Annotated[one.annotation, one.default] if _is_field(one.default) else one.annotation
        fields[name] = annotation if _default(one) is EMPTY else typing.NotRequired[annotation]
    make: Any = TypedDict
    shape = make("Arguments", fields)
    shape.__pydantic_config__ = {"extra": extra}
    try:
        adapter = TypeAdapter(shape)
        adapter.json_schema()
    except (PydanticUserError, PydanticSchemaGenerationError) as error:
        raise ConfigurationError(f"tool '{tool}': {_blamed(parameters)} has no JSON schema: {error}") from error
    return adapter


def _blamed(parameters: Mapping[str, Parameter]) -> str:
    """Return a description of the first parameter that has no JSON schema."""
    from pydantic import TypeAdapter

    for name, one in parameters.items():
        try:
            TypeAdapter(one.annotation).json_schema()
        except Exception:
            return f"parameter '{name}' ({one.annotation!r})"
    return "one of its parameters"


def _is_field(default: Any) -> bool:
    from pydantic.fields import FieldInfo

    return isinstance(default, FieldInfo)


def _default(parameter: Parameter) -> Any:
    """Return the default of a parameter, or of its `Field(...)`; EMPTY if there is none."""
    from pydantic_core import PydanticUndefined

    default = parameter.default
    if not _is_field(default):
        return default
    value = default.get_default(call_default_factory=True)
    return EMPTY if value is PydanticUndefined else value


def _jsonable(value: Any) -> Any:
    """Return the JSON form of a default, or EMPTY if it has none."""
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    if value is EMPTY:
        return EMPTY
    try:
        return to_jsonable_python(value)
    except (PydanticSerializationError, ValueError):
        return EMPTY


def _annotated_text(annotation: Any) -> str | None:
    """Return the text of `Annotated[int, "how many"]` or `Annotated[int, Doc("how many")]`."""
    for item in getattr(annotation, "__metadata__", ()):
        text = getattr(item, "documentation", item)
        if isinstance(text, str):
            return text
    return None


def _drop_titles(node: Any, *, names: bool = False) -> None:
    """Remove pydantic's generated titles. `names`: the keys of `node` are names of parameters, not schema keywords."""
    if isinstance(node, list):
        for item in node:
            _drop_titles(item)
    elif isinstance(node, dict):
        if not names:
            node.pop("title", None)
        for key, value in node.items():
            if names or key not in _DATA:
                _drop_titles(value, names=not names and key in ("properties", "$defs"))


def _path(loc: tuple[int | str, ...]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return text.removeprefix(".")
