"""What is known of every line of a job, whatever order its rows came in.

`rows` reads them, in any process; here each line is told where its record stands, 68 bytes a line.
No answer stays in memory.
"""

import os
from array import array
from collections.abc import Iterator, Mapping
from typing import Final, cast

import msgspec

from penstock.core.line import Judgement, judge_answer
from penstock.lifecycle.rows import (
    ANSWERED,
    CONFLICTING,
    FLAG,
    KEPT,
    ONE_ROW,
    RECORD,
    ROW,
    Ending,
    Record,
    numbers_of,
)
from penstock.lifecycle.sent import Sent
from penstock.lifecycle.totals import Totals

_BLANKS: Final = b"".join(RECORD.pack(0, flag, 0, 0, 0, 0, 0, b"") for flag in range(KEPT + 1))
"""The records of lines of which only the flag is known, in the order of the flags."""


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
        self._records = bytearray(len(_BLANKS) + RECORD.size * sent.lines.count)
        """The blanks, then the lines' records as they come: to sort them would move each once
        more. All of it is taken at once, as memory that grows is copied and leaves holes."""
        self._records[: len(_BLANKS)] = _BLANKS
        self._end = len(_BLANKS)
        flags = bytes(sent.lines.count) if sent.flags is None else sent.flags
        self._places = array("I", [flag * RECORD.size for flag in flags])
        """Where among them each line's record stands. The first blank says `NO_ROW`."""
        self.duplicates = 0
        """Further rows of a line that say the same; harmless, and reported."""

    @property
    def rows(self) -> int:
        """Lines that have at least one row."""
        return (self._end - len(_BLANKS)) // RECORD.size

    def put(self, records: bytes) -> None:
        """Take what was read of some rows; they come in the order of their arrival."""
        places, first, size = self._places, self._first, RECORD.size
        again: list[int] = []
        end = self._end
        for nth, number in enumerate(numbers_of(records)):
            if places[number - first]:
                again.append(nth)
            else:
                places[number - first] = end
                end += size
        further: list[bytes] = []
        if again:
            firsts = [records[at : at + size] for at in range(0, len(records), size)]
            further = [firsts.pop(nth) for nth in reversed(again)]
            records = b"".join(firsts)
        self._records[self._end : end] = records
        self._end = end
        for record in reversed(further):
            self._again(record)

    def records(self) -> Iterator[Record]:
        """Yield what is known of each line in order, as `RECORD` says it."""
        for place in self._places:
            yield cast(Record, RECORD.unpack_from(self._records, place))

    def stripes(self, lines: int) -> Iterator[tuple[int, bytes]]:
        """Yield the same for so many lines at a time: the number of the first, their records."""
        known, size = memoryview(self._records), RECORD.size
        for at in range(0, len(self._places), lines):
            places = self._places[at : at + lines]
            yield self._first + at, b"".join([known[place : place + size] for place in places])

    def flag(self, number: int) -> int:
        """Return what is known of the line, as one of the flags of `rows`."""
        return self._records[self._places[number - self._first] + FLAG]

    def record(self, number: int) -> Record:
        """Return what is known of the line, as `RECORD` says it."""
        place = self._places[number - self._first]
        return cast(Record, RECORD.unpack_from(self._records, place))

    def kept(self, record: Record) -> bytes:
        """Return what was kept of a line's row: its response if it is answered, else all of it."""
        _, _, _, _, offset, size, *_ = record
        return os.pread(self._kept, size, offset)

    def judgement(self, record: Record) -> Judgement:
        """Return the judgement of a good answer, as it was when it was counted."""
        # It was judged so when it was counted, and bytes do not change.
        found = cast(Judgement, judge_answer(self.kept(record)))
        return msgspec.structs.replace(found, outcome=self.endings[record[3]].outcome)

    def _again(self, record: bytes) -> None:
        """A second row is harmless only if it gives the same answer; else neither is proven."""
        second = cast(Record, RECORD.unpack(record))
        number, *_ = second
        first = self.record(number)
        self._take_back(second)
        if self._says_the_same(first, second):
            self.duplicates += 1
            return
        self._take_back(first)
        self._places[number - self._first] = CONFLICTING * RECORD.size

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
