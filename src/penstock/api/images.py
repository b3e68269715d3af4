"""Generated pictures one by one, and the output with links in their place.

What a model has made is hostile. A part is sent with a type that its own bytes show, as an
attachment, with a name of ours, in a sandbox; anything but a picture or a text is not sent at all.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from penstock.api.answer_parts import Part, part_of
from penstock.api.auth import Authenticator
from penstock.api.jobs import JobDoor
from penstock.api.line_source import Lines, LineSource, no_line, place_of
from penstock.api.negotiation import is_known
from penstock.api.request_queue import BASES
from penstock.api.sending import Slot, Slots
from penstock.blobs.threads import in_thread
from penstock.core.access import Scope as Right
from penstock.core.job import Job
from penstock.core.line_index import Entry
from penstock.errors import NotFound, TooLarge

PART_PATH: Final = "/requests/{request_id}/lines/{line_number}/parts/{part_number}"

READ_AT_ONCE: Final = 4
"""Lines that are read and decoded at the same time; each holds `image_line_bytes_max` at most."""

CHUNK_BYTES: Final = 256 * 1024
_DIGITS_MAX: Final = 9
_ETAG_CHARACTERS: Final = 32


class PartAnswer(Response):
    """An answer that is made, and held, only while it has a slot of the downloads."""

    def __init__(self, make: Callable[[], Awaitable[Response]], slot: Slot) -> None:
        # Not Response's own beginning: there is no body and no header before it is made.
        self.status_code = HTTPStatus.OK
        self.background = None
        self._make = make
        self._slot = slot

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Make the answer and send it."""
        with self._slot(is_compressed=False):
            answer = await self._make()
            await answer(scope, receive, send)


class Images:
    """The route for single parts."""

    def __init__(
        self, door: JobDoor, authenticator: Authenticator, source: LineSource, slots: Slots
    ) -> None:
        self._door = door
        self._authenticator = authenticator
        self._source = source
        self._slots = slots
        self._turns = asyncio.Semaphore(READ_AT_ONCE)

    def routes(self) -> list[Route]:
        """Return the route under both bases; HEAD comes with GET."""
        return [Route(base + PART_PATH, self.part, methods=["GET"]) for base in BASES]

    async def part(self, request: Request) -> Response:
        """Return one part of the answer to a line."""
        principal = await self._authenticator.principal(request, Right.JOBS_READ)
        job = await self._door.get(principal, request.path_params["request_id"])
        lines = await self._source.open(place_of(job, is_partial=False))
        line_number = _number(request.path_params["line_number"])
        part_number = _number(request.path_params["part_number"])
        if line_number is None:
            raise no_line(lines.count)
        if part_number is None:
            raise NotFound(
                "There is no such part.", code="part_not_found", hint="Parts count from 0."
            )
        entry = await lines.entry(line_number)
        self._check(entry)
        make = partial(self._answer, request, job, lines, entry, part_number)
        return PartAnswer(make, partial(self._slots.take, job.org_id))

    def _check(self, entry: Entry) -> None:
        most = self._door.limits.image_line_bytes_max
        if entry.length > most:
            raise TooLarge(
                f"Line {entry.number} of the output has {entry.length} bytes; parts are taken out "
                f"of lines up to {most} (limit image_line_bytes_max).",
                code="line_too_large",
                hint="Download the output.",
            )

    async def _answer(
        self, request: Request, job: Job, lines: Lines, entry: Entry, number: int
    ) -> Response:
        async with self._turns:
            (line,) = await lines.texts([entry])
            part = await in_thread(partial(part_of, line, number))
        headers = _headers(part, f"{job.id}-{entry.number:06d}-{number}")
        if is_known(request.headers.getlist("if-none-match"), headers["ETag"]):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        headers["Content-Length"] = str(len(part.data))
        return StreamingResponse(_chunks(part.data), headers=headers)


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    """Yield the bytes so that a client who reads slowly holds its slot."""
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]


def _headers(part: Part, name: str) -> dict[str, str]:
    digest = hashlib.sha256(part.data).hexdigest()
    return {
        "Content-Type": part.media_type,
        "Content-Disposition": f'attachment; filename="{name}.{part.extension}"',
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "X-Content-Type-Options": "nosniff",
        # Another round of the request may bring another picture, so it is asked for again.
        "Cache-Control": "private, no-cache, no-transform",
        "ETag": f'"{digest[:_ETAG_CHARACTERS]}"',
    }


def _number(text: str) -> int | None:
    if text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX:
        return int(text)
    return None
