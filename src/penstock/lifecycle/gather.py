"""Take a job's rows as they come, and have them collected: here if they are few, else by a crew.

The rows are copied to a scratch file and read there. Which process does it is decided by the bytes:
starting one costs more than to read a few megabytes, and a gigabyte would hold up the API.
"""

import asyncio
import os
from asyncio import Semaphore
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
from penstock.core.job import JobId, tag_of
from penstock.core.models import Price
from penstock.lifecycle.collector import Collected, Collector, Conclude, Task
from penstock.lifecycle.crew import PROCESSES, Crew
from penstock.lifecycle.shards import Inflow, Segment

PROCESS_BYTES_MIN: Final = 4 * 1024 * 1024
"""From so many bytes of rows and input on, the work is done in processes of its own."""


class Files(msgspec.Struct, frozen=True, kw_only=True):
    """What a job's rows are put together with, and where that goes."""

    spool: Spool
    """Of the process, for what is half done."""
    blobs: Blobs
    """For the output."""
    input_path: Path
    index_path: Path


class Gather:
    """The rows of one job, from their arrival to the output."""

    def __init__(
        self, files: Files, job_id: JobId, input_bytes: int, price: Price | None, slots: Semaphore
    ) -> None:
        """Take a semaphore that bounds how many jobs have processes at once."""
        self._given = files
        self._spool = files.spool
        self._job_id = job_id
        # Of this run alone: one that was frozen must not replace what another one delivered.
        self.output_name = f"output-{token_hex(4)}.jsonl"
        self._input_bytes = input_bytes
        self._price = price
        self._slots = slots
        self._files = ExitStack()
        self._scratch = Part(self._spool.scratch(job_id, "rows"))
        self._inflow = Inflow(self._scratch.write)
        self._segments: list[Segment] = []
        """What nobody was told to read yet."""
        self._output: Part | None = None
        self._has_written = False
        self._crew: Crew | None = None
        self._has_slot = False

    async def feed(self, block: bytes) -> None:
        """Take the next bytes of the current shard, cut anywhere."""
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
        return msgspec.structs.replace(collected, strangers=strangers)

    async def commit(self) -> None:
        """Make the output durable and put it in its place, if there is one."""
        if self._output is not None and self._has_written:
            await self._given.blobs.commit(self._job_id, {self.output_name: self._output})

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
        return self._inflow.size + self._input_bytes >= PROCESS_BYTES_MIN

    def _pass_on(self) -> None:
        if self._crew is not None:
            self._crew.read(self._segments)
            self._segments = []

    def _clear(self) -> None:
        self._files.close()
        self._scratch.discard()
        if self._output is not None:
            self._output.discard()

    def _here(self, told: Conclude) -> Collected:
        """Do all of it in this thread."""
        collector = Collector(self._task())
        records = [collector.read(segment) for segment in self._segments]
        self._output = self._spool.begin(self._job_id, OUTPUT)
        told = msgspec.structs.replace(told, reads=[collector.so_far()])
        return collector.conclude(told, records, self._output.write)

    async def _hire(self) -> None:
        """Wait until few enough jobs have processes, and start ours."""
        await self._slots.acquire()
        self._has_slot = True
        task, output, found = await in_thread(self._open_all)
        self._crew = await Crew.hire(task, output, found)

    def _open_all(self) -> tuple[Task, int, list[int]]:
        self._output = self._spool.begin(self._job_id, OUTPUT)
        output = self._open(self._output.path, os.O_WRONLY)
        return self._task(), output, [self._records(number) for number in range(PROCESSES)]

    def _task(self) -> Task:
        return Task(
            tag=tag_of(self._job_id),
            price=self._price,
            scratch=self._open(self._scratch.path, os.O_RDONLY),
            input=self._open(self._given.input_path, os.O_RDONLY),
            index=self._open(self._given.index_path, os.O_RDONLY),
        )

    def _records(self, number: int) -> int:
        """Return the descriptor of a new file of records, which has no name any more."""
        path = self._spool.scratch(self._job_id, f"records-{number}")
        descriptor = self._open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        path.unlink()
        return descriptor

    def _open(self, path: os.PathLike[str], flags: int) -> int:
        descriptor = os.open(path, flags, 0o600)
        self._files.callback(os.close, descriptor)
        return descriptor
