"""Each trap of the provider's importer (reference/wire.md 1.8), and what becomes of it here.

The table of docs/preflight.md is made of this one: `python -m tests.ingest.trap_table`.
"""

import json
import sys
from typing import Any, Final

import msgspec

Request = dict[str, Any]
TEXT: Final[Request] = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}


class Trap(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of one file, the last of which is the trap."""

    what: str
    shown: str
    """What stands in the line, for people."""
    requests: tuple[Request, ...]
    code: str = ""
    """Under which the last one is refused; empty if it is not."""
    done: str = ""
    """What is done to it on the provider's copy; empty if nothing is."""
    is_trap: bool = True
    """Whether the importer refuses the file as it was sent."""


def said(**members: Any) -> Request:  # noqa: ANN401  # any JSON
    """Return a request with these members."""
    return {**TEXT, **members}


def asked(schema: Any, name: str = "responseJsonSchema") -> Request:  # noqa: ANN401  # any JSON
    """Return a request with a schema for its answer."""
    return said(generationConfig={name: schema})


def spoken(*parts: Request) -> Request:
    """Return a request with these parts."""
    return {"contents": [{"role": "user", "parts": list(parts)}]}


def called(args: Any) -> Request:  # noqa: ANN401  # any JSON
    """Return a request in which the model has called a function."""
    return spoken({"functionCall": {"name": "f", "args": args}})


def deep(objects: int) -> Request:
    """Return a request with so many objects within each other, itself the first."""
    value: Any = 1
    for _ in range(objects - 1):
        value = {"a": value}
    return said(labels=value)


CIRCLE: Final = {
    "$defs": {"N": {"type": "object", "properties": {"next": {"$ref": "#/$defs/N"}}}},
    "properties": {"n": {"$ref": "#/$defs/N"}},
}
NAMED: Final = {
    "$defs": {"C": {"type": "string", "enum": ["a", "b"]}},
    "properties": {"c": {"$ref": "#/$defs/C"}},
}
NULLABLE: Final = {"type": ["string", "null"]}

TRAPS: Final = (
    Trap(
        what="objects nested more than 15 deep",
        shown="16 objects within each other",
        requests=(deep(16),),
        code="nesting_too_deep",
    ),
    Trap(
        what="references that are circular",
        shown='`"$ref": "#/$defs/N"` within `N`',
        requests=(asked(CIRCLE),),
        code="invalid_member_name",
    ),
    Trap(
        what="references",
        shown='`"$ref": "#/$defs/C"`',
        requests=(asked(NAMED),),
        done="schema_reference",
    ),
    Trap(
        what="a reference to somewhere else",
        shown='`"$ref": "https://…"`',
        requests=(asked({"$ref": "https://example.com/a.json"}),),
        code="invalid_member_name",
    ),
    Trap(
        what="notes on a schema",
        shown="`$schema`, `$id`, `$comment`",
        requests=(asked({"$schema": "https://json-schema.org/a", "type": "string"}),),
        done="schema_annotation",
    ),
    Trap(
        what="a name with a blank",
        shown='`"first name"` in `properties`',
        requests=(asked({"properties": {"first name": {"type": "string"}}}),),
        code="invalid_member_name",
    ),
    Trap(
        what="a name with a slash",
        shown='`"km/h"` in arguments',
        requests=(called({"km/h": 3}),),
        code="invalid_member_name",
    ),
    Trap(
        what="an empty name",
        shown='`""` in `labels`',
        requests=(said(labels={"": "x"}),),
        code="invalid_member_name",
    ),
    Trap(
        what="a tool without settings",
        shown="`googleSearch: {}`, `enterpriseWebSearch: {}`",
        requests=(said(tools=[{"google_search": {}}]),),
        done="default_member",
    ),
    Trap(
        what="a tool that has no settings",
        shown="`codeExecution: {}`, `urlContext: {}`",
        requests=(said(tools=[{"codeExecution": {}}]),),
        code="empty_object",
    ),
    Trap(
        what="a call without arguments",
        shown="`args: {}`",
        requests=(called({}),),
        done="empty_object",
    ),
    Trap(
        what="settings without any",
        shown="`generationConfig: {}`, `thinkingConfig: {}`, `labels: {}`, …",
        requests=(said(generationConfig={"thinkingConfig": {}}),),
        done="empty_object",
    ),
    Trap(
        what="a function without parameters",
        shown="`parameters: {}`",
        requests=(said(tools=[{"functionDeclarations": [{"name": "f", "parameters": {}}]}]),),
        done="empty_object",
    ),
    Trap(
        what="an object schema without properties",
        shown='`{"type": "object", "properties": {}}`',
        requests=(asked({"type": "object", "properties": {}}),),
        done="schema_empty",
    ),
    Trap(
        what="an empty object in data",
        shown='`args: {"filter": {}}`, `response: {}`, `{"properties": {"x": {}}}`',
        requests=(called({"filter": {}}),),
        code="empty_object",
    ),
    Trap(
        what="an empty part",
        shown="`parts: [{}]`",
        requests=(spoken({}),),
        code="empty_object",
    ),
    Trap(
        what="null in an array of data",
        shown='`args: {"a": [1, null]}`',
        requests=(called({"a": [1, None]}),),
        code="null_in_array",
    ),
    Trap(
        what="null in an enum",
        shown='`"enum": ["a", null]`',
        requests=(asked({"enum": ["a", None]}),),
        done="schema_types",
    ),
    Trap(
        what="null for one of the API's arrays",
        shown="`tools: null` beside a line with tools",
        requests=(
            said(tools=[{"functionDeclarations": [{"name": "f"}]}]),
            said(tools=None),
        ),
        done="null_member",
    ),
    Trap(
        what="null where another line has an array, in data",
        shown='`args: {"a": null}`, `args: {"a": [1]}`',
        requests=(called({"a": [1]}), called({"a": None})),
        code="null_in_array",
    ),
    Trap(
        what="one object where others have an array",
        shown='`parts: {"text": "hi"}`',
        requests=(TEXT, {"contents": [{"role": "user", "parts": {"text": "hi"}}]}),
        done="single_value",
    ),
    Trap(
        what="an array on one line and a plain value on another",
        shown='`args: {"a": "x"}`, `args: {"a": ["x"]}`',
        requests=(called({"a": "x"}), called({"a": ["x"]})),
        code="mixed_types",
    ),
    Trap(
        what="an object on one line and a plain value on another",
        shown='`additionalProperties: false`, `additionalProperties: {"type": …}`',
        requests=(
            asked({"additionalProperties": False}),
            asked({"additionalProperties": {"type": "string"}}),
        ),
        code="mixed_types",
    ),
    Trap(
        what="a schema's type once a text, once a list",
        shown='`"type": "string"`, `"type": ["string", "null"]`',
        requests=(asked({"type": "string"}), asked(NULLABLE)),
        done="schema_types",
    ),
    Trap(
        what="the same in the provider's own dialect",
        shown="`responseSchema`, `parameters`",
        requests=(
            asked({"type": "STRING"}, "responseSchema"),
            asked(NULLABLE, "responseSchema"),
        ),
        done="schema_types",
    ),
    Trap(
        what="snake_case and camelCase",
        shown="`generation_config`, `system_instruction`, `file_data`",
        requests=(said(generation_config={"top_k": 1}),),
        done="snake_case_member",
        is_trap=False,
    ),
    Trap(
        what="a text that looks like a number",
        shown='`"text": "007"` may come back as 7',
        requests=(spoken({"text": "007"}),),
        is_trap=False,
    ),
)


def table() -> str:
    """Return the table of docs/preflight.md."""
    lines = ["| trap | for example | here |", "|---|---|---|"]
    for trap in TRAPS:
        fate = "a warning in the report: `numeric_text`"
        if trap.code:
            fate = f"refused: `{trap.code}`"
        elif trap.done:
            fate = f"mended on the provider's copy: `{trap.done}`"
        lines.append(f"| {trap.what} | {trap.shown} | {fate} |")
    return "\n".join(lines) + "\n"


def jsonl(requests: tuple[Request, ...]) -> bytes:
    """Return the file of some requests."""
    return b"".join(json.dumps({"request": one}).encode() + b"\n" for one in requests)


if __name__ == "__main__":
    sys.stdout.write(table())
