"""Answers that are not what was asked for, by directive: misfits, prose, errors, strange media."""

import base64
from typing import Any

import jsonschema_rs
import orjson
import pytest
from tests.emulator.driver import Emulator, line

from penstock.emulator.schema_instance import make_misfit

IMAGE_MODEL = "publishers/google/models/gemini-3.1-flash-image"
Json = dict[str, Any]


def parts_of(row: Json) -> list[Json]:
    """The parts of the first candidate."""
    parts: list[Json] = row["response"]["candidates"][0]["content"]["parts"]
    return parts


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
        {"type": "object"},
        {"type": "array", "items": {"type": "string"}},
        {"type": "string"},
        {"type": ["array", "boolean", "null"]},
        {"anyOf": [{"type": "array"}, {"type": "string"}]},
    ],
)
def test_an_answer_that_does_not_fit(shared: Emulator, schema: Json) -> None:
    """The answer is JSON and not valid under the request's schema."""
    row = shared.one_row(line("[[emulator:invalid-output]]", responseJsonSchema=schema))
    (part,) = parts_of(row)
    assert row["status"] == ""
    assert not jsonschema_rs.is_valid(schema, orjson.loads(part["text"]))


@pytest.mark.parametrize("name", ["invalid-output", "not-json"])
@pytest.mark.parametrize(
    "schema",
    [
        {"title": "anything"},
        {"anyOf": [{"type": "STRING"}, {"title": "anything"}]},
        {"type": ["array", "string", "boolean", "object"]},
        None,
    ],
)
def test_an_answer_that_is_no_json(shared: Emulator, name: str, schema: Json | None) -> None:
    """Prose around the JSON, also where every JSON value would fit."""
    config = {"responseMimeType": "application/json"}
    asked = line(f"[[emulator:{name}]]", responseSchema=schema, **config) if schema else None
    (part,) = parts_of(shared.one_row(asked or line(f"[[emulator:{name}]]", **config)))
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(part["text"])


def test_a_nullable_member_may_be_null(shared: Emulator) -> None:
    """A misfit is no null where null is allowed."""
    schema = {"type": "ARRAY", "nullable": True}
    (part,) = parts_of(shared.one_row(line("[[emulator:invalid-output]]", responseSchema=schema)))
    assert orjson.loads(part["text"]) == "river"


def test_a_misfit_of_a_recursive_schema_is_found() -> None:
    """References are followed, and one that leads nowhere else says nothing."""
    tree: Json = {"defs": {"n": {"type": "ARRAY", "items": {"ref": "#/defs/n"}}}, "ref": "#/defs/n"}
    assert make_misfit(tree, 7) == "river"
    assert make_misfit({"defs": {"n": {"ref": "#/defs/n"}}, "ref": "#/defs/n"}, 7) is None


def test_any_text_as_status(shared: Emulator) -> None:
    """A line can fail with a text that holds no JSON."""
    row = shared.one_row(line("[[emulator:status=the house is on fire]]"))
    assert (row["status"], row["response"]) == ("the house is on fire", {})


@pytest.mark.parametrize(("code", "told"), [("503", 503), ("many", 500)])
def test_an_error_in_the_place_of_the_answer(shared: Emulator, code: str, told: int) -> None:
    """The row says that it has succeeded, and its response is an error."""
    row = shared.one_row(line(f"[[emulator:error-response={code}]]"))
    assert row["status"] == ""
    assert row["response"]["error"]["code"] == told


def test_media_of_a_strange_type(shared: Emulator) -> None:
    """Beside the picture stands a part that claims to be a page."""
    asked = line("[[emulator:inline=text/html]]")
    _, image, page = parts_of(shared.one_row(asked, model=IMAGE_MODEL))
    assert base64.b64decode(image["inlineData"]["data"]).startswith(b"\x89PNG")
    assert page["inlineData"]["mimeType"] == "text/html"
    assert b"<script>" in base64.b64decode(page["inlineData"]["data"])
