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
    Judgement,
    LineOutcome,
    Usage,
    echo_differs,
    judge,
    status_text,
)
from penstock.core.models import Price, cost_pico_dollars
from penstock.core.money import micro_from_pico
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
_TIME_CHARS_MAX: Final = 40
_EMPTY_OBJECT: Final = msgspec.Raw(b"{}")

_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENCODER: Final = msgspec.json.Encoder()


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

    def __init__(self, shards: Shards, price: Price | None, missing: Missing, now: float) -> None:
        self._shards = shards
        self._price = price
        self._missing = missing
        self._now = datetime.fromtimestamp(now, UTC).isoformat().replace("+00:00", "Z")
        self._outcomes = dict.fromkeys(LineOutcome, 0)
        self._tokens = [0, 0, 0, 0]
        self._pico = 0

    def write(self, input_path: Path, index_path: Path, write: Callable[[bytes], object]) -> Merged:
        """Read the input, write the output in blocks, return the sums. Blocks the thread."""
        digest = hashlib.sha256()
        size = 0
        for block in self._blocks(read_lines(input_path, index_path)):
            write(block)
            digest.update(block)
            size += len(block)
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
        block = bytearray()
        for number, line in enumerate(lines, start=1):
            _ENCODER.encode_into(self._line(number, line), block, -1)
            block += b"\n"
            if len(block) >= WRITE_BYTES:
                yield bytes(block)
                block.clear()
        if block:
            yield bytes(block)

    def _line(self, number: int, line: bytes) -> dict[str, Any]:
        members = _MEMBERS.decode(line)
        request = members.pop("request")
        judgement, response, processed_time = self._answer(number, bytes(request))
        self._add(judgement)
        return {
            "status": judgement.status,
            "processed_time": processed_time,
            **members,
            "request": request,
            "response": response,
        }

    def _answer(self, number: int, request: bytes) -> tuple[Judgement, msgspec.Raw, str]:
        flag = self._shards.flag(number)
        if flag == NO_ROW:
            return self._without(LineOutcome.MISSING, self._missing.code, self._missing.message)
        if flag == CONFLICTING:
            return self._error(
                "duplicate_row", "The provider gave two different answers for this line."
            )
        if flag == UNREADABLE:
            return self._error("corrupt_row", "The provider's row for this line is unreadable.")
        try:
            row = ROW.decode(self._shards.row(number))
            response = msgspec.json.decode(row.response)
        except UNDECODABLE:
            return self._error("corrupt_row", "The provider's row for this line is unreadable.")
        return self._of_row(row, response, request)

    def _of_row(
        self, row: Row, response: object, request: bytes
    ) -> tuple[Judgement, msgspec.Raw, str]:
        judgement = judge(row.status, response)
        if judgement.status:
            return judgement, _EMPTY_OBJECT, self._time(row)
        if echo_differs(request, bytes(row.request)):
            return self._error(
                "integrity_mismatch", "The provider's row answers another request than this line's."
            )
        return judgement, row.response, self._time(row)

    def _error(self, code: str, message: str) -> tuple[Judgement, msgspec.Raw, str]:
        return self._without(LineOutcome.ERROR, code, message)

    def _without(
        self, outcome: LineOutcome, code: str, message: str
    ) -> tuple[Judgement, msgspec.Raw, str]:
        judgement = Judgement(outcome=outcome, status=status_text(code, message))
        return judgement, _EMPTY_OBJECT, self._now

    def _time(self, row: Row) -> str:
        time = row.processed_time
        return time if isinstance(time, str) and len(time) <= _TIME_CHARS_MAX else self._now

    def _add(self, judgement: Judgement) -> None:
        self._outcomes[judgement.outcome] += 1
        usage: Usage = judgement.usage
        for place, count in enumerate(
            (
                usage.prompt_tokens,
                usage.candidates_tokens,
                usage.thoughts_tokens,
                usage.cached_tokens,
            )
        ):
            self._tokens[place] += count
        if self._price is not None:
            self._pico += cost_pico_dollars(self._price, usage)
