"""The output by key, also of a request that still runs, in the OpenAPI document."""

from typing import Final

from penstock.api.openapi_images import IMAGES_PARAMETER
from penstock.api.openapi_pieces import (
    INTEGER,
    MAYBE_INTEGER,
    REFUSED,
    TEXT,
    Json,
    answer,
    operation,
    parameter,
    shown,
)
from penstock.api.partial import LINES_FINISHED, LINES_TOTAL, TAKEN_AT

_SO_FAR: Final = {"lines": INTEGER, "total": INTEGER}

PARTIAL_SCHEMA: Final = {
    **shown(
        **_SO_FAR,
        at=INTEGER,
        url={"type": "string", "description": "Signed and expiring, as output_url is."},
    ),
    "description": "Of a request that runs and was looked at: how many lines were finished then.",
}

PARTIAL_SCHEMAS: Final = {
    "NothingYet": shown(
        request_id=TEXT,
        status=TEXT,
        status_detail=TEXT,
        message={"type": "string", "description": "Why there is nothing to read."},
        partial=shown(**_SO_FAR, at=MAYBE_INTEGER),
    )
}


def partial_paths(base: str) -> Json:
    """Return the path."""
    one = operation(
        "getOutput",
        "The output, or what is finished so far",
        "The same bytes as output_url, for a key. With `partial=true` a request that runs gives a "
        "line for each of its lines, of which those that are not finished have a status with the "
        "code `pending`. The first such call has the provider looked at, and is answered 202 and "
        "when to come again; later ones give the newest look and ask for another one. A newer look "
        "has another ETag.",
        {
            "200": {
                "description": "Line k answers line k.",
                "content": {"application/jsonl": {"schema": {"type": "string"}}},
                "headers": {
                    name: {"schema": INTEGER, "description": "Of a look only."}
                    for name in (LINES_FINISHED, LINES_TOTAL, TAKEN_AT)
                },
            },
            "202": answer("Nothing to read yet; see Retry-After.", "NothingYet"),
            "206": {"description": "A part."},
            "304": {"description": "Unchanged."},
            "416": {"description": "The range is outside the file."},
        },
        ("Invalid", *REFUSED, "NotFound", "Conflict", "Unavailable"),
    )
    one["parameters"] += [
        IMAGES_PARAMETER,
        parameter("partial", "query", "Also while the request runs.", {"type": "boolean"}),
        parameter("Range", "header", "One range of bytes.", TEXT),
        parameter("If-Range", "header", "The ETag so far.", TEXT),
    ]
    path = f"{base}/requests/{{request_id}}/output"
    return {path: {"parameters": [{"$ref": "#/components/parameters/request_id"}], "get": one}}
