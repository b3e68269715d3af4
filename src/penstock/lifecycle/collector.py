"""What reads a job's rows and puts its output together; here, or in processes of their own.

A process of its own keeps the interpreter of the API free, and two of them use two cores. It is
told over a pipe what to do and ends with that pipe, so it outlives its server by no more than the
order that it works on. It needs no credentials and opens no path: all that it reads and writes are
descriptors, and what it writes are files that a restart of the server removes.
"""

import heapq
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from operator import itemgetter
from struct import Struct
from typing import IO, Final

import msgspec

from penstock.core.line import LineKey
from penstock.core.models import Price
from penstock.core.options import Selection
from penstock.errors import Problem, StorageFull
from penstock.lifecycle.disk import write_all
from penstock.lifecycle.inflow import Segment
from penstock.lifecycle.kept import Kept
from penstock.lifecycle.merge import Merge, Merged, Missing
from penstock.lifecycle.rows import Ending, Lines, Reader
from penstock.lifecycle.sent import Base, Sent, what_was_sent
from penstock.lifecycle.shards import Shards
from penstock.lifecycle.stripes import Splicer, Stripes, help_with
from penstock.lifecycle.totals import Sums, Totals

_HEAD: Final = Struct("<II")
"""Before the records of a segment in a file of records: the segment's number, their size."""

NICE: Final = 2
"""How far the processes stand back when the API wants the core, too; alone they have all of it."""

Advise = Callable[[int, int, int, int], None]
_ADVISE: Final[Advise | None] = getattr(os, "posix_fadvise", None)
_WILL_NEED: Final = 3
"""POSIX_FADV_WILLNEED, which not every system knows."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same for all of a job; the files are descriptors."""

    tag: str
    price: Price | None
    round: int
    first_line: int
    """Of the input; a shard has some of its lines."""
    last_line: int
    rows: list[int]
    """Where they come in; see `Inflow`."""
    kept: int
    """Where that goes which is still needed of them."""
    input: int
    index: int
    twins: int | None = None
    base_output: int | None = None
    """What the round before wrote, and the row index of it."""
    base_index: int | None = None
    selection: Selection | None = None
    """Which of its lines were sent again."""
    problems: dict[int, Problem] = {}
    """Of lines that were put aside; there are few."""

    @property
    def files(self) -> list[int]:
        """All of its descriptors."""
        more = (self.twins, self.base_output, self.base_index)
        given = (one for one in more if one is not None)
        return [*self.rows, self.kept, self.input, self.index, *given]


class Numbered(msgspec.Struct, frozen=True, tag=True):
    """Rows to be read by one of the processes, which are all told of all segments, in order."""

    number: int
    segment: Segment


class Mark(msgspec.Struct, frozen=True, tag=True):
    """Say when you have come so far."""


class Marked(msgspec.Struct, frozen=True, tag=True):
    """All segments up to a mark were read by this process, or left to others.

    Once all have said so, all were read: who has taken a segment does not pass it.
    """


class Pause(msgspec.Struct, frozen=True, tag=True):
    """Say what was read so far."""


class Read(msgspec.Struct, frozen=True, tag=True):
    """What a process read beside its records."""

    sums: Sums
    strangers: int
    endings: dict[int, Ending]
    """The classes of answers that it met."""


class Conclude(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """All rows are read; put the output together."""

    missing: Missing
    now: float
    only_with_rows: bool
    """Write nothing if no line has a row."""
    reads: list[Read] = []
    """What all processes said at their pause."""


class Collected(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What became of the rows."""

    duplicates: int
    strangers: int
    merged: Merged | None
    """None if nothing was written."""


class Full(msgspec.Struct, frozen=True, tag=True):
    """The disk did not take what was to be written."""

    message: str


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """The first thing that a process is told."""

    task: Task
    output: int
    output_index: int
    """Where the row index of the output goes."""
    found: list[int]
    """One file of records per process."""
    turns: int
    """An empty file whose position all have in common: the next segment that nobody took."""
    mine: int = 0
    """Which of the files of records is this process's own."""
    others: list[int] = []
    """Sockets; the first process has one to each of the others, and they have one to it."""

    @property
    def files(self) -> list[int]:
        """All descriptors but those of the sockets."""
        return [*self.task.files, self.output, self.output_index, *self.found, self.turns]


Order = Numbered | Mark | Pause | Conclude
Answer = Marked | Read | Collected | Full
SETUP: Final = msgspec.json.Decoder(Setup)
ORDER: Final = msgspec.json.Decoder(Order)
ANSWER: Final = msgspec.json.Decoder(Answer)


class Collector:
    """Reads rows and concludes."""

    def __init__(self, task: Task, mine: int = 0) -> None:
        """Take the number of this process among those that read rows."""
        self._task = task
        self._kept = Kept(task.kept)
        self._totals = Totals(task.price)
        self._sent = sent_of(task)
        self.lines = self._sent.lines
        self._reader = Reader(
            LineKey(task.tag),
            self.lines,
            self._totals,
            flags=self._sent.flags,
            mine=mine,
        )

    def read(self, segment: Segment) -> bytes:
        """Return the records of a segment; nothing of it is read again."""
        rows = os.pread(self._task.rows[segment.file], segment.size, segment.offset)
        records, kept = self._reader.read(rows, self._kept.room(len(rows)))
        self._kept.put(kept)
        return records

    def splicer(self, output: int) -> Splicer:
        """Return what puts lines together, and writes them there."""
        return Splicer(self.lines, self._task.kept, output)

    def so_far(self) -> Read:
        """Return what was read beside the records."""
        return Read(self._totals.sums, self._reader.strangers, self._reader.endings)

    def conclude(
        self,
        told: Conclude,
        records: Iterable[bytes],
        write: Callable[[bytes], object] | Stripes,
        write_index: Callable[[bytes], object],
    ) -> Collected:
        """Put the records in their places, write the output and its row index."""
        totals = Totals(self._task.price)
        strangers = 0
        endings: dict[int, Ending] = {}
        for read in told.reads:
            totals.join(read.sums)
            strangers += read.strangers
            endings |= read.endings
        shards = Shards(self._task.kept, self._sent, totals, endings)
        for some in records:
            shards.put(some)
        merged = None
        if shards.rows or not told.only_with_rows:
            merge = Merge(shards, totals, told.missing, told.now, self._task.round)
            if isinstance(write, Stripes):
                merged = merge.write_stripes(write)
            else:
                merged = merge.write(write)
            for piece in merge.index.pieces():
                write_index(piece)
        return Collected(duplicates=shards.duplicates, strangers=strangers, merged=merged)


def sent_of(task: Task) -> Sent:
    """Return what is known of the lines before any row."""
    lines = Lines(task.input, task.index, range(task.first_line, task.last_line + 1))
    base = None
    if task.base_output is not None and task.base_index is not None:
        base = Base(task.base_output, task.base_index, lines.numbers)
    return what_was_sent(
        lines,
        twins=task.twins,
        problems=task.problems,
        base=base,
        selection=task.selection,
    )


def main() -> None:
    """Be a process that collects; see `serve`."""
    os.nice(NICE)
    serve(sys.stdin.buffer, sys.stdout.buffer)


def serve(orders: IO[bytes], answers: IO[bytes]) -> None:
    """Do what the orders say, one JSON object a line, until they end."""
    setup = SETUP.decode(orders.readline())
    collector = Collector(setup.task, setup.mine)
    found = setup.found[setup.mine]
    if setup.mine == len(setup.found) - 1:
        # Not the first, which can begin to read rows meanwhile.
        read_ahead(setup.task.input, *collector.lines.span())
    turn = take_turn(setup.turns)
    for line in orders:
        order = ORDER.decode(line)
        try:
            if isinstance(order, Numbered):
                if order.number == turn:
                    records = collector.read(order.segment)
                    write_all(found, _HEAD.pack(order.number, len(records)) + records)
                    turn = take_turn(setup.turns)
                continue
            answer: Answer = _answer(collector, order, setup)
        except StorageFull as error:
            answer = Full(error.message)
        answers.write(msgspec.json.encode(answer) + b"\n")
        answers.flush()
        if setup.mine and setup.others and isinstance(order, Pause):
            help_with(setup.others[0], collector.splicer(setup.output))


def _answer(collector: Collector, order: Mark | Pause | Conclude, setup: Setup) -> Answer:
    if isinstance(order, Mark):
        return Marked()
    if isinstance(order, Pause):
        return collector.so_far()
    numbered = heapq.merge(*(_records(found) for found in setup.found), key=itemgetter(0))
    splicer = collector.splicer(setup.output)
    with closing(Stripes(splicer, setup.output, setup.others)) as stripes:
        return collector.conclude(
            order,
            (records for _, records in numbered),
            stripes,
            partial(write_all, setup.output_index),
        )


def _records(found: int) -> Iterator[tuple[int, bytes]]:
    """Yield what a process found: the number of a segment, and its records."""
    at = 0
    while head := os.pread(found, _HEAD.size, at):
        number, size = _HEAD.unpack(head)
        yield number, os.pread(found, size, at + _HEAD.size)
        at += _HEAD.size + size


def take_turn(turns: int) -> int:
    """Return the number of a segment that no other process takes.

    The system moves the position of a shared file for one process at a time. Were segments dealt
    out beforehand, one process would be done before the other and wait.
    """
    return os.lseek(turns, 1, os.SEEK_CUR) - 1


def read_ahead(descriptor: int, offset: int, size: int, advise: Advise | None = _ADVISE) -> None:
    """Have the system read a part of a file, in its order; rows then ask for its lines in any.

    A line that is not in memory costs a read of its own, 0.1 ms on a fast disk.
    """
    if advise is not None:
        advise(descriptor, offset, size, _WILL_NEED)
