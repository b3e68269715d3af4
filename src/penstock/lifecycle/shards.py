"""Find every line's row in the provider's output, in any order, in bounded memory.

The shards are copied to one scratch file while they arrive, block by block; per line only an
offset, a length and a flag are kept (13 bytes). No answer stays in memory.
"""

import os
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from penstock.core.line import LineKey
from penstock.lifecycle.behind import Behind

NO_ROW: Final = 0
ONE_ROW: Final = 1
UNREADABLE: Final = 2
CONFLICTING: Final = 3

ROW_BYTES_MAX: Final = 128 * 1024 * 1024
"""One row of the provider: the echo of a 64 MiB line and images of some megabytes fit."""


Bytes = bytes | bytearray | memoryview


class Row(msgspec.Struct, frozen=True):
    """One provider row; `request` and `response` stay bytes until somebody needs them."""

    key: Any = None
    status: Any = ""
    processed_time: Any = None
    request: msgspec.Raw = msgspec.Raw(b"null")
    response: msgspec.Raw = msgspec.Raw(b"null")


class _Key(msgspec.Struct, gc=False):
    """The members of `Row` that are read and not only skipped, so it refuses what `Row` refuses."""

    key: Any = None
    status: Any = ""
    processed_time: Any = None


ROW: Final = msgspec.json.Decoder(Row)
_KEY: Final = msgspec.json.Decoder(_Key)
UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""All that msgspec raises on hostile bytes; ValidationError is a DecodeError."""


class Shards:
    """The index of one job's provider rows; blocking, so used from a thread."""

    def __init__(self, scratch: Path, line_count: int, keys: LineKey) -> None:
        self._keys = keys
        self._file: IO[bytes] = scratch.open("w+b", buffering=0)
        self._behind = Behind("penstock-shards")
        self._size = 0
        self._tail = bytearray()
        self._skipping = False
        self._offsets = array("Q", bytes(8 * line_count))
        self._lengths = array("I", bytes(array("I").itemsize * line_count))
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
        """Take the next bytes of the current shard, cut anywhere.

        They go to the scratch file as they are, while the rows in them are read here.
        """
        end = block.find(b"\n")
        if end < 0 and self._skipping:
            return
        self._behind.do(self._append, block)
        base = self._size
        self._size += len(block)
        start = 0
        if end >= 0 and (self._tail or self._skipping):
            self._end_tail(block[:end], base + end)
            start = end + 1
        check = None if block.isascii() else _check_utf8
        view = memoryview(block)
        while (end := block.find(b"\n", start)) >= 0:
            self._take(view[start:end], base + start, check)
            start = end + 1
        self._keep(view[start:])

    def end_shard(self) -> None:
        """Take the last row of a shard, which may lack its newline."""
        self._end_tail(b"", self._size)
        self._behind.wait()

    def flag(self, number: int) -> int:
        """Return what is known of the line: `NO_ROW`, `ONE_ROW`, `UNREADABLE`, `CONFLICTING`."""
        return self._flags[number - 1]

    def row(self, number: int) -> bytes:
        """Return the bytes of the line's row; the shard of the row has ended."""
        return os.pread(self._file.fileno(), self._lengths[number - 1], self._offsets[number - 1])

    def close(self) -> None:
        """Close the scratch file; its owner removes it."""
        self._behind.close()
        self._file.close()

    def _keep(self, rest: memoryview) -> None:
        """Keep the beginning of a row whose end is still to come."""
        if len(self._tail) + len(rest) > ROW_BYTES_MAX:
            self._skipping = True
            self._tail = bytearray()
        else:
            self._tail += rest

    def _end_tail(self, end_of_line: bytes, end: int) -> None:
        """Take the row that began in an earlier block and ends at this place of the scratch."""
        if self._skipping:
            # The end of a row that was too long to keep; it counts as nobody's.
            self._skipping = False
            self.strangers += 1
            return
        line, self._tail = self._tail, bytearray()
        line += end_of_line
        self._take(line, end - len(line), _check_utf8)

    def _take(self, line: Bytes, offset: int, check: Callable[[Bytes], object] | None) -> None:
        try:
            if check is not None:
                check(line)
            number = self._keys.line_number(_KEY.decode(line).key)
            flag = ONE_ROW
        except UNDECODABLE:
            row = bytes(line)
            if not row.strip():
                return
            number = self._keys.find(row)
            flag = UNREADABLE
        if number is None or not 1 <= number <= len(self._flags):
            self.strangers += 1
            return
        index = number - 1
        if self._flags[index] != NO_ROW:
            self._again(index, line, flag)
            return
        self._flags[index] = flag
        self._offsets[index] = offset
        self._lengths[index] = len(line)

    def _again(self, index: int, line: Bytes, flag: int) -> None:
        """A second row is harmless only if it gives the same answer; else neither is proven."""
        if self._flags[index] == ONE_ROW == flag:
            self._behind.wait()
            if _answer(self.row(index + 1)) == _answer(line):
                self.duplicates += 1
                return
        self._flags[index] = CONFLICTING

    def _append(self, block: bytes) -> None:
        view = memoryview(block)
        while view:
            view = view[self._file.write(view) :]


def _check_utf8(line: Bytes) -> None:
    """Raise if the line is not UTF-8; msgspec does not look into what it skips."""
    str(line, "utf-8")


def _answer(line: Bytes) -> tuple[object, bytes]:
    row = ROW.decode(line)
    return row.status, bytes(row.response)
