"""The header fields and problems of "Resumable Uploads for HTTP", draft-ietf-httpbis-12.

Values are structured fields (RFC 9651). A field whose value is not of its type counts as absent, as
the RFC says; whether absence is an error is for the request to judge.
"""

import re
from typing import ClassVar, Final

import msgspec
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from penstock.api.answers import on_refusal
from penstock.errors import Conflict, InvalidRequest, PenstockError, UnsupportedMedia

COMPLETE: Final = "Upload-Complete"
OFFSET: Final = "Upload-Offset"
LENGTH: Final = "Upload-Length"
LIMIT: Final = "Upload-Limit"
PARTIAL_TYPE: Final = "application/partial-upload"

_INTEGER: Final = re.compile(r"[0-9]{1,15}")
"""RFC 9651 allows 15 digits, which any 64-bit integer holds."""

_BOOLEANS: Final = {"?1": True, "?0": False}
_PROBLEM_TYPES: Final = "https://iana.org/assignments/http-problem-types#"


class OffsetMismatch(Conflict):
    """The piece does not begin where the last one ended."""

    code = "mismatching_upload_offset"
    problem: ClassVar[str] = "mismatching-upload-offset"

    def __init__(self, expected: int, provided: int) -> None:
        super().__init__(
            f"The upload has {expected} bytes, and the piece begins at {provided}.",
            hint=f"Send the bytes from {expected} on.",
        )
        self.members = {"expected-offset": expected, "provided-offset": provided}


class LengthMismatch(InvalidRequest):
    """The request says another length than an earlier one, or than its own pieces have."""

    code = "inconsistent_upload_length"
    problem: ClassVar[str] = "inconsistent-upload-length"
    members: ClassVar[dict[str, int]] = {}


class Overrun(LengthMismatch):
    """More bytes came than were announced, and some of them are not what was meant."""


class AlreadyComplete(InvalidRequest):
    """The upload became a job; nothing can be added to it."""

    code = "completed_upload"
    problem: ClassVar[str] = "completed-upload"
    members: ClassVar[dict[str, int]] = {}


class Fields(msgspec.Struct, frozen=True, kw_only=True):
    """What a request says of its piece."""

    complete: bool | None
    """Whether the piece is the last one; None if it does not say."""

    offset: int | None
    length: int | None
    """Of the whole."""

    content_length: int | None
    """Of the piece."""

    def total(self, offset: int) -> int | None:
        """Return the length of the whole, as far as this request tells it.

        Raises `LengthMismatch` if it contradicts itself.
        """
        if not self.complete or self.content_length is None:
            return self.length
        total = offset + self.content_length
        if self.length not in {None, total}:
            raise LengthMismatch(
                f"The last piece ends at {total}, and {LENGTH} is {self.length}.",
                hint=f"Send {COMPLETE}: ?0 with a piece that is not the last one.",
            )
        return total


def read_fields(headers: Headers) -> Fields:
    """Return what the headers say; raises `InvalidRequest` without an `Upload-Complete`."""
    length = headers.get("content-length")
    fields = Fields(
        complete=_BOOLEANS.get(_item(headers, COMPLETE)),
        offset=_integer(headers, OFFSET),
        length=_integer(headers, LENGTH),
        # The HTTP parser has refused anything but digits.
        content_length=None if length is None else int(length),
    )
    if fields.complete is None:
        raise InvalidRequest(
            f"The request has no {COMPLETE}, or one that is neither ?1 nor ?0.",
            code="missing_header",
            hint=f"Send {COMPLETE}: ?1 with the last piece and ?0 with the others.",
        )
    return fields


def read_piece(headers: Headers) -> tuple[Fields, int]:
    """Return what an append says, and its offset; raises `UnsupportedMedia`, `InvalidRequest`."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != PARTIAL_TYPE:
        raise UnsupportedMedia(
            f"A piece has the type {kind[:40]!r}.",
            hint=f"Send Content-Type: {PARTIAL_TYPE}; the type of the whole was said at its start.",
        )
    if "content-encoding" in headers:
        raise UnsupportedMedia(
            "A piece has a Content-Encoding of its own.",
            hint="Compress the whole and name the encoding when the upload is created.",
        )
    fields = read_fields(headers)
    if fields.offset is None:
        raise InvalidRequest(
            f"The request has no {OFFSET}, or one that is not a whole number.",
            code="missing_header",
            hint="HEAD answers with the offset to go on from.",
        )
    return fields, fields.offset


async def refusal(request: Request, error: PenstockError) -> Response:
    """Answer an error in our shape, and as a problem (RFC 9457) where the draft defines one."""
    answer = await on_refusal(request, error)
    if isinstance(error, OffsetMismatch | LengthMismatch | AlreadyComplete):
        ours = msgspec.json.decode(bytes(answer.body), type=dict[str, object])
        about = {"type": _PROBLEM_TYPES + error.problem, "title": error.message}
        answer.body = msgspec.json.encode({**about, **error.members, **ours})
        answer.headers["Content-Length"] = str(len(answer.body))
        answer.headers["Content-Type"] = "application/problem+json"
    return answer


def boolean(value: bool) -> str:  # noqa: FBT001  # it is what is written
    """Return the structured field of a Boolean."""
    return "?1" if value else "?0"


def _item(headers: Headers, name: str) -> str:
    """Return the one value of a field without its parameters; empty for none and for several."""
    values = headers.getlist(name)
    return values[0].partition(";")[0].strip() if len(values) == 1 else ""


def _integer(headers: Headers, name: str) -> int | None:
    text = _item(headers, name)
    return int(text) if _INTEGER.fullmatch(text) else None
