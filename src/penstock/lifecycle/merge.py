"""Write the output: line k answers line k, always as many lines as the input has.

The caller's own members and its request go back byte for byte as they were sent. The answer is
taken from the row that carries our key, and only if the row parses, its token counts are counts and
the request that it echoes is not certainly another one; otherwise the line says what is wrong.

Most lines were found good when their row was read; those are put together from three places without
parsing anything again. The others are looked at with care.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Final

import msgspec

from penstock.core.job import Counts
from penstock.core.line import Judgement, LineOutcome, echo_differs, judge, status_text
from penstock.fault import fault
from penstock.lifecycle.behind import Behind
from penstock.lifecycle.rows import (
    ANSWERED,
    CONFLICTING,
    ENCODER,
    MEMBERS,
    NO_ROW,
    ROW,
    UNDECODABLE,
    UNREADABLE,
    Lines,
    Row,
    processed_time,
)
from penstock.lifecycle.shards import Shards
from penstock.lifecycle.totals import Totals

WRITE_BYTES: Final = 1024 * 1024
BLOCK_BYTES_AHEAD: Final = 4 * WRITE_BYTES
"""A larger block is written before the next is made; only huge lines make such blocks."""
_EMPTY_OBJECT: Final = msgspec.Raw(b"{}")

_BEGIN_GOOD: Final = b'{"status":"","processed_time":'
_REQUEST: Final = b',"request":'
_RESPONSE: Final = b',"response":'
_END: Final = b"}\n"

Pieces = list[bytes | memoryview | msgspec.Raw]
Answer = tuple[Judgement, msgspec.Raw, object]


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """Why lines without a row have none: the job's end explains it."""

    code: str
    message: str


class Merged(msgspec.Struct, frozen=True, kw_only=True):
    """What was written."""

    counts: Counts
    cost_micro_dollars: int | None
    output_bytes: int
    output_sha256: str


class Merge:
    """One pass over the input that writes the output and adds up its lines."""

    def __init__(self, shards: Shards, totals: Totals, missing: Missing, now: float) -> None:
        self._shards = shards
        self._totals = totals
        self._missing = missing
        self._now = datetime.fromtimestamp(now, UTC).isoformat().replace("+00:00", "Z")

    def write(self, lines: Lines, scratch: int, write: Callable[[bytes], object]) -> Merged:
        """Read the input, write the output in blocks, return the sums. Blocks the thread.

        `write` is called in another thread, one call at a time, and never after the return.
        """
        digest = hashlib.sha256()
        size = 0
        with ExitStack() as stack:
            writing = stack.enter_context(Behind("penstock-merge-write"))
            hashing = stack.enter_context(Behind("penstock-merge-hash"))
            for block in self._blocks(lines, scratch):
                writing.do(write, block)
                fault("collect.half_merged")
                hashing.do(digest.update, block)
                size += len(block)
                if len(block) > BLOCK_BYTES_AHEAD:
                    writing.wait()
                    hashing.wait()
            writing.wait()
            hashing.wait()
        return Merged(
            counts=self._totals.counts(),
            cost_micro_dollars=self._totals.micro_dollars(),
            output_bytes=size,
            output_sha256=digest.hexdigest(),
        )

    def _blocks(self, lines: Lines, scratch: int) -> Iterator[bytes]:
        pieces: Pieces = []
        size = 0
        pread, now = os.pread, ENCODER.encode(self._now)
        both = zip(self._shards.records(), lines, strict=True)
        for number, (record, line) in enumerate(both, start=1):
            _, flag, time_bytes, _, offset, at, length, time = record
            if flag == ANSWERED:
                pieces += (
                    _BEGIN_GOOD,
                    time[:time_bytes] or now,
                    b",",
                    line[1:-1],
                    _RESPONSE,
                    pread(scratch, length, offset + at),
                    _END,
                )
                size += len(line) + length
            else:
                size += self._line(number, flag, line, pieces)
            if size >= WRITE_BYTES:
                yield b"".join(pieces)
                pieces.clear()
                size = 0
        if pieces:
            yield b"".join(pieces)

    def _line(self, number: int, flag: int, line: memoryview, pieces: Pieces) -> int:
        """Append the pieces of an output line; return their size."""
        own = MEMBERS.decode(bytes(line))
        request = own.pop("request")
        judgement, response, time = self._answer(number, flag, bytes(request))
        self._totals.add(judgement)
        times = processed_time(time) or ENCODER.encode(self._now)
        head = ENCODER.encode(
            {"status": judgement.status, "processed_time": msgspec.Raw(times), **own}
        )
        pieces += (head[:-1], _REQUEST, request, _RESPONSE, response, _END)
        return len(line) + len(memoryview(response))

    def _answer(self, number: int, flag: int, request: bytes) -> Answer:
        if flag == NO_ROW:
            return self._without(LineOutcome.MISSING, self._missing.code, self._missing.message)
        if flag == CONFLICTING:
            return self._error(
                "duplicate_row", "The provider gave two different answers for this line."
            )
        if flag == UNREADABLE:
            return self._error("corrupt_row", "The provider's row for this line is unreadable.")
        return self._with_care(self._shards.row(number), request)

    def _with_care(self, found: bytes, request: bytes) -> Answer:
        try:
            row = ROW.decode(found)
            response = msgspec.json.decode(row.response)
        except UNDECODABLE:
            return self._error("corrupt_row", "The provider's row for this line is unreadable.")
        return self._of_row(row, response, request)

    def _of_row(self, row: Row, response: object, request: bytes) -> Answer:
        judgement = judge(row.status, response)
        if judgement.status:
            return judgement, _EMPTY_OBJECT, row.processed_time
        if echo_differs(request, bytes(row.request)):
            return self._error(
                "integrity_mismatch", "The provider's row answers another request than this line's."
            )
        return judgement, row.response, row.processed_time

    def _error(self, code: str, message: str) -> Answer:
        return self._without(LineOutcome.ERROR, code, message)

    def _without(self, outcome: LineOutcome, code: str, message: str) -> Answer:
        judgement = Judgement(outcome=outcome, status=status_text(code, message))
        return judgement, _EMPTY_OBJECT, None
