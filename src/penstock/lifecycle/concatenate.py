"""Put the outputs of a job's shards one behind the other, and their row indexes with them.

Their lines are ranges of the job's that follow each other, so this is a copy, block by block; only
the kinds in the indexes get new numbers. A shard that brought no output becomes lines that say why.
"""

import asyncio
import hashlib
import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import Final, Self

import msgspec

from penstock.blobs.part import Part
from penstock.blobs.spool import OUTPUT
from penstock.blobs.threads import in_thread
from penstock.core.bill import added, spent_of
from penstock.core.job import Counts, Job
from penstock.core.line_index import Columns, IndexWriter, LineIndex
from penstock.core.models import Price
from penstock.errors import BlobCorrupt
from penstock.lifecycle.behind import Behind
from penstock.lifecycle.collector import Task, sent_of
from penstock.lifecycle.gather import Files, task_of
from penstock.lifecycle.merge import Merge, Merged, Missing, lines_of
from penstock.lifecycle.shards import Shards
from penstock.lifecycle.totals import Totals, counts_of

BLOCK_BYTES: Final = 1024 * 1024


class Concatenation:
    """The output of a job that was cut into shards; they are appended in the order of their lines.

    What was written before an error is gone with the block; nobody goes on after one.
    """

    def __init__(self, files: Files, job: Job, price: Price | None) -> None:
        """Take the files of the job whose shards these are."""
        self._given = files
        self._job = job
        self._price = price
        # Of this run alone, as in `Gather`.
        name = f"output-{token_hex(4)}"
        self.output_name = f"{name}.jsonl"
        self.index_name = f"{name}.index"
        self._output = files.spool.begin(job.id, OUTPUT)
        self._index_part: Part | None = None
        self._digest = hashlib.sha256()
        self._size = 0
        self._next = job.line_range.start
        self._index = IndexWriter(job.round)
        self._tokens: list[Counts] = []
        self._bill = Totals(price).bill()

    async def append(self, shard: Job, output: Path, index: Path) -> None:
        """Append the output of a shard; raise `BlobCorrupt` if it has not the lines of its range.

        What the shard did cost is in its row, and counted here.
        """
        self._expect(shard.line_range)
        await in_thread(partial(self._append, shard.line_count, output, index))
        if shard.counts is not None:
            self._tokens.append(shard.counts)
        if shard.bill is not None:
            self._bill = added(self._bill, shard.bill)

    async def append_missing(self, lines: range, missing: Missing, now: float) -> None:
        """Append lines that have no answer, in place of a shard that brought no output."""
        self._expect(lines)
        await in_thread(partial(self._append_missing, lines, missing, now))

    async def conclude(self) -> Merged:
        """Write the row index; return what the output says."""
        if self._next != self._job.line_range.stop:
            raise BlobCorrupt(f"The shards end before line {self._next}.")
        await in_thread(self._write_index)
        return Merged(
            counts=counts_of(lines_of(self._index), *self._tokens),
            output_bytes=self._size,
            output_sha256=self._digest.hexdigest(),
            spent=spent_of(self._bill),
            bill=self._bill,
        )

    async def commit(self) -> None:
        """Make the output and its row index durable and put them in their place."""
        if self._index_part is not None:
            await self._given.blobs.commit(
                self._job.id, {self.output_name: self._output, self.index_name: self._index_part}
            )

    async def __aenter__(self) -> Self:
        """Return itself; what is half done goes with the block."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove what is half done."""
        await asyncio.to_thread(self._clear)

    def _expect(self, lines: range) -> None:
        if lines.start != self._next:
            raise BlobCorrupt(f"No shard has line {self._next}.")
        self._next = lines.stop

    def _append(self, line_count: int, output: Path, index: Path) -> None:
        with index.open("rb", buffering=0) as file:
            found = _columns(lambda at, size: os.pread(file.fileno(), size, at), line_count)
        before, length = self._size, self._index.output_bytes
        with Behind("penstock-join-hash") as hashing, output.open("rb", buffering=0) as data:
            while block := data.read(BLOCK_BYTES):
                hashing.do(self._digest.update, block)
                self._write(block)
            hashing.wait()
        self._index.extend(found)
        if self._size - before != self._index.output_bytes - length:
            raise BlobCorrupt("A shard's output is not what its row index says.")

    def _append_missing(self, lines: range, missing: Missing, now: float) -> None:
        def write(block: bytes) -> None:
            self._digest.update(block)
            self._write(block)

        with ExitStack() as stack:
            task = msgspec.structs.replace(
                self._task(stack), first_line=lines.start, last_line=lines.stop - 1
            )
            totals = Totals(self._price)
            shards = Shards(task.kept, sent_of(task), totals, {})
            merge = Merge(shards, totals, missing, now, self._job.round)
            merge.write(write)
        packed = b"".join(merge.index.pieces())
        self._index.extend(_columns(lambda at, size: packed[at : at + size], len(lines)))

    def _task(self, stack: ExitStack) -> Task:
        def opened(path: Path) -> int:
            descriptor = os.open(path, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            return descriptor

        # There are no rows, so nothing is kept of them.
        return task_of(self._given, self._job, self._price, [], opened(Path(os.devnull)), opened)

    def _write(self, block: bytes) -> None:
        self._output.write(block)
        self._size += len(block)

    def _write_index(self) -> None:
        self._index_part = self._given.spool.begin(self._job.id, self.index_name)
        for piece in self._index.pieces():
            self._index_part.write(piece)

    def _clear(self) -> None:
        self._output.discard()
        if self._index_part is not None:
            self._index_part.discard()


def _columns(read: Callable[[int, int], bytes], line_count: int) -> Columns:
    """Return all of the row index of a shard."""
    index = LineIndex(read)
    if index.line_count != line_count:
        raise BlobCorrupt(f"A shard of {line_count} lines has an output of {index.line_count}.")
    return index.columns(1, line_count)
