"""The provider's output on its way in, and what is known of every line of it, in any order.

The shards are copied to one scratch file as they arrive; nothing is looked for in them but line
ends, where they are cut into segments of whole rows. `rows` reads the segments, in any process;
here their records are put in their places, 72 bytes a line. No answer stays in memory.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from struct import Struct
from typing import Final, cast

import msgspec

from penstock.core.line import Judgement, judge_answer
from penstock.lifecycle.rows import (
    ANSWERED,
    CONFLICTING,
    FLAG,
    NO_ROW,
    ONE_ROW,
    RECORD,
    Ending,
    Record,
    answer_of,
)
from penstock.lifecycle.sent import Sent
from penstock.lifecycle.totals import Totals

ROW_BYTES_MAX: Final = 128 * 1024 * 1024
"""One row of the provider: the echo of a 64 MiB line and images of some megabytes fit."""

SEGMENT_BYTES: Final = 1024 * 1024
"""A segment ends at the first row that ends beyond this."""

_NUMBER: Final = Struct(f"<I{RECORD.size - 4}x")


class Segment(msgspec.Struct, frozen=True, array_like=True):
    """Whole rows of one shard: a place in the scratch file."""

    offset: int
    size: int


class Inflow:
    """Takes the shards block by block and says which rows are whole."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        """Take what appends to the scratch file; both block, so they are used from a thread."""
        self._write = write
        self._row = 0
        """Where the row begins whose end is still to come."""
        self._begin = 0
        """Where the next segment begins."""
        self._skipping = False
        self.size = 0
        """Bytes in the scratch file."""
        self.too_long = 0
        """Rows beyond `ROW_BYTES_MAX`; they count as nobody's."""

    def feed(self, block: bytes) -> list[Segment]:
        """Take the next bytes of the current shard, cut anywhere; return what became whole."""
        end = block.find(b"\n") if self._skipping else 0
        if end < 0:
            return []
        base = self.size
        self._write(block)
        self.size += len(block)
        if self._skipping:
            self._skip(base + end + 1)
        last = block.rfind(b"\n")
        if last >= 0:
            self._row = max(self._row, base + last + 1)
        if self.size - self._row > ROW_BYTES_MAX:
            self._skipping = True
            return self._cut(self._row)
        return self._cut(self._row) if self._row - self._begin >= SEGMENT_BYTES else []

    def end_shard(self) -> list[Segment]:
        """Take the last row of a shard, which may lack its newline."""
        if self._skipping:
            self._skip(self.size)
        self._row = self.size
        return self._cut(self.size)

    def _skip(self, end: int) -> None:
        """Leave out the row that was too long and ends here."""
        self._skipping = False
        self.too_long += 1
        self._row = self._begin = end

    def _cut(self, end: int) -> list[Segment]:
        begin, self._begin = self._begin, end
        return [Segment(begin, end - begin)] if end > begin else []


class Shards:
    """What is known of every line of one job."""

    def __init__(
        self, scratch: int, sent: Sent, totals: Totals, endings: Mapping[int, Ending]
    ) -> None:
        """Take the descriptor of the scratch file, and the classes that its readers met."""
        self.scratch = scratch
        self.sent = sent
        self._totals = totals
        self._first = sent.lines.numbers.start
        self.endings = endings
        self._records = bytearray(RECORD.size * sent.lines.count)
        if sent.flags is not None:
            self._records[FLAG :: RECORD.size] = sent.flags
        self.rows = 0
        """Lines that have at least one row."""
        self.duplicates = 0
        """Further rows of a line that say the same; harmless, and reported."""

    def put(self, records: bytes) -> None:
        """Take what was read of some rows; rows come in the order of the scratch file."""
        known, size = self._records, RECORD.size
        start = 0
        for (number,) in _NUMBER.iter_unpack(records):
            place = (number - self._first) * size
            record = records[start : start + size]
            start += size
            if known[place + FLAG] == NO_ROW:
                known[place : place + size] = record
                self.rows += 1
            else:
                self._again(place, record)

    def records(self) -> Iterator[Record]:
        """Yield what is known of each line in order, as `RECORD` says it."""
        return RECORD.iter_unpack(self._records)

    def stripes(self, lines: int) -> Iterator[tuple[int, bytes]]:
        """Yield the same for so many lines at a time: the number of the first, their records."""
        size = lines * RECORD.size
        for at in range(0, len(self._records), size):
            yield self._first + at // RECORD.size, bytes(self._records[at : at + size])

    def flag(self, number: int) -> int:
        """Return what is known of the line, as one of the flags of `rows`."""
        return self._records[self._place(number) + FLAG]

    def record(self, number: int) -> Record:
        """Return what is known of the line, as `RECORD` says it."""
        return cast(Record, RECORD.unpack_from(self._records, self._place(number)))

    def row(self, number: int) -> bytes:
        """Return the bytes of the line's row."""
        start = self._place(number)
        return self._row(self._records[start : start + RECORD.size])

    def judgement(self, record: Record) -> Judgement:
        """Return the judgement of a good answer, as it was when it was counted."""
        _, _, _, ending, _, offset, at, length, *_ = record
        response = os.pread(self.scratch, length, offset + at)
        # It was judged so when it was counted, and bytes do not change.
        found = cast(Judgement, judge_answer(response))
        return msgspec.structs.replace(found, outcome=self.endings[ending].outcome)

    def _again(self, place: int, record: bytes) -> None:
        """A second row is harmless only if it gives the same answer; else neither is proven."""
        first = self._records[place : place + RECORD.size]
        self._take_back(record)
        if self._says_the_same(first, record):
            self.duplicates += 1
            return
        self._take_back(first)
        self._records[place + FLAG] = CONFLICTING

    def _place(self, number: int) -> int:
        return (number - self._first) * RECORD.size

    def _says_the_same(self, first: bytes | bytearray, second: bytes) -> bool:
        readable = {ONE_ROW, ANSWERED}
        return (
            first[FLAG] in readable
            and second[FLAG] in readable
            and answer_of(self._row(first)) == answer_of(self._row(second))
        )

    def _take_back(self, record: bytes | bytearray) -> None:
        """Uncount a row that was counted as an answer and is not delivered."""
        if record[FLAG] == ANSWERED:
            self._totals.add(self.judgement(cast(Record, RECORD.unpack(record))), -1)

    def _row(self, record: bytes | bytearray) -> bytes:
        _, _, _, _, length, offset, *_ = RECORD.unpack(record)
        return os.pread(self.scratch, length, offset)
