"""What became of each line: pages of them by outcome and code, how many of each, and one whole.

The line itself is spliced into the answer as it stands in the output; nothing of it is parsed.
"""

import base64
import binascii
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from penstock.api.answers import json_answer
from penstock.api.auth import Authenticator
from penstock.api.jobs import JobDoor
from penstock.api.line_source import Lines, LineSource, Place, Wanted, no_line, place_of
from penstock.api.partial import Wishes
from penstock.api.request_queue import BASES
from penstock.core.access import Scope
from penstock.core.hints import hint
from penstock.core.job import JobId
from penstock.core.line import LineOutcome
from penstock.core.line_index import OUTCOMES, Entry, Kind
from penstock.errors import BlobCorrupt, InvalidRequest

PAGE: Final = 100
"""Lines on a page that does not say how many."""

CODES_NAMED_MAX: Final = 20
"""Codes that a refusal of an unknown one lists."""

LINE_PIECE_BYTES: Final = 1024 * 1024
"""A line up to this is held; a larger one passes through, block by block."""

_NUMBER_DIGITS_MAX: Final = 9
_SEAL_CHARACTERS: Final = 12
_PAGE_PARAMETERS: Final = ("outcome", "code", "cursor", "limit", "include", "partial")
_OUTPUT: Final = "output"
_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False}


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What one call wants of a job's lines."""

    wanted: Wanted = Wanted()
    cursor: str | None = None
    limit: int = PAGE
    has_output: bool = False
    """Whether the lines themselves are to be in the answer."""
    is_partial: bool = False


class LineRoutes:
    """The routes, under both bases."""

    def __init__(
        self, door: JobDoor, authenticator: Authenticator, source: LineSource, wishes: Wishes
    ) -> None:
        self._door = door
        self._authenticator = authenticator
        self._source = source
        self._wishes = wishes
        self._limits = door.limits

    def routes(self) -> list[Route]:
        """Return the routes under both bases."""
        path = "/requests/{request_id}/lines"
        table = (
            (path, self.page),
            # Before the one with a number in its place.
            (f"{path}/groups", self.groups),
            (f"{path}/{{line_number}}", self.line),
        )
        return [
            Route(base + path, endpoint, methods=["GET"])
            for base in BASES
            for path, endpoint in table
        ]

    async def page(self, request: Request) -> Response:
        """Return the next lines of those that are asked for, in order."""
        lines, asked = await self._open(request, _PAGE_PARAMETERS, is_searched=True)
        _check_code(asked.wanted, lines.kinds)
        after = 0 if asked.cursor is None else _read_cursor(asked.cursor, lines.place, asked.wanted)
        found = await lines.page(asked.wanted, after, asked.limit + 1)
        shown, has_more = found[: asked.limit], len(found) > asked.limit
        rendered = [shown_entry(entry) for entry in shown]
        if asked.has_output:
            rendered = await self._with_output(lines, shown)
        answer: dict[str, Any] = {
            "request_id": lines.place.job_id,
            "partial": lines.place.is_partial,
            "line_count": lines.count,
            "total": sum(kind.lines for kind in lines.kinds if asked.wanted.has(kind)),
            "lines": rendered,
        }
        if has_more or len(rendered) < len(shown):
            last = shown[len(rendered) - 1].number
            answer["next_cursor"] = cursor_of(last, lines.place, asked.wanted)
        return json_answer(answer)

    async def groups(self, request: Request) -> Response:
        """Return in which ways lines ended, the commonest first."""
        lines, _ = await self._open(request, ("partial",))
        kinds = sorted((kind for kind in lines.kinds if kind.lines), key=_rank)
        return json_answer(
            {
                "request_id": lines.place.job_id,
                "partial": lines.place.is_partial,
                "line_count": lines.count,
                "groups": [_group(kind) for kind in kinds],
            }
        )

    async def line(self, request: Request) -> Response:
        """Return one line whole; it may be larger than this server wants to hold."""
        lines, _ = await self._open(request, ("partial",))
        number = request.path_params["line_number"]
        if not (number.isascii() and number.isdigit() and len(number) <= _NUMBER_DIGITS_MAX):
            raise no_line(lines.count)
        entry = await lines.entry(int(number))
        place = lines.place
        said: dict[str, Any] = {
            "request_id": place.job_id,
            "partial": place.is_partial,
            **shown_entry(entry),
            "hint": hint(entry.outcome, entry.code),
        }
        head = msgspec.json.encode(said)[:-1] + b',"output":'
        if entry.length <= LINE_PIECE_BYTES:
            (text,) = await lines.texts([entry])
            return Response(head + text + b"}", media_type="application/json")
        # Without the newline of the line.
        part = range(entry.offset, entry.offset + entry.length - 1)
        blocks = self._door.blobs.stream(place.job_id, place.output_name, part)
        first = await anext(blocks, b"")
        if not first.startswith(b"{"):
            await blocks.aclose()
            raise BlobCorrupt(f"Line {entry.number} of the output is not where its index says.")
        size = len(head) + len(part) + 1
        return StreamingResponse(
            _spliced(head + first, blocks),
            headers={"Content-Length": str(size)},
            media_type="application/json",
        )

    async def _open(
        self, request: Request, known: Sequence[str], *, is_searched: bool = False
    ) -> tuple[Lines, Asked]:
        principal = await self._authenticator.principal(request, Scope.JOBS_READ)
        job = await self._door.get(principal, request.path_params["request_id"])
        asked = self._asked(request, known)
        if asked.is_partial:
            await self._wishes.ask(job)
        place = place_of(job, is_partial=asked.is_partial)
        return await self._source.open(place, is_searched=is_searched), asked

    def _asked(self, request: Request, known: Sequence[str]) -> Asked:
        query = request.query_params
        for name in query:
            # A filter that is misspelt would give all lines, as if all were like that.
            if name not in known:
                raise _invalid(
                    f"The parameter {name[:40]!r} does not exist.", f"There are: {_listed(known)}."
                )
        return Asked(
            wanted=Wanted(outcomes=_outcomes(query.getlist("outcome")), code=query.get("code")),
            cursor=query.get("cursor"),
            limit=min(_limit(query.get("limit")), self._limits.lines_page_max),
            has_output=_includes_output(query.getlist("include")),
            is_partial=_flag(query.get("partial", "false")),
        )

    async def _with_output(self, lines: Lines, entries: Sequence[Entry]) -> list[dict[str, Any]]:
        """Return as many lines as a page may have bytes; the first one is always among them.

        A line that is too large for any page comes without its output.
        """
        bytes_max = self._limits.lines_page_bytes_max
        room, count = bytes_max, 0
        for entry in entries:
            if entry.length <= bytes_max:
                room -= entry.length
                if room < 0:
                    break
            count += 1
        small = [entry for entry in entries[:count] if entry.length <= bytes_max]
        texts = dict(zip(small, await lines.texts(small), strict=True))
        return [
            {
                **shown_entry(entry),
                "output": msgspec.Raw(texts[entry]) if entry in texts else None,
            }
            for entry in entries[:count]
        ]


async def _spliced(head: bytes, blocks: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    async with aclosing(blocks):
        yield head
        async for block in blocks:
            yield block
        yield b"}"


def shown_entry(entry: Entry) -> dict[str, Any]:
    """Return what the index says of a line, as it is answered."""
    return {
        "line": entry.number,
        "outcome": entry.outcome,
        "code": entry.code,
        "retryable": entry.is_retryable,
        "round": entry.round,
        "twin": entry.is_twin,
        "prompt_tokens": entry.prompt_tokens,
        "output_tokens": entry.output_tokens,
        "output_bytes": entry.length,
    }


def _group(kind: Kind) -> dict[str, Any]:
    return {
        "outcome": kind.outcome,
        "code": kind.code,
        "count": kind.lines,
        "example_line": kind.first_line,
        "message": _visible(kind.message),
        "retryable": kind.retryable,
        "hint": hint(kind.outcome, kind.code),
    }


def _rank(kind: Kind) -> tuple[bool, int, str, str]:
    """Order what went wrong before what went well, and the commonest first."""
    return kind.outcome is LineOutcome.OK, -kind.lines, kind.outcome, kind.code


def _visible(text: str) -> str:
    """Return a provider's message without characters that nobody sees."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def _outcomes(texts: Sequence[str]) -> tuple[LineOutcome, ...]:
    words = [word for text in texts for word in text.split(",") if word]
    for word in words:
        if word not in OUTCOMES:
            raise _invalid(
                f"The outcome {word[:40]!r} does not exist.", f"Use some of: {_listed(OUTCOMES)}."
            )
    return tuple(outcome for outcome in OUTCOMES if outcome in words)


def _check_code(wanted: Wanted, kinds: Sequence[Kind]) -> None:
    """Raise `InvalidRequest` for a code that no line of the job has."""
    if wanted.code is None or any(kind.code == wanted.code for kind in kinds):
        return
    known = sorted({kind.code for kind in kinds if kind.code})
    more = len(known) - CODES_NAMED_MAX
    raise _invalid(
        f"No line of this request has the code {wanted.code[:40]!r}.",
        f"Its lines have: {_listed(known[:CODES_NAMED_MAX]) or 'none'}"
        + (f", and {more} more: see /lines/groups." if more > 0 else "."),
    )


def _limit(text: str | None) -> int:
    if text is None:
        return PAGE
    if not (text.isascii() and text.isdigit() and len(text) <= _NUMBER_DIGITS_MAX) or not int(text):
        raise _invalid("The parameter limit is not a whole number of at least 1.", None)
    return int(text)


def _includes_output(texts: Sequence[str]) -> bool:
    words = [word for text in texts for word in text.split(",") if word]
    for word in words:
        if word != _OUTPUT:
            raise _invalid(f"There is nothing named {word[:40]!r} to include.", "There is: output.")
    return bool(words)


def _flag(text: str) -> bool:
    if text not in _FLAGS:
        raise _invalid("The parameter partial is neither true nor false.", None)
    return _FLAGS[text]


def cursor_of(after: int, place: Place, wanted: Wanted) -> str:
    """Return the cursor of the page that begins behind line `after`."""
    text = f"{after} {_seal(place.job_id, place.index_name, wanted)}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(cursor: str, place: Place, wanted: Wanted) -> int:
    """Return the line after which to go on; raise `InvalidRequest` for another list's cursor."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except (binascii.Error, ValueError) as error:
        raise _bad_cursor() from error
    after, _, seal = text.partition(" ")
    is_number = after.isdigit() and len(after) <= _NUMBER_DIGITS_MAX
    if not is_number or seal != _seal(place.job_id, place.index_name, wanted):
        raise _bad_cursor()
    return int(after)


def _seal(job_id: JobId, index_name: str, wanted: Wanted) -> str:
    """Return what a cursor is bound to; it is no secret, for it gives nothing away."""
    text = msgspec.json.encode((job_id, index_name, wanted))
    return hashlib.sha256(text).hexdigest()[:_SEAL_CHARACTERS]


def _bad_cursor() -> InvalidRequest:
    return _invalid(
        "The cursor does not belong to this list.",
        "Begin again without a cursor: one belongs to its outcomes and code, and to one output, "
        "which another round replaces.",
    )


def _invalid(message: str, hint_: str | None) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_parameter", hint=hint_)


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words)
