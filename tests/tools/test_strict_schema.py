"""Strict schemas, for tools and for structured output."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import uuid
from typing import Annotated, Any, Literal, NamedTuple, NotRequired

import pydantic
import pytest
from provider_requests.strict_schemas import check_anthropic_schema, check_openai_schema
from typing_extensions import TypedDict

from desist.json_schema import wrapped_schema
from desist.models.anthropic.structured_output import output_format, strict_input_schema
from desist.models.http.json_schema import output_schema
from desist.strict_schema import non_strict_parts, say_not_strict, strict_schema
from desist.tools.function import Function


class Node(pydantic.BaseModel):
    """A type that has itself in it, described, so that its `$ref` has neighbours."""

    child: Node = pydantic.Field(None, description="the next")  # type: ignore[assignment]
    other: list[Node] = []


def test_a_recursive_type_is_strict() -> None:
    """A described recursive type ends; the root is an object, and nothing stands beside a `$ref`."""
    schema = strict_schema(pydantic.TypeAdapter(Node).json_schema(), optional="required")
    assert (schema["type"], schema["required"]) == ("object", ["child", "other"])
    node = schema["$defs"]["Node"]
    assert node["properties"]["child"] == {"anyOf": [{"$ref": "#/$defs/Node"}], "description": "the next"}
    assert node["additionalProperties"] is False and schema["additionalProperties"] is False


def test_a_null_for_a_described_reference() -> None:
    """A reference with a default takes null, and keeps its description outside."""
    schema = strict_schema(pydantic.TypeAdapter(Node).json_schema(), optional="null")["$defs"]["Node"]
    assert schema["properties"]["child"]["description"] == "the next"
    assert {"type": "null"} in schema["properties"]["child"]["anyOf"]


@pytest.mark.parametrize(
    ("annotation", "found"),
    [
        (dict[str, int], ["x: a dict with arbitrary keys"]),
        (list[Any], ["x: a value of any type"]),
        (Node, []),
        (pydantic.create_model("Empty"), []),
        (pydantic.create_model("Keyword", additionalProperties=(int, 1)), []),
    ],
)
def test_what_cannot_be_strict(annotation: Any, found: list[str]) -> None:
    """Free keys and untyped values are found; a property may be called like a keyword."""
    assert list(non_strict_parts(pydantic.TypeAdapter(annotation).json_schema(), "x")) == found


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]


class Pair(NamedTuple):
    left: int
    right: str = "r"


class Colour(enum.Enum):
    red = "red"
    one = 1


class Limits(pydantic.BaseModel):
    """Limits of all kinds, with defaults and examples."""

    text: str = pydantic.Field("x", min_length=1, max_length=9, pattern="^a+$", examples=["a"])
    looks: Annotated[str, pydantic.WithJsonSchema({"type": "string", "pattern": "^(?!x).*$"})] = "y"
    price: decimal.Decimal = decimal.Decimal(1)
    url: pydantic.AnyUrl | None = None
    number: int = pydantic.Field(3, ge=1, lt=9, multiple_of=2)
    unique: set[int] = pydantic.Field(default_factory=set, min_length=2)
    day: datetime.date | None = None
    raw: bytes = b""
    span: datetime.timedelta | None = None
    key: uuid.UUID | None = None
    secret: pydantic.SecretStr | None = None


class Tree(pydantic.BaseModel):
    value: int
    children: list[Tree] = []


@dataclasses.dataclass
class Plain:
    at: tuple[int, int]
    mixed: tuple[int, str, Cat]
    more: tuple[int, ...] = ()


class Keys(TypedDict):
    """A property has the name of a keyword."""

    default: int
    oneOf: str
    properties: NotRequired[list[int]]


STRICT = [
    Cat,
    Annotated[Cat | Dog, pydantic.Field(discriminator="kind")],
    list[Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]],
    Cat | None,
    tuple[int, int],
    tuple[int, str],
    tuple[int, str, int],
    Pair,
    Colour,
    Literal["a", 1, None, True],
    Literal["a"],
    Limits,
    Tree,
    list[Tree],
    Plain,
    Keys,
    int,
    str,
    bool,
    float | None,
    datetime.datetime,
    decimal.Decimal,
    set[str],
    frozenset[Colour],
    pydantic.RootModel[list[int]],
    pydantic.RootModel[Cat | Dog],
    pydantic.Base64Bytes,
    pydantic.IPvAnyAddress,
]
#: Types that strict mode can't express, with the part that is named.
NOT_STRICT = [
    (dict[str, int], "arbitrary keys"),
    (dict[Colour, int], "arbitrary keys"),
    (dict[Annotated[str, pydantic.Field(pattern="^a$")], int], "arbitrary keys"),
    (Any, "any type"),
    (list, "any type"),
    (tuple, "any type"),
    (list[Any], "any type"),
    (pydantic.JsonValue, "any type"),
    (pydantic.create_model("Open", __config__=pydantic.ConfigDict(extra="allow")), "arbitrary keys"),
    (pydantic.create_model("Loose", x=(Any, ...)), "any type"),
    (Annotated[int, pydantic.WithJsonSchema({"type": "integer", "not": {"const": 0}})], "'not'"),
    (Annotated[int, pydantic.WithJsonSchema({"allOf": [{"type": "integer"}, {"minimum": 1}]})], "all hold"),
    (Literal[tuple(str(number) for number in range(1001))], "1000 values"),  # type: ignore[misc]
]


@pytest.mark.parametrize("annotation", STRICT, ids=str)
def test_strict_schemas_have_only_what_providers_accept(annotation: Any) -> None:
    """Whatever the type, what is sent as strict passes the documented rules of each API, and the input is unchanged."""
    form = output_schema(annotation)
    assert form.strict
    check_openai_schema("schema", form.schema)
    claude = output_format(annotation)
    if annotation in (Tree, list[Tree]):
        assert claude is None  # Anthropic has no recursive types
    else:
        assert claude is not None
        check_anthropic_schema("schema", claude["schema"])


@pytest.mark.parametrize(("annotation", "part"), NOT_STRICT, ids=str)
def test_strict_is_off_for_what_it_cannot_express(annotation: Any, part: str, caplog: pytest.LogCaptureFixture) -> None:
    """The plain schema is sent, with an object as root; why is said once."""
    say_not_strict.cache_clear()
    for _ in range(2):
        form = output_schema(annotation)
        assert not form.strict and form.schema["type"] == "object"
    assert output_format(annotation) is None
    assert [part in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize("annotation", [one for one in STRICT if one not in (Limits,)], ids=str)
def test_strict_tools_have_only_what_providers_accept(annotation: Any) -> None:
    """The same for the parameter of a strict tool, required and with a default."""

    def tool(needed: Any, free: Any = None) -> None:
        """Do something."""

    tool.__annotations__.update(needed=annotation, free=annotation)
    made = Function(entrypoint=tool, strict=True).definition()["function"]
    check_openai_schema("parameters", made["parameters"])
    if strict := strict_input_schema(made):
        check_anthropic_schema("parameters", strict)


def test_limits_become_words() -> None:
    """What a provider doesn't take is told to the model."""
    sent = output_schema(Limits).schema["properties"]
    assert sent["text"]["description"] == "maxLength: 9; minLength: 1" and sent["text"]["pattern"] == "^a+$"
    assert sent["looks"]["description"] == "pattern: ^(?!x).*$"
    assert sent["number"] == {
        "type": "integer",
        "title": "Number",
        "minimum": 1,
        "exclusiveMaximum": 9,
        "multipleOf": 2,
    }
    at = output_schema(Plain).schema["properties"]
    assert (at["at"]["items"], at["at"]["minItems"], at["at"]["maxItems"]) == ({"type": "integer"}, 2, 2)
    assert at["mixed"]["description"].startswith("items in this order: [")


def test_a_schema_that_refers_to_its_root_is_wrapped() -> None:
    """References into the schema itself still lead to the same place."""
    schema = {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"$ref": "#"}]}}
    assert wrapped_schema(schema)["properties"]["result"]["items"]["anyOf"][1] == {"$ref": "#/properties/result"}
