"""Find every line's row in the provider's output, in any order, in bounded memory.

The shards are copied to one scratch file while they arrive; per line only an offset, a length and a
flag are kept (13 bytes). No answer stays in memory.
"""

import os
from array import array
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from penstock.core.line import LineKey

NO_ROW: Final = 0
ONE_ROW: Final = 1
UNREADABLE: Final = 2
CONFLICTING: Final = 3

ROW_BYTES_MAX: Final = 128 * 1024 * 1024
"""One row of the provider: the echo of a 64 MiB line and images of some megabytes fit."""


class Row(msgspec.Struct, frozen=True):
    """One provider row; `request` and `response` stay bytes until somebody needs them."""

    key: Any = None
    status: Any = ""
    processed_time: Any = None
    request: msgspec.Raw = msgspec.Raw(b"null")
    response: msgspec.Raw = msgspec.Raw(b"null")


ROW: Final = msgspec.json.Decoder(Row)
UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""All that msgspec raises on hostile bytes; ValidationError is a DecodeError."""


class Shards:
    """The index of one job's provider rows; blocking, so used from a thread."""

    def __init__(self, scratch: Path, line_count: int, keys: LineKey) -> None:
        self._keys = keys
        self._file: IO[bytes] = scratch.open("w+b", buffering=0)
        self._size = 0
        self._tail = bytearray()
        self._skipping = False
        self._offsets = array("Q", bytes(8 * line_count))
        self._lengths = array("L", bytes(array("L").itemsize * line_count))
        self._flags = bytearray(line_count)
        self.duplicates = 0
        """Further rows of a line that say the same; harmless, and reported."""
        self.strangers = 0
        """Rows that are not of this job, or name no line; never delivered."""

    @property
    def rows(self) -> int:
        """Lines that have at least one row."""
        return len(self._flags) - self._flags.count(NO_ROW)

    def feed(self, block: bytes) -> None:
        """Take the next bytes of the current shard, cut anywhere."""
        start = 0
        while (end := block.find(b"\n", start)) >= 0:
            self._line(block[start:end])
            start = end + 1
        rest = block[start:]
        if len(self._tail) + len(rest) > ROW_BYTES_MAX:
            self._skipping = True
            self._tail.clear()
        elif not self._skipping:
            self._tail += rest

    def end_shard(self) -> None:
        """Take the last row of a shard, which may lack its newline."""
        self._line(b"")

    def flag(self, number: int) -> int:
        """Return what is known of the line: `NO_ROW`, `ONE_ROW`, `UNREADABLE`, `CONFLICTING`."""
        return self._flags[number - 1]

    def row(self, number: int) -> bytes:
        """Return the bytes of the line's row."""
        return os.pread(self._file.fileno(), self._lengths[number - 1], self._offsets[number - 1])

    def close(self) -> None:
        """Close the scratch file; its owner removes it."""
        self._file.close()

    def _line(self, end_of_line: bytes) -> None:
        line = bytes(self._tail) + end_of_line if self._tail else end_of_line
        self._tail.clear()
        if self._skipping:
            # The end of a row that was too long to keep; it counts as nobody's.
            self._skipping = False
            self.strangers += 1
            return
        if line.strip():
            self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            if not line.isascii():
                line.decode("utf-8")
            number = self._keys.line_number(ROW.decode(line).key)
            flag = ONE_ROW
        except UNDECODABLE:
            number = self._keys.find(line)
            flag = UNREADABLE
        if number is None or not 1 <= number <= len(self._flags):
            self.strangers += 1
            return
        index = number - 1
        if self._flags[index] != NO_ROW:
            self._again(index, line, flag)
            return
        self._flags[index] = flag
        self._offsets[index] = self._size
        self._lengths[index] = len(line)
        self._append(line)

    def _again(self, index: int, line: bytes, flag: int) -> None:
        """A second row is harmless only if it gives the same answer; else neither is proven."""
        if self._flags[index] == ONE_ROW == flag and _answer(self.row(index + 1)) == _answer(line):
            self.duplicates += 1
            return
        self._flags[index] = CONFLICTING

    def _append(self, line: bytes) -> None:
        view = memoryview(line)
        while view:
            written = self._file.write(view)
            view = view[written:]
        self._size += len(line)


def _answer(line: bytes) -> tuple[object, bytes]:
    row = ROW.decode(line)
    return row.status, bytes(row.response)
