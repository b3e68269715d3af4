"""The lines of a request in the OpenAPI document."""

from typing import Final

from penstock.api.lines import CODES_NAMED_MAX, PAGE
from penstock.api.openapi_pieces import (
    INTEGER,
    REFUSED,
    TEXT,
    Json,
    answer,
    operation,
    parameter,
    path_id,
    shown,
)
from penstock.api.request_queue_record import LINES_PATH
from penstock.core.limits import Limits
from penstock.core.line import LineOutcome

_REFUSALS: Final = ("Invalid", *REFUSED, "NotFound", "Conflict", "Unavailable")


def line_paths(limits: Limits) -> Json:
    """Return the paths; the limits of this very server are told."""
    request_id = {"$ref": "#/components/parameters/request_id"}
    return {
        LINES_PATH: {"parameters": [request_id], "get": _page(limits)},
        f"{LINES_PATH}/groups": {"parameters": [request_id], "get": _groups()},
        f"{LINES_PATH}/{{line_number}}": {
            "parameters": [request_id, path_id("line_number", "From 1, as in the input.")],
            "get": _one(),
        },
    }


def _page(limits: Limits) -> Json:
    page = operation(
        "listLines",
        "What became of each line",
        "In the order of the input. While lines are sent again it tells of the round before.",
        {"200": answer("One page.", "LinePage")},
        _REFUSALS,
    )
    page["parameters"] += [
        parameter(
            "outcome",
            "query",
            f"Only lines with one of these, with commas between them: {', '.join(LineOutcome)}.",
            TEXT,
        ),
        parameter(
            "code",
            "query",
            "Only lines with this code. One that no line has is refused, and the hint names "
            f"{CODES_NAMED_MAX} that there are.",
            TEXT,
        ),
        parameter("cursor", "query", "next_cursor of the page before, same filter.", TEXT),
        parameter(
            "limit",
            "query",
            f"{PAGE} if left out; clamped to {limits.lines_page_max}.",
            {"type": "integer", "minimum": 1},
        ),
        parameter(
            "include",
            "query",
            f"`output` for the lines themselves, up to {limits.lines_page_bytes_max} bytes of them "
            "a page; what does not fit comes on the next page, and a line that is larger by itself "
            "has null for its output: ask for it alone.",
            {"enum": ["output"]},
        ),
        _PARTIAL,
    ]
    return page


def _groups() -> Json:
    groups = operation(
        "listLineGroups",
        "In which ways lines ended",
        "What went wrong first, the commonest first, each with an example and what to do.",
        {"200": answer("All of them.", "LineGroups")},
        _REFUSALS,
    )
    groups["parameters"].append(_PARTIAL)
    return groups


def _one() -> Json:
    one = operation(
        "getLine",
        "One line, whole",
        "`output` is the line as it stands in the output: the caller's own members, request and "
        "response.",
        {"200": answer("The line.", "WholeLine")},
        _REFUSALS,
    )
    one["parameters"].append(_PARTIAL)
    return one


_PARTIAL: Final = parameter(
    "partial",
    "query",
    "true: of a request that still runs, the lines that the provider has finished so far.",
    {"type": "boolean", "default": False},
)
_ENTRY: Final[Json] = {
    "line": {**INTEGER, "description": "From 1, as in the input."},
    "outcome": {"enum": list(LineOutcome)},
    "code": {**TEXT, "description": "The provider's or ours; empty for a plain ok."},
    "retryable": {"type": "boolean", "description": "Whether another try may mend it."},
    "round": {**INTEGER, "description": "Which round answered it; the first one is 1."},
    "twin": {"type": "boolean", "description": "Answered by an identical line, and not paid."},
    "prompt_tokens": INTEGER,
    "output_tokens": {**INTEGER, "description": "Thoughts included."},
    "output_bytes": {**INTEGER, "description": "Of the line in the output."},
}
_OUTPUT: Final[Json] = {"type": ["object", "null"], "description": "The line of the output."}
_OF: Final[Json] = {
    "request_id": TEXT,
    "partial": {"type": "boolean", "description": "Whether the request still runs."},
}
_GROUP: Final = shown(
    outcome={"enum": list(LineOutcome)},
    code=TEXT,
    count=INTEGER,
    example_line={**INTEGER, "description": "The first of them."},
    message={**TEXT, "description": "What that one says, cut and escaped."},
    retryable={"type": "boolean"},
    hint={**TEXT, "description": "What to do; may be empty."},
)
_LINE: Final = shown(**_ENTRY)

LINE_SCHEMAS: Final[Json] = {
    "Line": {**_LINE, "properties": {**_ENTRY, "output": _OUTPUT}},
    "WholeLine": shown(**_OF, **_ENTRY, hint=TEXT, output={**_OUTPUT, "type": "object"}),
    "LinePage": {
        "type": "object",
        "properties": {
            **_OF,
            "line_count": {**INTEGER, "description": "Lines of the output."},
            "total": {**INTEGER, "description": "Of these, those that the filter wants."},
            "lines": {"type": "array", "items": {"$ref": "#/components/schemas/Line"}},
            "next_cursor": {**TEXT, "description": "Absent on the last page."},
        },
        "required": [*_OF, "line_count", "total", "lines"],
    },
    "LineGroups": shown(
        **_OF,
        line_count=INTEGER,
        groups={"type": "array", "items": _GROUP},
    ),
}
