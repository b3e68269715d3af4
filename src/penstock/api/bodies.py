"""Small JSON bodies: of a named size, strict, and without a member that nobody asked for."""

import json
from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import Request

from penstock.errors import InvalidRequest, TooLarge

T = TypeVar("T", bound=msgspec.Struct)

_SAID_CHARS_MAX: Final = 200
"""Of what is wrong, because it quotes the body."""


async def read_json(request: Request, kind: type[T], bytes_max: int) -> T:
    """Return the body as a struct, which has to be flat and forbid unknown members.

    No body is an empty object.

    Raises `TooLarge` or `InvalidRequest`.
    """
    body = await _read(request, bytes_max)
    try:
        found = msgspec.json.decode(body or b"{}", type=kind)
        # msgspec takes the last of two members of one name, and another reader the first.
        json.loads(body or b"{}", object_pairs_hook=_once)
    except (msgspec.DecodeError, ValueError) as error:
        raise InvalidRequest(
            f"The body is not accepted: {str(error)[:_SAID_CHARS_MAX]}.",
            code="invalid_body",
            hint="GET /docs shows the members that this call takes.",
        ) from error
    return found


async def _read(request: Request, bytes_max: int) -> bytes:
    body = bytearray()
    # A length that was announced is refused before anything comes.
    length = int(request.headers.get("content-length", "0"))
    if length <= bytes_max:
        async for chunk in request.stream():
            body += chunk
            if len(body) > bytes_max:
                break
    if max(length, len(body)) > bytes_max:
        raise TooLarge(
            f"The body has more than {bytes_max} bytes (admin_body_bytes_max).",
            code="body_too_large",
            hint="No call of this kind needs more.",
        )
    return bytes(body)


def _once(pairs: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise InvalidRequest(
            "A member stands twice in the body.",
            code="duplicate_member",
            hint="Send each member once; which one counts would be a guess.",
        )
