"""What the provider's importer would refuse the whole file for: found at its line, or mended."""

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.ingest.importing import import_code, imported, known
from tests.ingest.naive import Taken, take, turned
from tests.ingest.trap_table import TEXT, TRAPS, Request, Trap, called, jsonl, said, table

from penstock.core.gemini_request import REQUEST
from penstock.core.limits import Limits
from penstock.core.normalise import DONE, normalisations, normalised
from penstock.ingest.traps import KNOWN_MAX, NAME_CHARACTERS_MAX, Traps

PAGE = Path(__file__).parents[2] / "docs" / "preflight.md"
moderate = settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])

names = st.sampled_from(
    ["a", "b", "type", "items", "$ref", "a b", "properties", "text", "parts", "x_y", "enum"]
)
api_names = st.sampled_from(
    [
        *("role", "parts", "text", "generationConfig", "generation_config", "labels", "tools"),
        *("responseSchema", "response_json_schema", "responseJsonSchema", "functionDeclarations"),
        *("function_call", "functionCall", "args", "googleSearch", "thinkingConfig", "parameters"),
        *("stopSequences", "temperature", "inlineData", "mimeType", "data", "systemInstruction"),
        *("properties", "items", "anyOf", "any_of", "type", "nullable", "enum", "$defs", "$ref"),
    ]
)
scalars = st.sampled_from([None, True, 1, 2.5, "x", "string", "null", "#/$defs/a", ""])
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(names, inner, max_size=2)
        | st.dictionaries(api_names, inner, max_size=3)
    ),
    max_leaves=10,
)
contents = st.lists(
    st.fixed_dictionaries({}, optional={"role": st.just("user"), "parts": trees}),
    min_size=1,
    max_size=2,
)
members = st.fixed_dictionaries(
    {"contents": contents},
    optional={
        "generationConfig": trees,
        "generation_config": trees,
        "labels": trees,
        "tools": trees,
        "systemInstruction": trees,
        "other": trees,
    },
)


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.what)
def test_each_trap_is_refused_or_mended(trap: Trap) -> None:
    """The importer refuses it as it was sent; here it is refused by line, or the copy is taken."""
    assert (imported([known(), *trap.requests]) is not None) == trap.is_trap
    data = jsonl(trap.requests)
    if trap.code:
        refusal = turned(data, raw=True)
        assert [(bad.line, bad.code) for bad in refusal.problems] == [
            (len(trap.requests), trap.code)
        ]
        assert refusal.problems[0].hint
        return
    taken = take(data, raw=True)
    assert isinstance(taken, Taken), taken
    assert taken.stored == data
    assert normalisations(trap.requests[-1]) >= ({trap.done} - {""})
    assert imported([known(), *map(normalised, trap.requests)]) is None


def test_the_page_has_the_table() -> None:
    """docs/preflight.md shows what the code does, by the table that is tested."""
    assert table() in PAGE.read_text()
    for code in DONE:
        assert f"`{code}`" in PAGE.read_text(), code


@moderate
@given(st.lists(members, min_size=1, max_size=4))
def test_the_validator_says_what_the_importer_would_say(requests: list[Request]) -> None:
    """Of any file: a line is refused where the importer refuses its copy behind the good ones."""
    traps = Traps(Limits())
    good: list[Request] = []
    for request in requests:
        verdict = traps.judge(request)
        assert (verdict.code if verdict else None) == import_code(request, good)
        if verdict is None:
            good.append(request)


@moderate
@given(members)
def test_to_normalise_twice_is_to_do_it_once(request: Request) -> None:
    """The copy needs nothing more, the request itself is left alone, and no work is no copy."""
    before = copy.deepcopy(request)
    once = normalised(request)
    assert request == before
    assert normalised(once) is once
    assert (once is request) == (not normalisations(request))


def place_of(request: Request) -> tuple[str | None, str | None]:
    """Return path and excerpt of the one problem of a file with this request."""
    (problem,) = turned(jsonl((request,)), raw=True).problems
    return problem.path, problem.excerpt


def test_the_place_is_that_in_the_line_as_it_was_sent() -> None:
    """Not that of the copy: names in snake_case, single objects and what is left out stay so."""
    config = {"response_json_schema": {"properties": {"a b": {"type": "string"}}}}
    path, excerpt = place_of(said(generation_config=config))
    assert path == '$.request.generation_config.response_json_schema.properties["a b"]'
    assert '"a b"' in (excerpt or "")
    part = {"functionCall": {"name": "f", "args": {"": 1}}}
    path, _ = place_of({"contents": [{"parts": part}]})
    assert path == '$.request.contents[0].parts.functionCall.args[""]'


def test_a_place_within_what_was_put_in_is_that_of_the_reference() -> None:
    """What a reference names stands elsewhere in the line; the way there ends at the reference."""
    schema = {
        "$defs": {"C": {"properties": {"a b": {"type": "string"}}}},
        "properties": {"c": {"$ref": "#/$defs/C"}},
    }
    path, _ = place_of(said(generationConfig={"responseJsonSchema": schema}))
    assert path == "$.request.generationConfig.responseJsonSchema.properties.c"


def test_a_scalar_in_the_way_ends_the_place() -> None:
    """A path is never followed into something that has no members."""
    traps = Traps(Limits())
    verdict = traps.judge(said(tools=[7]))
    assert verdict is not None
    assert (verdict.code, verdict.keys) == ("mixed_types", ("request", "tools", 0))


def test_columns_are_bounded_and_a_bad_line_takes_none() -> None:
    """The limit is on members of all good lines together, and says so."""
    traps = Traps(Limits(import_columns_max=3))
    assert traps.judge(called({"a": 1, "b": 2})) is None
    verdict = traps.judge(called({"c": 1, "d": [{"e": 1}]}))
    assert verdict is not None
    assert verdict.code == "too_many_columns"
    assert "import_columns_max" in (verdict.hint or "")
    assert traps.judge(called({"c": 1})) is None
    assert traps.judge(called({"a": 3, "b": 4, "c": 5})) is None


def test_what_is_put_in_place_counts_as_nesting() -> None:
    """References that are mended may make a schema deeper than the provider takes."""
    defs: dict[str, Any] = {"A0": {"type": "string"}}
    for level in range(1, 8):
        defs[f"A{level}"] = {"properties": {"p": {"$ref": f"#/$defs/A{level - 1}"}}}
    config = {"responseJsonSchema": {"$defs": defs, "items": {"$ref": "#/$defs/A7"}}}
    verdict = Traps(Limits()).judge(said(generationConfig=config))
    assert verdict is not None
    assert verdict.code == "nesting_too_deep"
    keys = ("request", "generationConfig", "responseJsonSchema", "items")
    assert verdict.keys == keys


def test_names_are_bounded() -> None:
    """A longer one would be no column, and would be kept for the whole file."""
    traps = Traps(Limits())
    assert traps.judge(called({"n" * NAME_CHARACTERS_MAX: 1})) is None
    verdict = traps.judge(called({"n" * (NAME_CHARACTERS_MAX + 1): 1}))
    assert verdict is not None
    assert verdict.code == "invalid_member_name"
    assert len(verdict.message) < 100


def test_what_is_remembered_is_bounded() -> None:
    """Requests that all differ in more than their contents are judged, and not kept."""
    traps = Traps(Limits())
    for number in range(KNOWN_MAX + 10):
        assert traps.judge(said(labels={"n": str(number)})) is None
    assert len(traps._good) == KNOWN_MAX


ORDINARY: list[Any] = [
    {"contents": [{"parts": [{"text": "x"}]}], "generationConfig": {"temperature": 1}},
    {"contents": [{"parts": [{"text": "x"}]}], "systemInstruction": {"parts": [{"text": "x"}]}},
    {"contents": [{"parts": [{"inlineData": {"mimeType": "a/b", "data": ""}}]}]},
    {"contents": [{"role": "user", "parts": [{"fileData": {"fileUri": "gs://a/b"}}]}]},
]
NEARLY: list[Any] = [
    {**TEXT, "generationConfig": 1},
    {**TEXT, "generationConfig": {"temperature": [1]}},
    {**TEXT, "systemInstruction": "x"},
    {"contents": [{"parts": [{"fileData": {"fileUri": {"a": 1}}}]}]},
    {"contents": [{"parts": [{"fileData": {"fileUri": 1, "other": {}}}]}]},
    {"contents": [{"parts": ["x"]}]},
    {"contents": [{"parts": [{"text": ["x"]}]}]},
    {"contents": [{"role": ["user"], "parts": [{"text": "x"}]}]},
]


@pytest.mark.parametrize("request_", ORDINARY)
def test_ordinary_requests_are_not_walked(request_: Request) -> None:
    """What cannot be a trap leaves no trace, and the importer takes it as it is."""
    traps = Traps(Limits())
    assert traps.judge(request_) is None
    assert not traps._good
    assert normalised(request_) is request_
    assert imported([known(), request_]) is None


@pytest.mark.parametrize("request_", NEARLY)
def test_what_is_nearly_ordinary_is_walked(request_: Request) -> None:
    """The quick look never takes what the importer would not."""
    verdict = Traps(Limits()).judge(request_)
    assert verdict is not None
    assert verdict.code == import_code(request_)


def test_the_names_of_the_api_are_sound() -> None:
    """Every name that the API defines could be a column, and none has two spellings."""
    assert imported([known()]) is None
    assert REQUEST.camel_of["generation_config"] == "generationConfig"
