import dataclasses
from enum import Enum
from typing import Any, Literal, TypedDict

import msgspec
import pydantic
import pydantic.dataclasses
import pytest

from penstock.client.schemas import DEPTH_MAX, Column, SchemaInvalid, asked, parser

Mood = Literal["good", "bad"]


class Model(pydantic.BaseModel):
    """A review."""

    mood: Mood
    score: int = pydantic.Field(ge=1, le=5, description="of five")
    share: float | None = None
    sure: bool
    tags: list[str]


@dataclasses.dataclass
class Plain:
    """A review."""

    mood: Mood
    score: int
    share: float | None
    sure: bool
    tags: list[str]


@pydantic.dataclasses.dataclass
class Checked:
    """A review."""

    mood: Mood
    score: int
    share: float | None
    sure: bool
    tags: list[str]


class Struct(msgspec.Struct):
    """A review."""

    mood: Mood
    score: int
    share: float | None
    sure: bool
    tags: list[str]


class Typed(TypedDict):
    """A review."""

    mood: Mood
    score: int
    share: float | None
    sure: bool
    tags: list[str]


class Size(Enum):
    """An enumeration of numbers."""

    SMALL = 1
    LARGE = 2


class Inner(msgspec.Struct):
    """Something inside."""

    size: Size


class Outer(msgspec.Struct):
    """Something around it."""

    one: Inner
    many: list[Inner] = []


class Tree(msgspec.Struct):
    """Something that contains itself."""

    children: list["Tree"] = []


ANSWER = '{"mood": "good", "score": 5, "share": null, "sure": true, "tags": ["a", "ü"]}'
KINDS = [Model, Plain, Checked, Struct, Typed]


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_type_asks_for_the_same(kind: Any) -> None:  # noqa: ANN401  # any type
    """A type of any library is asked for in Google's dialect, with columns and values alike."""
    made = asked(kind)
    schema = made.config["responseSchema"]
    assert made.config["responseMimeType"] == "application/json"
    assert schema["type"] == "OBJECT"
    assert schema["description"] == "A review."
    assert schema["propertyOrdering"] == ["mood", "score", "share", "sure", "tags"]
    members = schema["properties"]
    assert members["mood"]["type"] == "STRING"
    assert sorted(members["mood"]["enum"]) == ["bad", "good"]
    assert members["score"]["type"] == "INTEGER"
    assert members["share"] == {"type": "NUMBER", "nullable": True}
    assert members["tags"] == {"type": "ARRAY", "items": {"type": "STRING"}}
    assert [(column.name, column.kind) for column in made.columns] == [
        ("mood", "text"),
        ("score", "integer"),
        ("share", "number"),
        ("sure", "boolean"),
        ("tags", "json"),
    ]
    assert made.values(ANSWER) == ("good", 5, None, True, '["a","ü"]')


@pytest.mark.parametrize("kind", KINDS)
def test_and_is_read_back(kind: Any) -> None:  # noqa: ANN401  # any type
    """The parser gives the type itself, and a ValueError for what is another."""
    read = parser(kind)
    found = read(ANSWER)
    tags = found["tags"] if kind is Typed else found.tags
    assert tags == ["a", "ü"]
    with pytest.raises(ValueError, match="score"):
        read(ANSWER.replace("5", '"x"'))


def test_what_a_model_says_of_its_fields_is_asked_for() -> None:
    """Bounds and descriptions are sent; titles, which cost tokens and say nothing, are not."""
    schema = asked(Model).config["responseSchema"]
    assert schema["properties"]["score"] == {
        "type": "INTEGER",
        "description": "of five",
        "minimum": 1,
        "maximum": 5,
    }
    assert "title" not in str(schema)
    assert schema["required"] == ["mood", "score", "sure", "tags"]


def test_references_are_written_out() -> None:
    """A batch cannot import references; numbers of an enumeration are texts in the dialect."""
    schema = asked(Outer).config["responseSchema"]
    inner = schema["properties"]["one"]
    assert inner["properties"]["size"]["type"] == "INTEGER"
    assert inner["properties"]["size"]["enum"] == ["1", "2"]
    assert schema["properties"]["many"]["items"] == inner
    assert "$" not in str(schema)


@pytest.mark.parametrize(
    ("kind", "schema", "answer", "values"),
    [
        (Literal["yes", "no"], {"type": "STRING", "enum": ["no", "yes"]}, '"yes"', ("yes",)),
        (list[int], {"type": "ARRAY", "items": {"type": "INTEGER"}}, "[1, 2]", ("[1,2]",)),
        (int | None, {"type": "INTEGER", "nullable": True}, "3.0", (3,)),
        (bool, {"type": "BOOLEAN"}, "1", (None,)),
    ],
)
def test_an_answer_need_not_be_an_object(
    kind: Any,  # noqa: ANN401  # any type
    schema: dict[str, Any],
    answer: str,
    values: tuple[Any, ...],
) -> None:
    """A list or a single value has one column."""
    made = asked(kind)
    assert made.config["responseSchema"] == schema
    assert [column.name for column in made.columns] == ["_value"]
    assert made.values(answer) == values
    assert made.values("no JSON") is None


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"type": ["string", "null"]}, {"type": "STRING", "nullable": True}),
        (
            {"type": ["string", "null"], "enum": ["a", None]},
            {"type": "STRING", "enum": ["a"], "nullable": True},
        ),
        ({"enum": ["a", None]}, {"type": "STRING", "enum": ["a"], "nullable": True}),
        ({"const": "a"}, {"type": "STRING", "enum": ["a"]}),
        ({"const": 1.5}, {"type": "NUMBER", "enum": ["1.5"]}),
        ({"enum": [True]}, {"type": "BOOLEAN", "enum": ["true"]}),
        ({"type": "string", "nullable": True}, {"type": "STRING", "nullable": True}),
        (
            {"type": "string", "format": "date-time", "title": "T", "default": "x"},
            {"type": "STRING", "format": "date-time"},
        ),
        ({"type": "string", "format": "email"}, {"type": "STRING"}),
        (
            {"description": "d", "oneOf": [{"type": "string"}, {"type": "integer"}]},
            {"description": "d", "anyOf": [{"type": "STRING"}, {"type": "INTEGER"}]},
        ),
        ({"allOf": [{"type": "string"}]}, {"type": "STRING"}),
        (
            {"$defs": {"a/b": {"type": "string"}}, "$ref": "#/$defs/a~1b", "description": "d"},
            {"type": "STRING", "description": "d"},
        ),
    ],
)
def test_words_of_json_schema(given: dict[str, Any], sent: dict[str, Any]) -> None:
    """What JSON Schema says in one way, Google's dialect says in another."""
    assert asked(given).config["responseSchema"] == sent


def test_a_schema_in_the_dialect_stays_as_it_is() -> None:
    """Who has a `responseSchema` already may give it."""
    schema = {
        "type": "OBJECT",
        "properties": {"b": {"type": "STRING"}, "a": {"type": "NUMBER", "nullable": True}},
        "required": ["a"],
        "propertyOrdering": ["a", "b"],
    }
    made = asked(schema)
    assert made.config["responseSchema"] == schema
    assert made.columns == (Column("b", "text"), Column("a", "number"))
    assert parser(schema)('{"a": 1}') == {"a": 1}


def nested(levels: int) -> dict[str, Any]:
    """Return a schema with so many lists within each other."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Tree, "children[]: a batch cannot be asked for this: it contains itself"),
        (dict[str, int], "an object with names that are not known before"),
        (tuple[int, str], "an array whose places differ"),
        (list[Any], "a list of anything"),
        (Any, "it has no single type"),
        ({"type": "array", "items": {"type": "object"}}, "[]: a batch cannot be asked for this"),
        ({"type": "object", "properties": {"a b": {"type": "string"}}}, "a b: a batch cannot"),
        ({"type": "object", "properties": {"a": 7}}, "a: a batch cannot be asked for this"),
        ({"$ref": "https://x/y"}, "a reference to 'https://x/y'"),
        ({"$ref": "#/$defs/a"}, "there is nothing at '#/$defs/a'"),
        ({"type": "null"}, "it has no single type"),
        ({"anyOf": [{"type": "null"}]}, "nothing but null is allowed"),
        ({"not": {"type": "string"}}, "an exclusion (`not`)"),
        ({"enum": ["a", 1]}, "it has no single type"),
        (nested(DEPTH_MAX + 1), f"it is nested more than {DEPTH_MAX} deep"),
        (object(), "there is no JSON schema for <object object"),
        (complex, "there is no JSON schema for complex"),
    ],
)
def test_what_a_batch_cannot_be_asked_for(kind: Any, said: str) -> None:  # noqa: ANN401  # any type
    """It is refused at once, with the field and what to do instead."""
    with pytest.raises(SchemaInvalid) as refused:
        asked(kind)
    assert said in refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize(
    ("answer", "values"),
    [
        ('{"a": 1.5, "b": 2}', (None, 2.0, None)),
        ('{"a": true, "b": true, "c": 1}', (None, None, None)),
        ('{"a": 1e300, "b": "x", "c": "ü"}', (None, None, "ü")),
        ('{"a": 99999999999999999999}', (None, None, None)),
        ("[]", None),
        ("{", None),
        ("\ud800", None),
    ],
)
def test_an_answer_of_another_kind(answer: str, values: tuple[Any, ...] | None) -> None:
    """A column keeps its type whatever a model writes; what does not fit is null."""

    class Asked(msgspec.Struct):
        a: int
        b: float
        c: str

    assert asked(Asked).values(answer) == values
