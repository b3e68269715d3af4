"""Write what the provider reads: one line a request, named by our own key, cut into objects.

Each line is parsed and serialised again, never spliced: with splicing, a caller's duplicate member
could override our key. Only `key` and `request` travel; the caller's own members stay with us. Of
identical requests in an object only the first travels. An object ends where the next line would be
too much for the provider, or where an even share of the lines ends; so the ranges of the objects
lie one behind the other, and each has at least one line to send.

It is done here or in a process of its own (`preparer`), so the files are descriptors.
"""

import os
from array import array
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from typing import Any, Final

import msgspec
import orjson

from penstock.core.line import LineKey
from penstock.core.line_index import LineIndex
from penstock.core.normalise import normalised
from penstock.core.options import Selection
from penstock.errors import BlobCorrupt
from penstock.ingest.index import ROW, ROW_BYTES, unpack_row
from penstock.lifecycle.selection import selected_lines
from penstock.lifecycle.twins import Table, read_leaders, spelled

BLOCK_BYTES: Final = 1024 * 1024
"""How much is serialised in one go; larger blocks only cost memory."""

READ_BYTES: Final = 256 * 1024
"""How much of the input is read in one go: it stays in the core's own memory while it is parsed."""

INDEX_ROWS: Final = 1024
"""How many rows of the line index are read in one go."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """The lines of a job, and which of them travel; the files are descriptors."""

    input: int
    index: int
    tag: str
    line_count: int
    left_out: list[int] = []
    """Lines that never travel, because they are bad."""
    deduplicate: bool = True
    selection: Selection | None = None
    """Which lines are sent again, by what the round before says of them; None means all are."""
    base_index: int | None = None
    """The row index of the round before."""
    twins: int | None = None
    """The leaders that the first round found, in whose place no other line is sent."""

    @property
    def files(self) -> list[int]:
        """The descriptors."""
        more = (self.base_index, self.twins)
        return [self.input, self.index, *(one for one in more if one is not None)]


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How much one object may hold."""

    bytes_max: int
    lines_max: int
    shards: int = 1
    """Into how many objects the lines are cut in any case, if there are so many."""


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """One object's share of the lines."""

    first: int
    last: int
    sent: int
    """Of the lines between the two, those that travel."""
    twins: int
    """Those that get the answer of another one."""


_Row = tuple[int, bytes, bytes]
"""Number, what travels, and how the request is spelled where identical ones are looked for."""


class ProviderInput:
    """Hands out one object after the other; all of it blocks, so it is done off the event loop."""

    def __init__(self, source: Source, bounds: Bounds) -> None:
        """Read as far as the first line that travels; raises `BlobCorrupt`."""
        self._source = source
        self._bounds = bounds
        self._share = -(-source.line_count // bounds.shards)
        self._rows = self._wanted()
        self._next: _Row | None = next(self._rows, None)
        self._begins_at = 1
        self.cut: Cut | None = None
        """Of the object that was handed out last, to its end."""
        self.leaders = array("I", range(1, source.line_count + 1))
        """Of each line, the one whose answer it gets."""
        self.too_large_bytes = 0
        """Of the line that no object can hold; then nothing more is handed out."""

    @property
    def is_over(self) -> bool:
        """Whether there is no further object."""
        return self._next is None or self.too_large_bytes > 0

    def blocks(self) -> Iterator[bytes]:
        """Yield the next object in blocks of about `BLOCK_BYTES`, whole lines each."""
        table = Table(self._source.line_count) if self._source.deduplicate else None
        bounds, share_ends_at = self._bounds, self._begins_at + self._share - 1
        block: list[bytes] = []
        block_bytes = size = sent = twins = 0
        while self._next is not None:
            number, data, spelling = self._next
            if sent and number > share_ends_at:
                break
            leader = number
            if table is not None:
                leader = table.leader(spelling, number, self._spelled)
            if leader != number:
                self.leaders[number - 1] = leader
                twins += 1
            elif sent < bounds.lines_max and size + len(data) <= bounds.bytes_max:
                block.append(data)
                block_bytes += len(data)
                size += len(data)
                sent += 1
            else:
                self.too_large_bytes = len(data) if len(data) > bounds.bytes_max else 0
                break
            self._next = next(self._rows, None)
            if block_bytes >= BLOCK_BYTES:
                yield b"".join(block)
                block.clear()
                block_bytes = 0
        self._end(sent, twins)
        if block:
            yield b"".join(block)

    def _spelled(self, number: int) -> bytes:
        """Return how the request of a line that went by is spelled."""
        source = self._source
        row = os.pread(source.index, ROW_BYTES, ROW_BYTES * (number - 1))
        offset, length = unpack_row(row, 0)
        return spelled(request_of(os.pread(source.input, length, offset)))

    def _end(self, sent: int, twins: int) -> None:
        last = self._source.line_count if self._next is None else self._next[0] - 1
        self.cut = Cut(first=self._begins_at, last=last, sent=sent, twins=twins)
        self._begins_at = last + 1

    def _wanted(self) -> Generator[_Row]:
        source = self._source
        key_of = LineKey(source.tag).of
        spelling = b""
        for number, line in read_lines(source.input, source.index, wanted_lines(source)):
            try:
                request = request_of(line)
            except orjson.JSONDecodeError as error:
                raise BlobCorrupt(f"Line {number} of the stored input is damaged.") from error
            if source.deduplicate:
                spelling = spelled(request)
            yield number, provider_row(key_of(number), request), spelling


def request_of(line: bytes | memoryview) -> dict[str, Any]:
    """Return the request of a line as the provider gets it."""
    return normalised(orjson.loads(line)["request"])


def provider_row(key: str, request: object) -> bytes:
    """Return the provider's line for one of ours, whose other members stay with us."""
    return orjson.dumps({"key": key, "request": request}, option=orjson.OPT_APPEND_NEWLINE)


def wanted_lines(source: Source) -> bytearray:
    """Return, at the number of each line, whether it travels."""
    if source.selection is None or source.base_index is None:
        wanted = bytearray(b"\1") * (source.line_count + 1)
    else:
        wanted = bytearray(source.line_count + 1)
        leaders = None if source.twins is None else read_leaders(source.twins, source.line_count)
        index = LineIndex(partial(_read, source.base_index))
        for number in selected_lines(index, source.selection):
            wanted[number if leaders is None else leaders[number - 1]] = 1
    for number in source.left_out:
        wanted[number] = 0
    return wanted


def _read(descriptor: int, offset: int, size: int) -> bytes:
    return os.pread(descriptor, size, offset)


def read_lines(data: int, index: int, wanted: Sequence[int]) -> Generator[tuple[int, memoryview]]:
    """Yield number and bytes of the wanted lines of an input in order, without line ends.

    What lies between wanted lines is read only if it lies between their neighbours; so no byte but
    those of a line that a piece cuts is read twice.
    """
    piece = memoryview(b"")
    begins_at = ends_at = 0
    for number, (offset, length) in enumerate(_places(index), start=1):
        if not wanted[number]:
            continue
        if offset + length > ends_at:
            piece = memoryview(os.pread(data, max(READ_BYTES, length), offset))
            begins_at, ends_at = offset, offset + len(piece)
        yield number, piece[offset - begins_at : offset - begins_at + length]


def _places(index: int) -> Iterator[tuple[int, int]]:
    """Yield offset and length of each line."""
    at = 0
    while packed := os.pread(index, ROW_BYTES * INDEX_ROWS, at):
        yield from ROW.iter_unpack(packed)
        at += len(packed)
