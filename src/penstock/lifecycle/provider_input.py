"""Write what the provider reads: one line a request, named by our own key, cut into objects.

Each line is parsed and serialised again, never spliced: with splicing, a caller's duplicate member
could override our key. Only `key` and `request` travel; the caller's own members stay with us. Of
identical requests in an object only the first travels. An object ends where the next line would be
too much for the provider, or where an even share of the lines ends; so the ranges of the objects
lie one behind the other, and each has at least one line to send.
"""

from array import array
from collections.abc import Container, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson

from penstock.core.line import LineKey
from penstock.core.normalise import normalised
from penstock.ingest.index import ROW, ROW_BYTES
from penstock.lifecycle.twins import Table, digest_of

BLOCK_BYTES: Final = 1024 * 1024
"""How much is serialised in one go in a thread; larger blocks only cost memory."""

INDEX_ROWS: Final = 1024
"""How many rows of the line index are read in one go."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """The lines of a job, and which of them travel."""

    input_path: Path
    index_path: Path
    tag: str
    line_count: int
    left_out: Container[int] = frozenset()
    """Lines that never travel, because they are bad."""
    chosen: bytes | bytearray | None = None
    """Not zero, at the number of a line, where it is to be sent again; None means all are."""
    deduplicate: bool = True


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


class _Row(msgspec.Struct, frozen=True):
    number: int
    data: bytes
    digest: bytes | None


class ProviderInput:
    """Hands out one object after the other; all of it blocks, so it is done in a thread."""

    def __init__(self, source: Source, bounds: Bounds) -> None:
        self._source = source
        self._bounds = bounds
        self._share = -(-source.line_count // bounds.shards)
        self._rows = self._wanted()
        self._next: _Row | None = next(self._rows, None)
        self._begins_at = 1
        self.cuts: list[Cut] = []
        """Of the objects that were handed out to their end."""
        self.leaders = array("I", range(1, source.line_count + 1))
        """Of each line, the one whose answer it gets."""
        self.too_large_bytes = 0
        """Of the line that no object can hold; then nothing more is handed out."""

    @property
    def is_over(self) -> bool:
        """Whether there is no further object."""
        return self._next is None or self.too_large_bytes > 0

    def close(self) -> None:
        """Close the files of an input that was not handed out to its end."""
        self._rows.close()

    def blocks(self) -> Iterator[bytes]:
        """Yield the next object in blocks of about `BLOCK_BYTES`, whole lines each."""
        table = Table(self._source.line_count) if self._source.deduplicate else None
        share_ends_at = self._begins_at + self._share - 1
        block = bytearray()
        size = sent = 0
        while (row := self._next) is not None:
            leader = row.number
            if sent and row.number > share_ends_at:
                break
            if table is not None and row.digest is not None:
                leader = table.leader(row.digest, row.number)
            self.leaders[row.number - 1] = leader
            if leader == row.number:
                if not self._fits(row, size, sent):
                    break
                block += row.data
                size += len(row.data)
                sent += 1
            self._next = next(self._rows, None)
            if len(block) >= BLOCK_BYTES:
                yield bytes(block)
                block.clear()
        self._end(sent)
        if block:
            yield bytes(block)

    def _fits(self, row: _Row, size: int, sent: int) -> bool:
        if len(row.data) > self._bounds.bytes_max:
            self.too_large_bytes = len(row.data)
            return False
        return sent < self._bounds.lines_max and size + len(row.data) <= self._bounds.bytes_max

    def _end(self, sent: int) -> None:
        last = self._source.line_count if self._next is None else self._next.number - 1
        self.cuts.append(Cut(first=self._begins_at, last=last, sent=sent))
        self._begins_at = last + 1

    def _wanted(self) -> Generator[_Row]:
        source, keys = self._source, LineKey(self._source.tag)
        lines = read_lines(source.input_path, source.index_path)
        with closing(lines):
            for number, line in enumerate(lines, start=1):
                if number in source.left_out:
                    continue
                if source.chosen is not None and not source.chosen[number]:
                    continue
                request = request_of(line)
                digest = digest_of(request) if source.deduplicate else None
                yield _Row(number, provider_row(keys.of(number), request), digest)


def request_of(line: bytes) -> dict[str, Any]:
    """Return the request of a line as the provider gets it."""
    return normalised(orjson.loads(line)["request"])


def provider_row(key: str, request: object) -> bytes:
    """Return the provider's line for one of ours, whose other members stay with us."""
    return orjson.dumps({"key": key, "request": request}, option=orjson.OPT_APPEND_NEWLINE)


def read_lines(input_path: Path, index_path: Path) -> Generator[bytes]:
    """Yield the request lines of an input in order, without line ends or blank lines."""
    with input_path.open("rb", buffering=BLOCK_BYTES) as data, index_path.open("rb") as index:
        at = 0
        while packed := index.read(ROW_BYTES * INDEX_ROWS):
            for offset, length in ROW.iter_unpack(packed):
                # Blank lines lie between requests, so a relative move keeps the read-ahead.
                data.seek(offset - at, 1)
                yield data.read(length)
                at = offset + length
