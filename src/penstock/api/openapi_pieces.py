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
