"""The provider's copy of a request: the same meaning, in words that can be imported."""

from typing import Any

import pytest

from penstock.core.normalise import normalisations, normalised
from penstock.core.schema_copy import GROWTH_FREE, GROWTH_MAX, LEVELS_MAX, provider_schema

Json = dict[str, Any]
TEXT: Json = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}


def config(**members: object) -> Json:
    """A request with settings."""
    return {**TEXT, "generationConfig": members}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"system_instruction": {"parts": []}}, {"systemInstruction": {"parts": []}}),
        ({"tools": None, "labels": None}, {}),
        ({"labels": {}, "toolConfig": {"functionCallingConfig": {}}}, {}),
        ({"generationConfig": {"responseJsonSchema": None}}, None),
        ({"generation_config": None, "generationConfig": {}}, {}),
        ({"generationConfig": None, "generation_config": {"seed": 1}},
         {"generationConfig": {"seed": 1}}),
        ({"generationConfig": {}, "generation_config": {}}, None),
        (
            {"generationConfig": {"responseJsonSchema": None, "response_json_schema": {}}},
            None,
        ),
        ({"tools": [{"googleSearch": {}}]},
         {"tools": [{"googleSearch":
                     {"blockingConfidence": "PHISH_BLOCK_THRESHOLD_UNSPECIFIED"}}]}),
        ({"tools": [{"urlContext": {}}]}, None),
        ({"tools": {"functionDeclarations": {"name": "f", "parameters": {}}}},
         {"tools": [{"functionDeclarations": [{"name": "f"}]}]}),
        ({"tools": [7, None, {"code_execution": {"x": 1}}]},
         {"tools": [7, None, {"codeExecution": {"x": 1}}]}),
        ({"generationConfig": {"stopSequences": ["a"], "seed": 3}}, None),
        ({"generationConfig": {"stopSequences": {"a": 1}}}, None),
        ({"labels": {"file_data": None, "x": {}}}, None),
        ({"unknown_member": None, "other": {}}, None),
    ],
)  # fmt: skip
def test_members_of_the_api_get_what_they_mean(given: Json, expected: Json | None) -> None:
    """None stands for no change: then the request itself comes back."""
    request = {**TEXT, **given}
    copy = normalised(request)
    if expected is None:
        assert copy is request
        assert normalisations(request) == set()
    else:
        assert copy == {**TEXT, **expected}
        assert normalisations(request)


def test_data_of_the_callers_own_is_left_alone() -> None:
    """Arguments, answers of functions and labels may hold anything; null there is a value."""
    args: Json = {"file_data": None, "empty": {}, "list": [None], "$ref": "#/$defs/a"}
    parts = [
        {"functionCall": {"name": "f", "args": args}},
        {"functionResponse": {"name": "f", "response": args}},
    ]
    request = {"contents": [{"parts": parts}], "labels": args}
    assert normalised(request) is request


def json_schema(schema: Json) -> tuple[Json, set[str]]:
    """Return the copy of a schema in JSON Schema, and what was done."""
    done: set[str] = set()
    return provider_schema(schema, done, is_json=True), done


def own_schema(schema: Json) -> Json:
    """Return the copy of a schema in the provider's dialect."""
    return provider_schema(schema, set(), is_json=False)


NULL: Json = {"type": "null"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"type": ["string"]}, {"type": "string"}),
        ({"type": ["string", "null"], "title": "T", "minLength": 2},
         {"title": "T", "anyOf": [{"type": "string", "minLength": 2}, NULL]}),
        ({"type": ["object", "null"], "properties": {"a": {"type": ["string", "null"]}}},
         {"anyOf": [
             {"type": "object", "properties": {"a": {"anyOf": [{"type": "string"}, NULL]}}},
             NULL,
         ]}),
        ({"type": ["string", "integer"], "description": "d"},
         {"description": "d", "anyOf": [{"type": "string"}, {"type": "integer"}]}),
        ({"type": ["string", "integer", "null"], "minLength": 1}, None),
        ({"type": ["string", "integer"], "minLength": 1}, None),
        ({"type": ["string", "null"], "enum": ["a"]}, None),
        ({"type": ["string", "null"], "enum": ["a", None]},
         {"anyOf": [{"type": "string", "enum": ["a"]}, NULL]}),
        ({"enum": ["a", None]}, {"anyOf": [{"enum": ["a"]}, NULL]}),
        ({"enum": [None]}, None),
        ({"type": "string", "enum": ["a", None]}, None),
        ({"type": ["string", "null"], "anyOf": [{}]}, None),
        ({"type": ["string", "null"], "const": None}, None),
        ({"type": ["string", "string"]}, None),
        ({"type": ["string", 1]}, None),
        ({"type": []}, None),
        ({"type": {"a": ["x"]}}, None),
        ({"$schema": "s", "$id": "i", "$comment": "c", "type": "string"}, {"type": "string"}),
        ({"properties": {"$schema": {"type": "string", "$comment": "c"}}},
         {"properties": {"$schema": {"type": "string"}}}),
        ({"properties": {"a": {"$id": "x"}}}, None),
        ({"properties": {"a": {"$id": "x", "$comment": "c"}}},
         {"properties": {"a": {"$id": "x"}}}),
        ({"default": {"$ref": "#/$defs/A", "type": ["a"]}, "enum": [{"$ref": 1}]}, None),
        ({"type": "object", "properties": {}}, {"type": "object"}),
        ({"properties": {"a": {"properties": {}}}}, {"properties": {"a": {}}}),
        ({"properties": [{"$comment": 1}], "anyOf": {"$comment": 1}, "items": None}, None),
        ({"anyOf": [{"$comment": "c", "type": "string"}, 7], "not": {"$comment": "c"}},
         {"anyOf": [{"type": "string"}, 7], "not": {}}),
    ],
)  # fmt: skip
def test_a_json_schema_keeps_its_meaning(given: Json, expected: Json | None) -> None:
    """Only what JSON Schema says to be the same is put in place; None stands for no change."""
    copy, done = json_schema(given)
    if expected is None:
        assert copy is given
    else:
        assert copy == expected
        assert done
        assert json_schema(copy)[0] is copy


COLOUR: Json = {"type": "string", "enum": ["red", "blue"], "title": "Colour"}


@pytest.mark.parametrize("name", ["$defs", "definitions"])
def test_references_are_put_in_place(name: str) -> None:
    """With the notes beside them, through other references, in every place of a schema."""
    schema = {
        name: {
            "Colour": COLOUR,
            "Car": {"type": "object", "properties": {"c": {"$ref": f"#/{name}/Colour"}}},
        },
        "type": "object",
        "properties": {
            "car": {"$ref": f"#/{name}/Car", "description": "d", "default": None},
            "all": {"type": "array", "items": {"$ref": f"#/{name}/Colour"}},
        },
    }
    car = {"type": "object", "properties": {"c": COLOUR}, "description": "d", "default": None}
    copy, done = json_schema(schema)
    assert copy == {
        "type": "object",
        "properties": {"car": car, "all": {"type": "array", "items": COLOUR}},
    }
    assert done == {"schema_reference"}


KEPT: list[Json] = [
    {"$defs": {"N": {"properties": {"n": {"$ref": "#/$defs/N"}}}}, "items": {"$ref": "#/$defs/N"}},
    {"$defs": {"A": {"description": "a"}}, "items": {"$ref": "#/$defs/A", "description": "b"}},
    {"$defs": {"A": {"type": "string"}}, "items": {"$ref": "#/$defs/A", "minLength": 1}},
    {"$defs": {"A": {"type": "string"}}, "items": {"$ref": "#/$defs/B"}},
    {"$defs": {"A": {"type": "string"}}, "items": {"$ref": "other.json#/$defs/A"}},
    {"$defs": {"A": {"type": "string"}}, "items": {"$ref": 7}},
    {"$defs": {"A": True}, "items": {"$ref": "#/$defs/A"}},
    {"$defs": [1], "items": {"$ref": "#/$defs/A"}},
    {"items": {"$ref": "#/$defs/A"}},
    {"$defs": {"A": {"type": "string"}}, "$ref": "#/$defs/A"},
    {"$defs": {"A": {"type": "string"}}, "items": {"$id": "x", "items": {"$ref": "#/$defs/A"}}},
    {"$defs": {"A": {"type": "string"}}, "items": {"$anchor": "x"}},
]


@pytest.mark.parametrize("schema", KEPT)
def test_references_that_would_change_something_stay(schema: Json) -> None:
    """Circles, what nobody has, what stands beside them, and bases of their own."""
    copy, done = json_schema(schema)
    assert copy is schema
    assert done == set()


def test_definitions_that_nobody_names_are_left_out() -> None:
    """`$defs` could not be imported; `definitions` can, and may be anything."""
    copy, done = json_schema({"$defs": {"A": COLOUR}, "type": "string"})
    assert (copy, done) == ({"type": "string"}, {"schema_reference"})
    schema = {"definitions": {"A": {"$comment": "c", "type": "string"}}, "type": "string"}
    copy, done = json_schema(schema)
    assert copy == {"definitions": {"A": {"type": "string"}}, "type": "string"}
    assert done == {"schema_annotation"}


def test_a_schema_does_not_grow_without_end() -> None:
    """Definitions that double each other are a bomb of a few lines."""
    defs: Json = {"A0": {"description": "x" * 200, "type": "string"}}
    for level in range(1, 20):
        one = {"$ref": f"#/$defs/A{level - 1}"}
        defs[f"A{level}"] = {"properties": {"a": one, "b": one}}
    schema = {"$defs": defs, "items": {"$ref": "#/$defs/A19"}}
    assert json_schema(schema)[0] is schema
    small = {"$defs": {"A": {"description": "x" * 300}}, "prefixItems": [{"$ref": "#/$defs/A"}] * 3}
    assert len(str(json_schema(small)[0])) < GROWTH_MAX * len(str(small)) + GROWTH_FREE


def test_a_schema_does_not_nest_without_end() -> None:
    """A chain of definitions is followed so far and no further, whatever it weighs."""
    defs: Json = {"A0": {"type": "string"}}
    for level in range(1, LEVELS_MAX):
        defs[f"A{level}"] = {"items": {"$ref": f"#/$defs/A{level - 1}"}}
    schema = {"$defs": defs, "items": {"$ref": f"#/$defs/A{LEVELS_MAX - 1}"}}
    assert json_schema(schema)[0] is schema


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"type": ["STRING", "NULL"]}, {"type": "STRING", "nullable": True}),
        ({"type": ["string"]}, {"type": "string"}),
        ({"type": ["string", "null"], "nullable": False}, None),
        ({"type": ["string", "integer"]}, None),
        ({"any_of": [{"min_items": "1"}]}, {"anyOf": [{"minItems": "1"}]}),
        ({"any_of": [], "anyOf": []}, None),
        ({"any_of": [{}], "anyOf": None}, {"anyOf": [{}]}),
        ({"title": None, "default": None, "example": None}, {"default": None, "example": None}),
        ({"properties": {"any_of": {"type": "STRING"}}}, None),
        ({"defs": {"A": {"max_items": "1"}}, "ref": "A"},
         {"defs": {"A": {"maxItems": "1"}}, "ref": "A"}),
        ({"$defs": {"A": COLOUR}, "items": {"$ref": "#/$defs/A"}}, {"items": COLOUR}),
    ],
)  # fmt: skip
def test_the_providers_own_dialect_has_its_own_rules(given: Json, expected: Json | None) -> None:
    """Its names in snake_case, its nulls and its `nullable`; properties are the caller's."""
    copy = own_schema(given)
    if expected is None:
        assert copy is given
    else:
        assert copy == expected
        assert own_schema(copy) is copy


def test_schemas_are_found_where_the_api_has_them() -> None:
    """In settings and in declarations of functions, in both dialects."""
    request = {
        **config(responseSchema={"type": ["STRING"]}, response_json_schema={"$comment": "c"}),
        "tools": [
            {
                "function_declarations": [
                    {"name": "f", "parameters": {"min_items": "1"}},
                    {"name": "g", "parametersJsonSchema": {"type": ["string"]}},
                ]
            }
        ],
    }
    assert normalised(request) == {
        **config(responseSchema={"type": "STRING"}, responseJsonSchema={}),
        "tools": [
            {
                "functionDeclarations": [
                    {"name": "f", "parameters": {"minItems": "1"}},
                    {"name": "g", "parametersJsonSchema": {"type": "string"}},
                ]
            }
        ],
    }
