"""The provider's rows on their way in: cut into segments of whole rows, and soon forgotten.

Nothing is looked for in them but line ends. They are written for others to read, to two files by
turns: once the one has enough, the other is written again from its beginning, as soon as all in it
was read. So a gigabyte of rows takes some megabytes of disk, and the same pages of memory again and
again. A single file of all rows would be as large as the output, which most of it repeats.
"""

import os
from typing import Final

import msgspec

from penstock.lifecycle.disk import write_at

ROW_BYTES_MAX: Final = 128 * 1024 * 1024
"""One row of the provider: the echo of a 64 MiB line and images of some megabytes fit."""

SEGMENT_BYTES: Final = 1024 * 1024
"""A segment ends at the first row that ends beyond this."""

FILE_BYTES: Final = 16 * 1024 * 1024
"""So much is written to a file before the other one is: segments enough for all who read."""

TAIL_BYTES_MAX: Final = 4 * SEGMENT_BYTES
"""No more is copied to the other file with a turn; a long row is waited for instead."""


class Segment(msgspec.Struct, frozen=True, array_like=True):
    """Whole rows of one shard: a place in one of the files."""

    offset: int
    size: int
    file: int = 0


class Inflow:
    """Takes the shards block by block and says which rows are whole."""

    def __init__(self, file: int, file_bytes: int = FILE_BYTES) -> None:
        """Take the descriptor of an empty file. What writes blocks, so it is used from a thread."""
        self._files = [file]
        self._file_bytes = file_bytes
        self.file = 0
        """Which of the files is written."""
        self._end = 0
        """So far it is."""
        self._row = 0
        """Where the row begins whose end is still to come."""
        self._begin = 0
        """Where the next segment begins."""
        self._skipping = False
        self.size = 0
        """Bytes that were written."""
        self.too_long = 0
        """Rows beyond `ROW_BYTES_MAX`; they count as nobody's."""

    def feed(self, block: bytes) -> list[Segment]:
        """Take the next bytes of the current shard, cut anywhere; return what became whole."""
        end = block.find(b"\n") if self._skipping else 0
        if end < 0:
            return []
        base = self._end
        write_at(self._files[self.file], block, base)
        self._end += len(block)
        self.size += len(block)
        if self._skipping:
            self._skip(base + end + 1)
        last = block.rfind(b"\n")
        if last >= 0:
            self._row = max(self._row, base + last + 1)
        if self._end - self._row > ROW_BYTES_MAX:
            self._skipping = True
            return self._cut(self._row)
        # With a turn to come, all whole rows are given away, so that the rest is soon copied.
        is_enough = self._row - self._begin >= SEGMENT_BYTES or self._end >= self._file_bytes
        return self._cut(self._row) if is_enough else []

    def end_shard(self) -> list[Segment]:
        """Take the last row of a shard, which may lack its newline."""
        if self._skipping:
            self._skip(self._end)
        self._row = self._end
        return self._cut(self._end)

    def alternate(self, other: int) -> None:
        """Take another empty file, so there can be turns."""
        self._files.append(other)

    @property
    def is_full(self) -> bool:
        """Whether the file has enough, and what is not given away of it can be copied."""
        return self._end >= self._file_bytes and self._end - self._begin <= TAIL_BYTES_MAX

    def turn(self) -> None:
        """Go on in the other file, of which nobody wants anything any more."""
        tail = os.pread(self._files[self.file], self._end - self._begin, self._begin)
        self.file = 1 - self.file
        written = self._files[self.file]
        if os.fstat(written).st_size > 2 * self._file_bytes:
            # Of a long row, or of the time when nobody read.
            os.ftruncate(written, self._file_bytes)
        write_at(written, tail, 0)
        self._row -= self._begin
        self._begin, self._end = 0, len(tail)

    def _skip(self, end: int) -> None:
        """Leave out the row that was too long and ends here."""
        self._skipping = False
        self.too_long += 1
        self._row = self._begin = end

    def _cut(self, end: int) -> list[Segment]:
        begin, self._begin = self._begin, end
        return [Segment(begin, end - begin, self.file)] if end > begin else []
