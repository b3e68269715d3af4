"""Write the output: line k answers line k, always as many lines as the input has.

The caller's own members and its request go back byte for byte as they were sent. The answer is
taken from the row that carries our key, and only if the row parses, its token counts are counts and
the request that it echoes is not certainly another one; otherwise the line says what is wrong.
"""

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from penstock.core.job import Counts
from penstock.core.line import (
    ECHO,
    Echo,
    Judgement,
    LineOutcome,
    echo_differs,
    judge,
    judge_answer,
    status_text,
)
from penstock.core.models import Price, cost_pico_dollars
from penstock.core.money import micro_from_pico
from penstock.lifecycle.behind import Behind
from penstock.lifecycle.prepare import read_lines
from penstock.lifecycle.shards import (
    CONFLICTING,
    NO_ROW,
    ROW,
    UNDECODABLE,
    UNREADABLE,
    Row,
    Shards,
)

WRITE_BYTES: Final = 1024 * 1024
BLOCK_BYTES_AHEAD: Final = 4 * WRITE_BYTES
"""A larger block is written before the next is made; only huge lines make such blocks."""
_TIME_CHARS_MAX: Final = 40
_EMPTY_OBJECT: Final = msgspec.Raw(b"{}")

_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENCODER: Final = msgspec.json.Encoder()
_REQUEST: Final = b',"request":'
_RESPONSE: Final = b',"response":'
_END: Final = b"}\n"


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


class _GoodRow(msgspec.Struct, gc=False):
    """A row like nearly all: what is skipped here was read when the row was found."""

    request: Echo
    response: msgspec.Raw
    status: Any = ""
    processed_time: Any = None


_GOOD_ROW: Final = msgspec.json.Decoder(_GoodRow)

Answer = tuple[Judgement, msgspec.Raw, str]


class Merge:
    """One pass over the input that writes the output and adds up its lines."""

    def __init__(self, shards: Shards, price: Price | None, missing: Missing, now: float) -> None:
        self._shards = shards
        self._price = price
        self._missing = missing
        self._now = datetime.fromtimestamp(now, UTC).isoformat().replace("+00:00", "Z")
        self._outcomes = dict.fromkeys(LineOutcome, 0)
        self._tokens = [0, 0, 0, 0]
        self._pico = 0

    def write(self, input_path: Path, index_path: Path, write: Callable[[bytes], object]) -> Merged:
        """Read the input, write the output in blocks, return the sums. Blocks the thread.

        `write` is called in another thread, one call at a time, and never after the return.
        """
        digest = hashlib.sha256()
        size = 0

        def out(block: bytes) -> None:
            write(block)
            digest.update(block)

        with Behind("penstock-merge") as behind:
            for block in self._blocks(read_lines(input_path, index_path)):
                behind.do(out, block)
                size += len(block)
                if len(block) > BLOCK_BYTES_AHEAD:
                    behind.wait()
            behind.wait()
        prompt, candidates, thoughts, cached = self._tokens
        return Merged(
            counts=Counts(
                prompt_tokens=prompt,
                candidates_tokens=candidates,
                thoughts_tokens=thoughts,
                cached_tokens=cached,
                **{outcome.value: count for outcome, count in self._outcomes.items()},
            ),
            cost_micro_dollars=None if self._price is None else micro_from_pico(self._pico),
            output_bytes=size,
            output_sha256=digest.hexdigest(),
        )

    def _blocks(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        pieces: list[bytes | msgspec.Raw] = []
        size = 0
        for number, line in enumerate(lines, start=1):
            size += self._line(number, line, pieces)
            if size >= WRITE_BYTES:
                yield b"".join(pieces)
                pieces.clear()
                size = 0
        if pieces:
            yield b"".join(pieces)

    def _line(self, number: int, line: bytes, pieces: list[bytes | msgspec.Raw]) -> int:
        """Append the pieces of an output line; return their size."""
        own = _MEMBERS.decode(line)
        request = own.pop("request")
        judgement, response, processed_time = self._answer(number, request)
        self._add(judgement)
        head = _ENCODER.encode(
            {"status": judgement.status, "processed_time": processed_time, **own}
        )
        pieces += (head[:-1], _REQUEST, request, _RESPONSE, response, _END)
        return len(line) + len(memoryview(response))

    def _answer(self, number: int, request: msgspec.Raw) -> Answer:
        flag = self._shards.flag(number)
        if flag == NO_ROW:
            return self._without(LineOutcome.MISSING, self._missing.code, self._missing.message)
        if flag == CONFLICTING:
            return self._error(
                "duplicate_row", "The provider gave two different answers for this line."
            )
        if flag == UNREADABLE:
            return self._error("corrupt_row", "The provider's row for this line is unreadable.")
        found = self._shards.row(number)
        return self._at_once(found, request) or self._with_care(found, request)

    def _at_once(self, found: bytes, request: msgspec.Raw) -> Answer | None:
        """Return the answer of a row that is good beyond doubt: the same that care would give."""
        try:
            row = _GOOD_ROW.decode(found)
            ours = ECHO.decode(request)
        except UNDECODABLE:
            return None
        if row.status != "" or ours != row.request:
            return None
        judgement = judge_answer(row.response)
        return None if judgement is None else (judgement, row.response, self._time(row))

    def _with_care(self, found: bytes, request: msgspec.Raw) -> Answer:
        try:
            row = ROW.decode(found)
            response = msgspec.json.decode(row.response)
        except UNDECODABLE:
            return self._error("corrupt_row", "The provider's row for this line is unreadable.")
        return self._of_row(row, response, bytes(request))

    def _of_row(self, row: Row, response: object, request: bytes) -> Answer:
        judgement = judge(row.status, response)
        if judgement.status:
            return judgement, _EMPTY_OBJECT, self._time(row)
        if echo_differs(request, bytes(row.request)):
            return self._error(
                "integrity_mismatch", "The provider's row answers another request than this line's."
            )
        return judgement, row.response, self._time(row)

    def _error(self, code: str, message: str) -> Answer:
        return self._without(LineOutcome.ERROR, code, message)

    def _without(self, outcome: LineOutcome, code: str, message: str) -> Answer:
        judgement = Judgement(outcome=outcome, status=status_text(code, message))
        return judgement, _EMPTY_OBJECT, self._now

    def _time(self, row: Row | _GoodRow) -> str:
        time = row.processed_time
        return time if isinstance(time, str) and len(time) <= _TIME_CHARS_MAX else self._now

    def _add(self, judgement: Judgement) -> None:
        self._outcomes[judgement.outcome] += 1
        usage = judgement.usage
        tokens = self._tokens
        tokens[0] += usage.prompt_tokens
        tokens[1] += usage.candidates_tokens
        tokens[2] += usage.thoughts_tokens
        tokens[3] += usage.cached_tokens
        if self._price is not None:
            self._pico += cost_pico_dollars(self._price, usage)
