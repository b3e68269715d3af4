"""Where the lines of a job are, and how they are read: by pieces, off the event loop.

An index of 200,000 lines has 5 MB. A question reads the column that it searches and what it shows,
in blocks that are kept for the next page; so it costs the same whether the index lies on this
machine or in object storage, but for the latter's round trips: two, or none.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Final

import msgspec

from penstock.blobs.spool import OUTPUT
from penstock.blobs.store import Blobs
from penstock.blobs.threads import in_thread
from penstock.core.job import Job, JobId
from penstock.core.limits import Limits
from penstock.core.line import LineOutcome
from penstock.core.line_index import HEAD_BYTES, Entry, Kind, LineIndex, header_span
from penstock.core.look import look_of
from penstock.core.state import TERMINAL
from penstock.errors import BlobCorrupt, Conflict, NotFound

BLOCK_BYTES: Final = 128 * 1024
"""What of an index is read and kept at a time."""

HEADER_BYTES: Final = 16 * 1024
"""As most headers are smaller than; a guess, by which the first read brings what comes next."""

_LINE_BYTES: Final = 25
"""Of an index, for each line."""

_SEARCHED_BYTES: Final = 3
"""Of these, what a filter reads."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Which output of a job is read, and the row index that belongs to it."""

    job_id: JobId
    output_name: str
    index_name: str
    lines: int = 0
    """How many there are at least, as far as that is known without the index."""
    is_partial: bool = False
    """Of a job that still runs: what the provider had when it was looked at."""


def place_of(job: Job, *, is_partial: bool) -> Place:
    """Return where the lines of a job are; raise `Conflict` or `NotFound` if nobody knows yet.

    While a later round runs these are the lines of the round before.
    """
    look = look_of(job) if is_partial else None
    if look is not None:
        return Place(
            job_id=job.id,
            output_name=look.name,
            index_name=look.index_name,
            lines=job.line_count,
            is_partial=True,
        )
    if job.index_name is not None:
        return Place(
            job_id=job.id,
            output_name=job.output_name or OUTPUT,
            index_name=job.index_name,
            lines=job.line_count,
        )
    if job.state not in TERMINAL:
        raise Conflict(
            f"The request {job.id} has not ended: what became of its lines is not known yet.",
            code="lines_not_ready",
            hint="The provider is asked for what it has, once it runs; come again in a minute."
            if is_partial
            else "Wait until it has ended, or ask with ?partial=true for what the provider has.",
        )
    if job.output_sha256 is None:
        raise NotFound(
            f"The request {job.id} has ended without an output.",
            code="no_output",
            hint="outcome.error says why.",
        )
    raise NotFound(
        f"The output of the request {job.id} is from before lines could be looked up.",
        code="no_row_index",
        hint="Download it: each line says in its member status what became of it.",
    )


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which lines are asked for."""

    outcomes: tuple[LineOutcome, ...] = ()
    """None means all."""
    code: str | None = None

    def has(self, kind: Kind) -> bool:
        """Return whether lines of this kind are among them."""
        return (not self.outcomes or kind.outcome in self.outcomes) and (
            self.code is None or kind.code == self.code
        )


class LineSource:
    """Opens the lines of jobs; keeps what was read of their indexes lately."""

    def __init__(self, blobs: Blobs, limits: Limits) -> None:
        self._blobs = blobs
        self._bytes_max = limits.lines_cache_bytes_max
        self._blocks: OrderedDict[tuple[str, str, int], bytes] = OrderedDict()
        self._kept_bytes = 0

    @property
    def kept_bytes(self) -> int:
        """How much of indexes is kept."""
        return self._kept_bytes

    async def open(self, place: Place, *, is_searched: bool = False) -> "Lines":
        """Read the header of an index; raise `BlobCorrupt` if it is none.

        One that `is_searched` next comes with what a filter reads, as far as can be told.
        """
        blocks = _Blocks(self, place)
        most = HEADER_BYTES + _SEARCHED_BYTES * place.lines if is_searched else HEADER_BYTES
        # No more than the file has in any case: what begins behind its end is an error elsewhere.
        await blocks.fetch([range(max(HEAD_BYTES, min(most, _LINE_BYTES * place.lines)))])
        await blocks.fetch([header_span(blocks.read(0, HEAD_BYTES))])
        return Lines(self._blobs, place, blocks, LineIndex(blocks.read))

    async def blocks(self, place: Place, numbers: Sequence[int]) -> list[bytes]:
        """Return blocks of an index; those that are not kept are read at once."""
        keys = [(place.job_id, place.index_name, number) for number in numbers]
        found = {key: self._blocks[key] for key in keys if key in self._blocks}
        absent = [key for key in keys if key not in found]
        for key in found:
            self._blocks.move_to_end(key)
        if absent:
            parts = [range(key[2] * BLOCK_BYTES, (key[2] + 1) * BLOCK_BYTES) for key in absent]
            read = await self._blobs.pieces(place.job_id, place.index_name, parts)
            for key, block in zip(absent, read, strict=True):
                found[key] = block
                self._keep(key, block)
        return [found[key] for key in keys]

    def _keep(self, key: tuple[str, str, int], block: bytes) -> None:
        """Keep a block, and let go of those that nobody asked for the longest."""
        self._kept_bytes += len(block) - len(self._blocks.pop(key, b""))
        self._blocks[key] = block
        while self._kept_bytes > self._bytes_max:
            _, oldest = self._blocks.popitem(last=False)
            self._kept_bytes -= len(oldest)


class _Blocks:
    """What one request has of an index in its hands."""

    def __init__(self, source: LineSource, place: Place) -> None:
        self._source = source
        self._place = place
        self._held: dict[int, bytes] = {}

    async def fetch(self, spans: Iterable[range]) -> None:
        """Have the blocks at hand in which these bytes are."""
        await self.take(_blocks_of(spans))

    async def take(self, numbers: Iterable[int]) -> None:
        """Have these blocks at hand."""
        absent = sorted(set(numbers) - self._held.keys())
        read = await self._source.blocks(self._place, absent)
        self._held.update(zip(absent, read, strict=True))

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of blocks that are at hand, fewer at the end of the file."""
        first, last = offset // BLOCK_BYTES, max(offset, offset + size - 1) // BLOCK_BYTES
        start = offset - first * BLOCK_BYTES
        if first == last:
            return self._held[first][start : start + size]
        whole = b"".join([self._held[number] for number in range(first, last + 1)])
        return whole[start : start + size]


class Lines:
    """The lines of one output, of which the index knows what became of each."""

    def __init__(self, blobs: Blobs, place: Place, blocks: _Blocks, index: LineIndex) -> None:
        self._blobs = blobs
        self.place = place
        self._blocks = blocks
        self._index = index

    @property
    def count(self) -> int:
        """How many lines there are."""
        return self._index.line_count

    @property
    def kinds(self) -> Sequence[Kind]:
        """In which ways they ended."""
        return self._index.kinds

    async def page(self, wanted: Wanted, after: int, limit: int) -> list[Entry]:
        """Return the next of the wanted lines behind line `after`."""
        if not any(wanted.has(kind) and kind.lines for kind in self.kinds):
            return []
        await self._blocks.fetch([self._index.searched(is_by_code=wanted.code is not None)])
        numbers, blocks = await in_thread(partial(self._find, wanted, after, limit))
        await self._blocks.take(blocks)
        return await in_thread(lambda: [self._index.entry(number) for number in numbers])

    def _find(self, wanted: Wanted, after: int, limit: int) -> tuple[list[int], set[int]]:
        """Return the numbers of the lines, and in which blocks the rest of them is."""
        found = self._index.numbers(wanted.outcomes, code=wanted.code, after=after)
        numbers = list(islice(found, limit))
        return numbers, _blocks_of(self._index.spans(numbers))

    async def entry(self, number: int) -> Entry:
        """Return what the index says of one line, counted from 1; raise `NotFound` if none."""
        if not 1 <= number <= self.count:
            raise no_line(self.count)
        await self._blocks.fetch(self._index.spans([number]))
        return self._index.entry(number)

    async def texts(self, entries: Sequence[Entry]) -> list[bytes]:
        """Return lines of the output, each a JSON object without its newline."""
        parts = [range(one.offset, one.offset + one.length) for one in entries]
        found = await self._blobs.pieces(self.place.job_id, self.place.output_name, parts)
        return [_line(text, one) for text, one in zip(found, entries, strict=True)]


def no_line(count: int) -> NotFound:
    """Return the refusal of a number that no line has."""
    return NotFound(
        "There is no such line.", code="line_not_found", hint=f"The lines are 1 to {count}."
    )


def _blocks_of(spans: Iterable[range]) -> set[int]:
    return {
        number
        for span in spans
        if span
        for number in range(span.start // BLOCK_BYTES, (span.stop - 1) // BLOCK_BYTES + 1)
    }


def _line(text: bytes, entry: Entry) -> bytes:
    # What is spliced into an answer as it is must at least begin and end as a line does.
    if len(text) != entry.length or not (text.startswith(b"{") and text.endswith(b"}\n")):
        raise BlobCorrupt(f"Line {entry.number} of the output is not where its index says.")
    return text[:-1]
