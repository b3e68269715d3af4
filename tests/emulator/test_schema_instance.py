"""Instances of response schemas are valid, whatever the schema."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.emulator.schema_instance import make_instance

NAMES = st.sampled_from(["a", "b", "c", "name", "price"])
TYPES: dict[str, Any] = {"object": dict, "array": list, "string": str, "boolean": bool}


def valid(value: object, schema: dict[str, Any]) -> bool:
    """A small judge of its own, for what the strategy below can make."""
    if "anyOf" in schema:
        return any(valid(value, branch) for branch in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    kind = schema["type"].lower()
    if kind in {"integer", "number"}:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        whole = kind == "number" or isinstance(value, int)
        bounds = schema.get("minimum", value), schema.get("maximum", value)
        return bool(number and whole and bounds[0] <= value <= bounds[1])
    if not isinstance(value, TYPES[kind]):
        return False
    if isinstance(value, str):
        return bool(schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 99))
    if isinstance(value, list):
        count = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 99)
        return bool(count and all(valid(item, schema["items"]) for item in value))
    if isinstance(value, dict):
        known = schema["properties"]
        return set(schema["required"]) <= value.keys() <= known.keys() and all(
            valid(item, known[key]) for key, item in value.items()
        )
    return True


def bounded(kind: str, low: str, high: str, least: int) -> st.SearchStrategy[dict[str, Any]]:
    """A schema with any combination of a lower and an upper bound."""
    return st.tuples(
        st.one_of(st.none(), st.integers(least, 50)), st.one_of(st.none(), st.integers(50, 99))
    ).map(
        lambda bounds: {
            "type": kind,
            **({low: bounds[0]} if bounds[0] is not None else {}),
            **({high: bounds[1]} if bounds[1] is not None else {}),
        }
    )


def objects(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """An object schema that requires some of its properties."""
    return st.dictionaries(NAMES, inner, min_size=1, max_size=3).flatmap(
        lambda known: st.lists(st.sampled_from(sorted(known)), unique=True).map(
            lambda required: {"type": "OBJECT", "properties": known, "required": required}
        )
    )


LEAVES = st.one_of(
    bounded("INTEGER", "minimum", "maximum", -50),
    bounded("number", "minimum", "maximum", -50),
    bounded("STRING", "minLength", "maxLength", 0),
    st.just({"type": "boolean"}),
    st.lists(st.sampled_from(["x", "y", 3]), min_size=1).map(lambda values: {"enum": values}),
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        objects(inner),
        st.tuples(inner, st.integers(0, 4), st.integers(4, 9)).map(
            lambda t: {"type": "ARRAY", "items": t[0], "minItems": t[1], "maxItems": t[2]}
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda branches: {"anyOf": branches}),
    ),
    max_leaves=8,
)


@given(schema=SCHEMAS, seed=st.integers(0, 2**32))
def test_instances_are_valid_and_repeatable(schema: dict[str, Any], seed: int) -> None:
    """Any schema gives an instance that fits it, twice the same for the same seed."""
    made = make_instance(schema, seed)
    assert valid(made, schema)
    assert made == make_instance(schema, seed)


@given(seed=st.integers(0, 1000))
def test_recursive_schemas_come_to_an_end(seed: int) -> None:
    """A tree by $ref is built to a finite depth with its required members."""
    node = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
        },
        "required": ["name"],
    }
    made = make_instance({"$ref": "#/$defs/node", "$defs": {"node": node}}, seed)
    assert isinstance(made, dict)
    assert isinstance(made["name"], str)


@pytest.mark.parametrize(
    ("schema", "wanted"),
    [
        ({"const": 5}, 5),
        ({"type": "string", "format": "date"}, "2026-03-14"),
        ({"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5}, 4),
        ({"type": "integer", "multipleOf": 7, "minimum": 8, "maximum": 20}, 14),
        ({"allOf": [{"type": "integer", "minimum": 4}, {"maximum": 4}]}, 4),
        ({"type": ["integer", "null"], "minimum": 1, "maximum": 1}, 1),
        ({"type": "STRING", "nullable": True, "enum": ["only"]}, "only"),
        ({"prefixItems": [{"const": 1}, {"const": 2}], "items": False}, [1, 2]),
        ({"type": "null"}, None),
        ({"type": "OBJECT", "properties": {"n": {"enum": [1]}}, "minItems": "2"}, {"n": 1}),
    ],
)
def test_single_words_of_the_dialects(schema: dict[str, Any], wanted: object) -> None:
    """Each keyword alone leaves one possible value."""
    assert make_instance(schema, 1) == wanted


def test_properties_come_in_the_asked_order() -> None:
    """The propertyOrdering decides the order of the members."""
    schema: dict[str, Any] = {
        "type": "OBJECT",
        "properties": {"a": {"type": "STRING"}, "b": {"type": "STRING"}},
        "propertyOrdering": ["b", "a"],
    }
    made = make_instance(schema, 1)
    assert isinstance(made, dict)
    assert list(made) == ["b", "a"]
