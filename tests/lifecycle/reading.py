"""Rows on their way from a shard to what is known of each line: one process, a real disk."""

import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lifecycle.fakes import index_rows

from penstock.core.job import JobId, tag_of
from penstock.core.line import LineKey
from penstock.core.models import Price
from penstock.ingest.index import pack_rows
from penstock.lifecycle.rows import Lines, Reader
from penstock.lifecycle.shards import Inflow, Segment, Shards
from penstock.lifecycle.totals import Totals


class Reading:
    """The input of a job, and the shards that are fed for it."""

    def __init__(self, folder: Path, job_id: JobId, raw: bytes, price: Price | None = None) -> None:
        (folder / "input").write_bytes(raw)
        (folder / "index").write_bytes(pack_rows(index_rows(raw)))
        self._file = (folder / "scratch").open("w+b", buffering=0)
        self._inputs = [os.open(folder / name, os.O_RDONLY) for name in ("input", "index")]
        self.scratch = self._file.fileno()
        self.lines = Lines(*self._inputs)
        self.totals = Totals(price)
        self.reader = Reader(LineKey(tag_of(job_id)), self.lines, self.totals)
        self.shards = Shards(self.scratch, self.lines.count, self.totals)
        self.inflow = Inflow(self._file.write)
        self.segments: list[Segment] = []

    def feed(self, *shards: Iterable[bytes]) -> Self:
        """Take shards, each given as its chunks."""
        for shard in shards:
            for chunk in shard:
                self._read(self.inflow.feed(chunk))
            self._read(self.inflow.end_shard())
        return self

    def flag(self, number: int) -> int:
        """What is known of a line."""
        return self.shards.flag(number)

    def row(self, number: int) -> bytes:
        """The row of a line."""
        return self.shards.row(number)

    @property
    def strangers(self) -> int:
        """Rows that are nobody's."""
        return self.reader.strangers + self.inflow.too_long

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        for descriptor in self._inputs:
            os.close(descriptor)

    def _read(self, segments: list[Segment]) -> None:
        self.segments += segments
        for segment in segments:
            rows = os.pread(self.scratch, segment.size, segment.offset)
            self.shards.put(self.reader.read(rows, segment.offset))
