"""Which lines of a job were sent, and what the others get: another's answer, or what they had."""

import os
from collections.abc import Mapping, Sequence

import msgspec

from penstock.core.line import ANSWERED_OUTCOMES
from penstock.core.line_index import Columns, LineIndex
from penstock.core.options import Selection
from penstock.errors import BlobCorrupt, Problem
from penstock.lifecycle.rows import KEPT, NO_ROW, PUT_ASIDE, TWIN_LINE, Lines
from penstock.lifecycle.selection import selected_lines
from penstock.lifecycle.twins import NUMBER_BYTES, unpack_leaders


class Base:
    """The output of the round before, and its row index."""

    def __init__(self, output: int, index: int, numbers: range) -> None:
        """Take descriptors, both of all lines, and the numbers of those that are wanted."""
        self._output = output
        self.index = LineIndex(lambda offset, size: os.pread(index, size, offset))
        if numbers.stop - 1 > self.index.line_count:
            raise BlobCorrupt("The row index of the round before has too few lines.")
        self.columns: Columns = self.index.columns(numbers.start, numbers.stop - 1)
        if max(self.columns.codes, default=-1) >= len(self.columns.kinds):
            raise BlobCorrupt("The row index of the round before is damaged.")

    def line(self, at: int) -> bytes:
        """Return the line at this place among the numbers, from 0, with its newline."""
        offset, length = self.columns.place(at)
        found = os.pread(self._output, length, offset)
        if not found.endswith(b"\n") or len(found) != length:
            raise BlobCorrupt("The output of the round before is not what its row index says.")
        return found

    def was_answered(self, at: int) -> bool:
        """Return whether the provider answered the line at this place among the numbers."""
        return self.columns.kinds[self.columns.codes[at]].outcome in ANSWERED_OUTCOMES


class Sent(msgspec.Struct, frozen=True):
    """What is known of the lines before any row of theirs."""

    lines: Lines
    flags: bytes | None = None
    """One a line: `NO_ROW` for what was sent, else why it was not; None if all were sent."""
    leaders: Sequence[int] | None = None
    """For each line the number of the one with the same request that was sent."""
    problems: Mapping[int, Problem] = {}
    """Of lines that were put aside."""
    base: Base | None = None

    def was_answered(self, number: int) -> bool:
        """Return whether the provider answered the line in the round before."""
        return self.base is not None and self.base.was_answered(number - self.lines.numbers.start)


def what_was_sent(
    lines: Lines,
    *,
    twins: int | None = None,
    problems: Mapping[int, Problem] | None = None,
    base: Base | None = None,
    selection: Selection | None = None,
) -> Sent:
    """Put together what the files of a job say; `twins` is a descriptor."""
    numbers = lines.numbers
    flags = bytearray(len(numbers))
    leaders = None if twins is None else _leaders(twins, numbers, flags)
    mine = {number: one for number, one in (problems or {}).items() if number in numbers}
    for number in mine:
        flags[number - numbers.start] = PUT_ASIDE
    if base is not None and selection is not None:
        kept = bytearray(bytes((KEPT,)) * len(numbers))
        for number in selected_lines(
            base.index, selection, first=numbers.start, last=numbers.stop - 1
        ):
            kept[number - numbers.start] = flags[number - numbers.start]
        flags = kept
    return Sent(
        lines=lines,
        flags=bytes(flags) if any(flags) else None,
        leaders=leaders,
        problems=mine,
        base=base,
    )


def _leaders(twins: int, numbers: range, flags: bytearray) -> Sequence[int]:
    """Return the leaders of these lines, and mark those that have another one for it."""
    size = len(numbers) * NUMBER_BYTES
    found = os.pread(twins, size, (numbers.start - 1) * NUMBER_BYTES)
    if len(found) != size:
        raise BlobCorrupt("The file of identical lines is too short.")
    leaders = unpack_leaders(found)
    for number, leader in zip(numbers, leaders, strict=True):
        if leader == number:
            continue
        if leader not in numbers or leader > number or flags[leader - numbers.start] != NO_ROW:
            raise BlobCorrupt("The file of identical lines is damaged.")
        flags[number - numbers.start] = TWIN_LINE
    return leaders
