"""Single parts of answers in the OpenAPI document."""

from typing import Final

from penstock.api.openapi_pieces import REFUSED, Json, operation, parameter, path_id
from penstock.api.request_queue_record import LINES_PATH
from penstock.core.limits import Limits

IMAGES_PARAMETER: Final = parameter(
    "images",
    "query",
    "`links`: pictures in the answers are links to where they can be fetched with a key "
    "(`fileData.fileUri` instead of `inlineData`); there are no ranges of it.",
    {"const": "links"},
)
_PICTURES: Final = ("image/png", "image/jpeg", "image/webp", "image/gif")


def image_paths(limits: Limits) -> Json:
    """Return the path; the limit of this very server is told."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    part = operation(
        "getPart",
        "One part of an answer: a generated picture, or a text",
        "Of the first candidate. The type is what the bytes show, never what the model says of "
        "them; any other part is 404. Out of lines of the output up to "
        f"{limits.image_line_bytes_max} bytes.",
        {
            "200": {
                "description": "Its bytes, as an attachment, with an ETag.",
                "content": {
                    **dict.fromkeys(_PICTURES, binary),
                    "text/plain": {"schema": {"type": "string"}},
                },
            },
            "304": {"description": "Unchanged."},
        },
        (*REFUSED, "NotFound", "Conflict", "TooLarge", "Unavailable"),
    )
    return {
        f"{LINES_PATH}/{{line_number}}/parts/{{part_number}}": {
            "parameters": [
                {"$ref": "#/components/parameters/request_id"},
                path_id("line_number", "From 1, as in the input."),
                path_id("part_number", "From 0, as in the answer."),
            ],
            "get": part,
        },
    }
