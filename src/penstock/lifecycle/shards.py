"""What is known of every line of a job, whatever order its rows came in.

`rows` reads them, in any process; here their records are put in their places, 64 bytes a line. No
answer stays in memory.
"""

import os
from collections.abc import Iterator, Mapping
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
    ROW,
    Ending,
    Record,
)
from penstock.lifecycle.sent import Sent
from penstock.lifecycle.totals import Totals

_NUMBER: Final = Struct(f"<I{RECORD.size - 4}x")


class Shards:
    """What is known of every line of one job."""

    def __init__(
        self, kept: int, sent: Sent, totals: Totals, endings: Mapping[int, Ending]
    ) -> None:
        """Take the file of what was kept of the rows, and the classes that their readers met."""
        self._kept = kept
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
        """Take what was read of some rows; they come in the order of their arrival."""
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

    def kept(self, record: Record) -> bytes:
        """Return what was kept of a line's row: its response if it is answered, else all of it."""
        _, _, _, _, offset, size, *_ = record
        return os.pread(self._kept, size, offset)

    def judgement(self, record: Record) -> Judgement:
        """Return the judgement of a good answer, as it was when it was counted."""
        # It was judged so when it was counted, and bytes do not change.
        found = cast(Judgement, judge_answer(self.kept(record)))
        return msgspec.structs.replace(found, outcome=self.endings[record[3]].outcome)

    def _again(self, place: int, record: bytes) -> None:
        """A second row is harmless only if it gives the same answer; else neither is proven."""
        first = cast(Record, RECORD.unpack_from(self._records, place))
        second = cast(Record, RECORD.unpack(record))
        self._take_back(second)
        if self._says_the_same(first, second):
            self.duplicates += 1
            return
        self._take_back(first)
        self._records[place + FLAG] = CONFLICTING

    def _place(self, number: int) -> int:
        return (number - self._first) * RECORD.size

    def _says_the_same(self, first: Record, second: Record) -> bool:
        readable = {ONE_ROW, ANSWERED}
        return (
            first[1] in readable
            and second[1] in readable
            and self._answer(first) == self._answer(second)
        )

    def _answer(self, record: Record) -> tuple[object, bytes]:
        """Return what makes two rows of a line say the same: the status, and the response."""
        kept = self.kept(record)
        if record[1] == ANSWERED:
            return "", kept
        row = ROW.decode(kept)
        return row.status, bytes(row.response)

    def _take_back(self, record: Record) -> None:
        """Uncount a row that was counted as an answer and is not delivered."""
        if record[1] == ANSWERED:
            self._totals.add(self.judgement(record), -1)
