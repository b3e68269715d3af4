"""What the operations of the OpenAPI document are made of."""

from types import MappingProxyType
from typing import Any, Final

Json = dict[str, Any]

_STATUSES: Final = MappingProxyType(
    {
        "Invalid": "400",
        "InvalidPiece": "400",
        "PieceConflict": "409",
        "Unauthenticated": "401",
        "OverCost": "402",
        "Forbidden": "403",
        "NotFound": "404",
        "Conflict": "409",
        "TooLarge": "413",
        "UnsupportedMedia": "415",
        "Locked": "423",
        "TooMany": "429",
        "SourceRefused": "422",
        "Unavailable": "503",
        "StorageFull": "507",
    }
)
"""Of the answers that the document describes once, under `components/responses`."""


TEXT: Final[Json] = {"type": "string"}
INTEGER: Final[Json] = {"type": "integer"}
MAYBE_TEXT: Final[Json] = {"type": ["string", "null"]}
MAYBE_INTEGER: Final[Json] = {"type": ["integer", "null"]}

REFUSED: Final = ("Unauthenticated", "Forbidden")
"""What every operation that needs a key may answer."""

CHANGING: Final = ("Invalid", *REFUSED, "NotFound", "TooLarge")
"""What one with a body may answer."""


def operation(
    name: str, summary: str, description: str, answers: Json, refusals: tuple[str, ...]
) -> Json:
    """Return one operation; `refusals` are names of the shared answers.

    Any of them may come too often for its organisation.
    """
    refused = {
        _STATUSES[refusal]: {"$ref": f"#/components/responses/{refusal}"}
        for refusal in (*refusals, "TooMany")
    }
    return {
        "operationId": name,
        "summary": summary,
        "description": description,
        "parameters": [{"$ref": "#/components/parameters/organization"}],
        "responses": {**answers, **refused},
    }


def parameter(name: str, place: str, description: str, schema: Json) -> Json:
    """Return a parameter of a path, query or header."""
    return {"name": name, "in": place, "description": description, "schema": schema}


def described(description: str, *headers: str) -> Json:
    """Return an answer without a body, and its headers."""
    return {
        "description": description,
        "headers": {name: {"schema": {"type": "string"}} for name in headers},
    }


def answer(description: str, schema: str) -> Json:
    """Return a JSON answer whose schema has this name."""
    reference = {"$ref": f"#/components/schemas/{schema}"}
    return {
        "description": description,
        "content": {"application/json": {"schema": reference}},
    }


def problem(description: str) -> Json:
    """Return an answer that may be a problem of RFC 9457, where the draft of uploads has one."""
    found = answer(description, "Error")
    found["content"]["application/problem+json"] = found["content"]["application/json"]
    return found


def taking(one: Json, schema: str, example: Json, *, is_needed: bool = True) -> Json:
    """Return an operation with a JSON body whose schema has this name."""
    reference = {"$ref": f"#/components/schemas/{schema}"}
    content = {"application/json": {"schema": reference, "example": example}}
    needed = {"required": True} if is_needed else {}
    return {**one, "requestBody": {**needed, "content": content}}


def path_id(name: str, description: str) -> Json:
    """Return the parameter for an id in the path."""
    return {**parameter(name, "path", description, {"type": "string"}), "required": True}


def shown(**properties: Any) -> Json:  # noqa: ANN401  # JSON schemas
    """Return the schema of an answer, which has all of its members."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def taken(description: str, required: tuple[str, ...] = (), **properties: Any) -> Json:  # noqa: ANN401  # JSON schemas
    """Return the schema of a body, which may have no other members."""
    return {
        "type": "object",
        "description": description,
        "additionalProperties": False,
        "properties": properties,
        "required": list(required),
    }
