"""Answers against their lines' own schemas: both dialects, both spellings, and hostile ones."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core import answer_schema
from penstock.core.answer_schema import NOT_JSON, SCHEMA_MISMATCH, Schemas, may_ask
from penstock.core.schema_dialect import DEPTH_MAX, NODES_MAX, PATTERNS_MAX

Json = dict[str, Any]
PERSON: Json = {
    "type": "OBJECT",
    "properties": {
        "name": {"type": "STRING", "maxLength": "8", "title": "Name", "example": "Ada"},
        "age": {"type": "INTEGER", "minimum": 0, "maximum": 150, "nullable": True},
        "role": {"type": "STRING", "format": "enum", "enum": ["a", "b"], "nullable": True},
        "tags": {"type": "ARRAY", "items": {"type": "STRING"}, "minItems": 1, "max_items": "2"},
        "extra": {"anyOf": [{"type": "BOOLEAN"}, {"type": "NUMBER"}], "nullable": True},
    },
    "required": ["name", "tags"],
    "propertyOrdering": ["tags", "name"],
}
GOOD: Json = {"name": "Ada", "age": None, "role": "b", "tags": ["x"], "extra": None}


def request(**config: Any) -> bytes:  # noqa: ANN401 - JSON goes as it is
    """A request with this generationConfig."""
    return json.dumps({"contents": [], "generationConfig": config}).encode()


def response(text: str, reason: str | None = "STOP") -> bytes:
    """A response whose first candidate says this."""
    candidate = {"content": {"parts": [{"text": text}]}, "finishReason": reason}
    return json.dumps({"candidates": [candidate]}).encode()


def code_of(schema: object, value: object, member: str = "responseSchema") -> str | None:
    """What is wrong with a JSON answer under a schema."""
    found = Schemas().problem(request(**{member: schema}), response(json.dumps(value)))
    return None if found is None else found[0]


def message_of(schema: object, value: object) -> str:
    """How a misfit under a JSON Schema is told."""
    asked = request(responseJsonSchema=schema)
    found = Schemas().problem(asked, response(json.dumps(value)))
    assert found is not None
    assert found[0] == SCHEMA_MISMATCH
    return found[1]


# -- JSON or not ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {"responseMimeType": "application/json"},
        {"response_mime_type": "application/json"},
        {"responseSchema": {"type": "OBJECT"}},
        {"responseJsonSchema": {"type": "object"}, "responseMimeType": "application/json"},
    ],
)
@pytest.mark.parametrize(
    "text", ["", "Here it is: {}", "{", '{"a":NaN}', '{"a":1}}', '"\\ud800"', "[" * 5_000]
)
def test_an_answer_that_is_no_json_is_told(config: Json, text: str) -> None:
    """Who asks for JSON and gets something else hears of it, without a word of the answer."""
    found = Schemas().problem(request(**config), response(text))
    assert found is not None
    assert found[0] == NOT_JSON
    assert "Here" not in found[1]


@pytest.mark.parametrize(
    "asked",
    [
        b"{}",
        b'{"generationConfig":null}',
        b'{"generationConfig":3}',
        b"{",
        b"[" * 100_000,
        request(temperature=1),
        request(responseMimeType="text/plain"),
        request(responseMimeType="text/plain", responseSchema={"type": "OBJECT"}),
        request(responseMimeType=["application/json"]),
        request(responseSchema=None),
    ],
)
def test_who_asks_for_nothing_is_not_judged(asked: bytes) -> None:
    """Without a wish for JSON any text is right."""
    assert Schemas().problem(asked, response("no json")) is None


@pytest.mark.parametrize(
    "answer",
    [
        b"{",
        b"{}",
        b'{"candidates":[]}',
        b'{"candidates":[{}]}',
        b'{"candidates":[{"content":{"parts":[]}}]}',
        b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f"}}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"text":"I think","thought":true}]}}]}',
        response("no json", "MAX_TOKENS"),
        response("no json", "SAFETY"),
        response("no json").replace(b'"STOP"', b"[]"),
    ],
)
def test_an_answer_without_a_whole_text_is_not_judged(answer: bytes) -> None:
    """What was cut, blocked or is no text has its own outcome."""
    assert Schemas().problem(request(responseMimeType="application/json"), answer) is None


def test_the_parts_are_one_text_without_the_thoughts() -> None:
    """A model may cut its JSON into parts and tell its thoughts beside it."""
    thought = {"text": "Hm.", "thought": True}
    parts = [thought, {"text": '{"a"'}, {"inlineData": {}}, {"text": ":1}"}]
    answer = json.dumps({"candidates": [{"content": {"parts": parts}}]}).encode()
    asked = request(responseMimeType="application/json", responseSchema={"type": "OBJECT"})
    assert Schemas().problem(asked, answer) is None


def test_a_choice_of_words_is_judged_as_text() -> None:
    """`text/x.enum` answers with one of the words, not with JSON."""
    schema = {"type": "STRING", "enum": ["yes", "no"]}
    asked = request(responseMimeType="text/x.enum", responseSchema=schema)
    assert Schemas().problem(asked, response("yes")) is None
    found = Schemas().problem(asked, response("maybe"))
    assert found is not None
    assert found[0] == SCHEMA_MISMATCH
    asked = request(responseMimeType="text/x.enum")
    assert Schemas().problem(asked, response("maybe")) is None


# -- Google's dialect ----------------------------------------------------------------------------


@pytest.mark.parametrize("member", ["responseSchema", "response_schema"])
def test_an_answer_that_fits_is_right(member: str) -> None:
    """Upper-case types, counts as text, nullable members and unknown words are understood."""
    assert code_of(PERSON, GOOD, member) is None
    assert code_of(PERSON, {"name": "Ada", "tags": ["x", "y"], "unknown": 1}, member) is None


@pytest.mark.parametrize(
    "change",
    [
        {"name": None},
        {"name": "far too long a name"},
        {"age": -1},
        {"age": 151},
        {"age": "7"},
        {"role": "c"},
        {"tags": []},
        {"tags": ["x", "y", "z"]},
        {"tags": [1]},
        {"extra": "text"},
    ],
)
@pytest.mark.parametrize("member", ["responseSchema", "response_schema"])
def test_each_rule_is_kept(change: Json, member: str) -> None:
    """An answer that breaks one rule of the schema is a misfit."""
    assert code_of(PERSON, GOOD | change, member) == SCHEMA_MISMATCH


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "object"}, {}, []),
        ({"type": "TYPE_UNSPECIFIED", "enum": ["a"]}, "a", "b"),
        ({"any_of": [{"type": "string"}, {"type": "NULL"}]}, None, 1),
        ({"type": "OBJECT", "additionalProperties": False}, {}, {"a": 1}),
        ({"type": "OBJECT", "additional_properties": {"type": "STRING"}}, {"a": ""}, {"a": 1}),
        ({"type": "OBJECT", "min_properties": 1.0}, {"a": 1}, {}),
        ({"type": "STRING", "pattern": "^a+$"}, "aa", "b"),
        ({"defs": {"p": {"type": "STRING"}}, "ref": "#/defs/p"}, "x", 1),
        ({"defs": {"p": {"type": "STRING"}}, "ref": "#/defs/p", "nullable": True}, None, 1),
        ({"type": "INTEGER", "enum": ["1", "2"]}, 7, "1"),
    ],
)
def test_the_dialect_is_translated(schema: Json, good: object, bad: object) -> None:
    """Each word of the dialect means in the translation what it means there."""
    assert code_of(schema, good) is None
    assert code_of(schema, bad) == SCHEMA_MISMATCH


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "THING"},
        {"type": 3},
        {"type": "OBJECT", "properties": []},
        {"type": "OBJECT", "properties": {"a": 3}},
        {"type": "ARRAY", "minItems": "many"},
        {"type": "ARRAY", "minItems": True},
        {"type": "ARRAY", "minItems": 1.5},
        {"type": "STRING", "pattern": 3},
        {"anyOf": {}},
        {"required": "a"},
        [],
        "OBJECT",
    ],
)
def test_a_schema_that_is_none_judges_nobody(schema: object) -> None:
    """What we do not understand accuses no answer."""
    assert code_of(schema, ["anything"]) is None


# -- JSON Schema ---------------------------------------------------------------------------------


@pytest.mark.parametrize("member", ["responseJsonSchema", "response_json_schema"])
def test_a_json_schema_is_taken_as_it_is(member: str) -> None:
    """`$defs`, `$ref`, lists of types and `const` are kept."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://example.com/tree",
        "$defs": {"a~/b": {"type": ["string", "null"]}},
        "properties": {"a": {"$ref": "#/$defs/a~0~1b"}, "b": {"const": 1}},
    }
    assert code_of(schema, {"a": None, "b": 1}, member) is None
    assert code_of(schema, {"a": 1}, member) == SCHEMA_MISMATCH
    assert code_of(schema, {"b": 2}, member) == SCHEMA_MISMATCH


def test_a_reference_may_name_a_branch() -> None:
    """References into lists are followed, too."""
    schema = {"anyOf": [{"type": "string"}, {"properties": {"a": {"$ref": "#/anyOf/0"}}}]}
    assert code_of(schema, {"a": "x"}, "responseJsonSchema") is None
    assert code_of(schema, {"a": 1}, "responseJsonSchema") == SCHEMA_MISMATCH


def test_a_misfit_says_rule_and_place() -> None:
    """The message has the rule and the place, and nothing else of the answer."""
    schema = {"properties": {"a": {"items": {"type": "integer"}}}}
    message = message_of(schema, {"a": [1, "a secret"]})
    assert "rule `type` at /a/1" in message
    assert "secret" not in message


def test_names_of_the_model_are_cut_and_plain() -> None:
    """A member's name comes from the model, so it is short and printable in the message."""
    message = message_of({"additionalProperties": {"type": "null"}}, {"\x1b[2J" + "x" * 999: 1})
    assert message.isprintable()
    assert len(message) < 200


def test_a_recursive_schema_judges_without_naming_a_place() -> None:
    """A tree of any depth is judged; the search for the place could take for ever."""
    node: Json = {"properties": {"a": {"$ref": "#"}, "v": {"type": "integer"}}}
    assert code_of(node, {"a": {"a": {"v": 1}}}, "responseJsonSchema") is None
    assert message_of(node, {"a": {"a": {"v": "x"}}}).endswith("response schema.")


# -- hostile schemas -----------------------------------------------------------------------------


def doubling(count: int) -> Json:
    """A schema that is twice as much work with each definition."""
    defs: Json = {
        f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}, {"$ref": f"#/$defs/d{i + 1}"}]}
        for i in range(count)
    }
    return {"$defs": {**defs, f"d{count}": {"type": "string"}}, "$ref": "#/$defs/d0"}


def nested(depth: int) -> Json:
    """A schema that is so deep."""
    schema: Json = {"type": "string"}
    for _ in range(depth):
        schema = {"not": {"not": schema}}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://example.com/schema.json"},
        {"$ref": "file:///etc/passwd"},
        {"$ref": "#nowhere"},
        {"$ref": "#/nowhere"},
        {"$ref": "#/anyOf/7", "anyOf": [{}]},
        {"$ref": "#/type/x", "type": "string"},
        {"properties": {"a": {"unevaluatedProperties": False}}, "type": "string"},
        {"prefixItems": [{}], "unevaluatedItems": False, "type": "string"},
        {"$dynamicRef": "#x", "$defs": {"x": {"$dynamicAnchor": "x"}}},
        {"properties": {"a": {"$id": "https://example.com/other", "$ref": "#/$defs/x"}}},
        {"$schema": "http://json-schema.org/draft-04/schema#", "id": "x"},
        {"$schema": "https://example.com/meta", "type": "string"},
        {"pattern": "(a{1000}){1000}"},
        {"pattern": "^(?=a)b"},
        {"patternProperties": {f"^{i}$": {} for i in range(PATTERNS_MAX + 1)}},
        {"enum": list(range(NODES_MAX))},
        {"enum": ["x" * answer_schema.SCHEMA_BYTES_MAX]},
        {"type": "strange"},
        doubling(40),
        nested(DEPTH_MAX),
        [],
    ],
    ids=lambda schema: str(schema)[:40],
)
def test_a_hostile_schema_judges_nobody(schema: object) -> None:
    """Nothing is fetched, nothing is opened, nothing explodes; the answer stays what it was."""
    assert code_of(schema, 3, "responseJsonSchema") is None


def test_a_bottomless_schema_judges_nobody() -> None:
    """A schema that no parser reads to its end is passed over, and so is one that is too deep."""
    for depth in (800, 100_000):
        schema = b'{"not":' * depth + b"{}" + b"}" * depth
        asked = b'{"generationConfig":{"responseJsonSchema":' + schema + b"}}"
        assert Schemas().problem(asked, response("3")) is None
        google = asked.replace(b"JsonSchema", b"Schema").replace(b'"not"', b'"items"')
        assert Schemas().problem(google, response("3")) is None


def test_doubling_within_bounds_is_judged() -> None:
    """A schema with repeated definitions is no crime by itself."""
    assert code_of(doubling(8), 3, "responseJsonSchema") == SCHEMA_MISMATCH


@pytest.mark.timeout(20)
def test_recursion_that_branches_is_linear() -> None:
    """Two ways to each node of a deep answer are not two to the power of its depth ways."""
    branch = {"properties": {"a": {"$ref": "#/$defs/n"}}}
    schema = {"$defs": {"n": {"allOf": [branch, branch, branch]}}, "$ref": "#/$defs/n"}
    deep: object = 1
    for _ in range(60):
        deep = {"a": deep}
    assert code_of(schema, deep, "responseJsonSchema") is None
    assert code_of({**schema, "not": branch}, deep, "responseJsonSchema") == SCHEMA_MISMATCH


@pytest.mark.timeout(20)
def test_a_catastrophic_pattern_is_linear() -> None:
    """A pattern that backtracks for ever elsewhere is matched in one pass."""
    assert code_of({"pattern": "^(a+)+$"}, "a" * 50_000 + "b", "responseJsonSchema") is not None


def test_too_much_work_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large answer under a large schema is left as it is."""
    monkeypatch.setattr(answer_schema, "WORK_MAX", 10)
    assert code_of({"type": "string"}, 12_345, "responseJsonSchema") is not None
    assert code_of({"type": "string"}, 123_456, "responseJsonSchema") is None


def test_a_job_compiles_only_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound new schemas judge nobody, and those that are known go on."""
    monkeypatch.setattr(answer_schema, "COMPILED_NODES_MAX", 3)
    schemas, bad = Schemas(), response("3")
    first, second, third = (
        request(responseJsonSchema={"type": "string", "minLength": number}) for number in range(3)
    )
    assert schemas.problem(first, bad) is not None
    assert schemas.problem(second, bad) is not None
    assert schemas.problem(third, bad) is None
    assert schemas.problem(first, bad) is not None


def test_a_schema_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bytes are the same compiled schema, until others have taken its room."""
    monkeypatch.setattr(answer_schema, "CACHED_NODES_MAX", 8)
    schemas, good = Schemas(), response('"x"')
    asked = [
        request(responseJsonSchema={"type": "string", "minLength": number}) for number in (0, 1)
    ]
    for one in (*asked, *asked):
        assert schemas.problem(one, good) is None
    once = schemas.compiled_nodes
    assert once == 6
    assert schemas.problem(request(responseSchema={"type": "THING"}), good) is None
    for one in asked:
        assert schemas.problem(one, good) is None
    assert schemas.compiled_nodes > 2 * once


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("type", "properties", "items", "anyOf", "$ref", "$defs", "enum", "required"),
                    *("pattern", "minItems", "nullable", "additionalProperties", "a", "not"),
                ]
            ),
            inner | st.sampled_from(["#", "#/$defs/a", "object", "ARRAY", "string", "a"]),
            max_size=4,
        )
    ),
    max_leaves=15,
)


@settings(deadline=None, max_examples=400)
@given(JSON, JSON, st.sampled_from(["responseSchema", "responseJsonSchema"]))
def test_any_schema_and_any_answer_are_survived(schema: object, value: object, member: str) -> None:
    """Whatever stands on either side, there is a verdict or none, and no exception."""
    assert code_of(schema, value, member) in {None, SCHEMA_MISMATCH, NOT_JSON}


# -- the cheap look ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("responseMimeType", "responseSchema", "responseJsonSchema"),
        *("response_mime_type", "response_schema", "response_json_schema"),
    ],
)
def test_a_line_that_may_ask_is_found(name: str) -> None:
    """Each of the six names is seen in the bytes of a line."""
    assert may_ask(b'{"request":{"generationConfig":{"' + name.encode() + b'":1}}}')


@pytest.mark.parametrize("line", [b"", b'{"request":{}}', b'{"text":"a response to the schema"}'])
def test_other_lines_are_passed_over(line: bytes) -> None:
    """A line without these names asks for nothing."""
    assert not may_ask(line)
