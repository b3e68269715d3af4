"""Take a job's rows as they come, and have them collected: here if they are few, else by a crew.

The rows are copied to a file and read there. Which process does it is decided by the bytes:
starting one costs more than to read a few megabytes, and a gigabyte would hold up the API. A crew
reads while rows come; they come no faster than it does, and what it has read takes no room
(`inflow`).
"""

import asyncio
import os
from asyncio import Semaphore
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import Final, Self

import msgspec

from penstock.blobs.part import Part
from penstock.blobs.spool import OUTPUT, Spool
from penstock.blobs.store import Blobs
from penstock.blobs.threads import in_thread
from penstock.core.job import Job
from penstock.core.models import Price
from penstock.ingest.problems import read_problems
from penstock.lifecycle.collector import Collected, Collector, Conclude, Setup, Task
from penstock.lifecycle.crew import PROCESSES, Crew
from penstock.lifecycle.inflow import Inflow, Segment
from penstock.lifecycle.merge import over_rounds

PROCESS_BYTES_MIN: Final = 4 * 1024 * 1024
"""From so many bytes of rows and input on, the work is done in processes of its own."""


class Files(msgspec.Struct, frozen=True, kw_only=True):
    """What a job's rows are put together with, and where that goes."""

    spool: Spool
    """Of the process, for what is half done."""
    blobs: Blobs
    """For the output."""
    input_path: Path
    """Of a shard: its parent's, as the index."""
    index_path: Path
    twins_path: Path | None = None
    """Where lines were not sent because others have the same request; of the job's lines only."""
    problems_path: Path | None = None
    """Where lines were put aside."""
    base_output_path: Path | None = None
    """In a later round: what the one before wrote, of the job's lines or of all of the input."""
    base_index_path: Path | None = None


def task_of(
    files: Files,
    job: Job,
    price: Price | None,
    rows: list[int],
    kept: int,
    opened: Callable[[Path], int],
) -> Task:
    """Return what is the same for all of a job; `opened` opens a file and sees to its end."""

    def opened_if(path: Path | None) -> int | None:
        return None if path is None else opened(path)

    lines = job.line_range
    return Task(
        tag=job.line_tag,
        price=price,
        round=job.round,
        first_line=lines.start,
        last_line=lines.stop - 1,
        rows=rows,
        kept=kept,
        input=opened(files.input_path),
        index=opened(files.index_path),
        twins=opened_if(files.twins_path),
        base_output=opened_if(files.base_output_path),
        base_index=opened_if(files.base_index_path),
        selection=job.selection,
        problems={} if files.problems_path is None else read_problems(files.problems_path),
    )


class Gather:
    """The rows of one job, from their arrival to the output."""

    def __init__(
        self,
        files: Files,
        job: Job,
        price: Price | None,
        slots: Semaphore,
        kind: str = "output",
    ) -> None:
        """Take a semaphore that bounds how many jobs have processes at once.

        The names of what is written begin with its kind.
        """
        self._given = files
        self._spool = files.spool
        self._job = job
        # Of this run alone: one that was frozen must not replace what another one delivered.
        name = f"{kind}-{token_hex(4)}"
        self.output_name = f"{name}.jsonl"
        self.index_name = f"{name}.index"
        self._price = price
        self._slots = slots
        self._files = ExitStack()
        self._rows = [self._nameless("rows")]
        self._inflow = Inflow(self._rows[0])
        self._segments: list[Segment] = []
        """What nobody was told to read yet."""
        self._outputs: tuple[Part, Part] | None = None
        """The output and its row index."""
        self._has_written = False
        self._crew: Crew | None = None
        self._has_slot = False

    async def feed(self, block: bytes) -> None:
        """Take the next bytes of the current shard, cut anywhere; wait for those who read it."""
        if self._crew is not None and self._inflow.is_full:
            await self._crew.turn()
            await in_thread(self._inflow.turn)
        self._segments += await in_thread(partial(self._inflow.feed, block))
        if self._crew is None and self._is_large and not self._slots.locked():
            await self._hire()
        self._pass_on()

    def end_shard(self) -> None:
        """Take the end of a shard."""
        self._segments += self._inflow.end_shard()
        self._pass_on()

    async def conclude(self, told: Conclude) -> Collected:
        """Write the output, or nothing; return what it says."""
        if self._crew is None and self._is_large:
            await self._hire()
            self._pass_on()
        if self._crew is None:
            collected = await in_thread(partial(self._here, told))
        else:
            collected = await self._crew.conclude(told)
        self._has_written = collected.merged is not None
        strangers = collected.strangers + self._inflow.too_long
        return msgspec.structs.replace(
            collected,
            strangers=strangers,
            merged=None if collected.merged is None else over_rounds(self._job, collected.merged),
        )

    async def commit(self) -> None:
        """Make the output and its row index durable and put them in their place, if there are."""
        if self._outputs is not None and self._has_written:
            output, index = self._outputs
            await self._given.blobs.commit(
                self._job.id, {self.output_name: output, self.index_name: index}
            )

    async def __aenter__(self) -> Self:
        """Return itself; what it made for its work goes with the block."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the processes and remove what is half done."""
        try:
            if self._crew is not None:
                await self._crew.dismiss()
        finally:
            if self._has_slot:
                self._slots.release()
            await asyncio.to_thread(self._clear)

    @property
    def _is_large(self) -> bool:
        return self._inflow.size + self._job.input_bytes >= PROCESS_BYTES_MIN

    def _pass_on(self) -> None:
        if self._crew is not None:
            self._crew.read(self._segments)
            self._segments = []

    def _clear(self) -> None:
        self._files.close()
        for part in self._outputs or ():
            part.discard()

    def _here(self, told: Conclude) -> Collected:
        """Do all of it in this thread."""
        collector = Collector(self._task())
        records = [collector.read(segment) for segment in self._segments]
        output, index = self._begin()
        told = msgspec.structs.replace(told, reads=[collector.so_far()])
        return collector.conclude(told, records, output.write, index.write)

    async def _hire(self) -> None:
        """Wait until few enough jobs have processes, and start ours."""
        await self._slots.acquire()
        self._has_slot = True
        self._crew = await Crew.hire(await in_thread(self._open_all))

    def _begin(self) -> tuple[Part, Part]:
        self._outputs = (
            self._spool.begin(self._job.id, OUTPUT),
            self._spool.begin(self._job.id, self.index_name),
        )
        return self._outputs

    def _open_all(self) -> Setup:
        self._rows.append(self._nameless("more-rows"))
        self._inflow.alternate(self._rows[-1])
        output, index = (self._open(part.path, os.O_RDWR) for part in self._begin())
        return Setup(
            task=self._task(),
            output=output,
            output_index=index,
            found=[self._nameless(f"records-{number}") for number in range(PROCESSES)],
            turns=self._nameless("turns"),
        )

    def _task(self) -> Task:
        kept = self._nameless("kept")
        return task_of(self._given, self._job, self._price, self._rows, kept, self._open)

    def _nameless(self, name: str) -> int:
        """Return the descriptor of a new file, which has no name any more."""
        path = self._spool.scratch(self._job.id, name)
        descriptor = self._open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        path.unlink()
        return descriptor

    def _open(self, path: Path, flags: int = os.O_RDONLY) -> int:
        descriptor = os.open(path, flags, 0o600)
        self._files.callback(os.close, descriptor)
        return descriptor
