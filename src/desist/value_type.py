"""`ValueType`: a type or JSON schema that values from outside are checked against.

Used for the answers of models (`output_schema=`) and for the input of workflows (`input_schema=`). pydantic and
jsonschema are imported on first use.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

from desist.exceptions import ConfigurationError
from desist.json_schema import TYPED, has_object_root, subschemas

__all__ = ["ValueType"]


class ValueType:
    """Whatever pydantic's `TypeAdapter` takes, or a JSON schema as a dict.

    A dict may also be a format of OpenAI: `{"type": "json_object"}`, `{"type": "text"}`, or one with the schema inside.
    An iterable is read as a list: pydantic would check its items only while they are taken.
    """

    def __init__(self, given: Any, what: str) -> None:
        """Read the type.

        Parameters:
            what: the parameter, for errors, such as "output_schema= of agent 'x'".

        Raises:
            ConfigurationError: no JSON schema can be made of it, or the JSON schema is invalid.
        """
        self.given = given
        self.is_text = isinstance(given, dict) and given.get("type") == "text"  #: whether any text will do
        self._adapter: Any = None
        self._check: Callable[[Any], None] | None = None
        if isinstance(given, dict):
            self.schema: dict[str, Any] = _schema_in(given)
            self.name = str(self.schema.get("title") or "answer")
            self._check = _json_schema_check(self.schema, what)
        else:
            self._adapter, self.schema = _adapter(given, what)
            self.name = str(self.schema.get("title") or getattr(given, "__name__", "answer"))
        #: Whether providers, which require an object, are asked for one that has the value inside.
        self.is_wrapped = not has_object_root(self.schema)

    def validate(self, value: Any) -> Any:
        """Return a Python value, converted to the type.

        Raises:
            ValueError: the value doesn't fit.
        """
        if self._check is None:
            return _items_checked(self._adapter.validate_python(value))
        self._check(value)
        return value

    def validate_json(self, text: str) -> Any:
        """Return the value of a JSON text, converted to the type.

        Raises:
            ValueError: the text isn't JSON, or the value doesn't fit.
        """
        if self._check is None:
            return _items_checked(self._adapter.validate_json(text))
        try:
            value = json.loads(text, parse_constant=_refuse_constant)
        except RecursionError:
            raise ValueError("the JSON is nested too deeply") from None
        self._check(value)
        return value


def _items_checked(value: Any) -> Any:
    """Return a value; the items of an iterable, which pydantic checks when they are taken, as a list."""
    return list(value) if type(value).__name__ == "ValidatorIterator" else value


def _schema_in(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON schema in a format of OpenAI, or the dict itself."""
    kind = given.get("type")
    if kind == "text":
        return {"type": "string"}
    if kind == "json_object":
        return {"type": "object"}
    if kind == "json_schema":
        inner = given.get("json_schema")
        return dict((inner if isinstance(inner, Mapping) else given).get("schema") or {})
    if isinstance(inner := given.get("schema"), Mapping) and not given.keys() & TYPED:
        return dict(inner)
    return dict(given)


def _adapter(given: Any, what: str) -> tuple[Any, dict[str, Any]]:
    """Return a pydantic adapter and its JSON schema."""
    import pydantic

    if given is None or isinstance(given, str) or inspect.isroutine(given):
        raise ConfigurationError(f"{what} must be a type or a JSON schema, not {given!r:.80}")
    try:
        adapter: Any = pydantic.TypeAdapter(given)
        return adapter, adapter.json_schema()
    except Exception as error:  # pydantic's own kinds, and whatever a type's hooks raise
        hint = f": pass the class {type(given).__name__}, not an object of it" if _is_instance(given) else ""
        raise ConfigurationError(
            f"{what} can't be {given!r:.80}, which has no JSON schema{hint} ({str(error).splitlines()[0]})"
        ) from error


def _is_instance(given: Any) -> bool:
    return hasattr(type(given), "model_fields") or hasattr(type(given), "__dataclass_fields__")


def _json_schema_check(schema: dict[str, Any], what: str) -> Callable[[Any], None]:
    """Return a function that raises `ValueError` for a value that doesn't fit a JSON schema."""
    import jsonschema
    import jsonschema_specifications
    import referencing
    import referencing.exceptions
    import referencing.jsonschema

    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    registry = jsonschema_specifications.REGISTRY  # no reference is ever fetched from the network
    try:
        kind.check_schema(schema)
        resource = referencing.Resource.from_contents(schema, referencing.jsonschema.DRAFT202012)
        resolver = registry.with_resource(resource.id() or "", resource).resolver(resource.id() or "")
        for node in subschemas(schema):
            if "$ref" in node:
                resolver.lookup(node["$ref"])
    except (jsonschema.SchemaError, referencing.exceptions.Unresolvable, RecursionError) as error:
        message = getattr(error, "message", None) or str(error) or type(error).__name__
        raise ConfigurationError(f"{what} isn't a valid JSON schema: {message:.300}") from error
    validator = kind(schema, registry=registry, format_checker=kind.FORMAT_CHECKER)

    def check(value: Any) -> None:
        try:
            wrong = jsonschema.exceptions.best_match(validator.iter_errors(value))
        except (RecursionError, OverflowError) as error:
            raise ValueError(f"it can't be checked: {error}") from None
        if wrong is not None:
            place = "".join(f"[{part!r}]" for part in wrong.absolute_path)
            raise ValueError(f"{wrong.message:.300}{f' at {place}' if place else ''}")

    return check


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} isn't JSON")
