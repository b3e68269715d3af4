"""Rows on their way from a shard to what is known of each line: one process, a real disk."""

import os
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.lifecycle.fakes import index_rows

from penstock.core.job import JobId, tag_of
from penstock.core.line import LineKey
from penstock.core.models import Price
from penstock.ingest.index import pack_rows
from penstock.lifecycle.inflow import Inflow, Segment
from penstock.lifecycle.kept import Kept
from penstock.lifecycle.rows import Lines, Reader
from penstock.lifecycle.sent import what_was_sent
from penstock.lifecycle.shards import Shards
from penstock.lifecycle.totals import Totals


class Reading:
    """The input of a job, and the shards that are fed for it."""

    def __init__(
        self,
        folder: Path,
        job_id: JobId,
        raw: bytes,
        price: Price | None = None,
        numbers: range | None = None,
        **known: Any,  # noqa: ANN401  # what `what_was_sent` takes
    ) -> None:
        (folder / "input").write_bytes(raw)
        (folder / "index").write_bytes(pack_rows(index_rows(raw)))
        with ExitStack() as stack:
            self._file, kept = (
                stack.enter_context((folder / name).open("w+b", buffering=0))
                for name in ("rows", "kept")
            )
            files = [(folder / name).open("rb") for name in ("input", "index")]
            for file in files:
                stack.callback(file.close)
            self.rows, self.kept = self._file.fileno(), kept.fileno()
            self.lines = Lines(files[0].fileno(), files[1].fileno(), numbers)
            self.sent = what_was_sent(self.lines, **known)
            self._open = stack.pop_all()
        self.totals = Totals(price)
        keys = LineKey(tag_of(job_id))
        self.reader = Reader(keys, self.lines, self.totals, flags=self.sent.flags)
        self._kept = Kept(self.kept)
        self.shards = Shards(self.kept, self.sent, self.totals, self.reader.endings)
        self.inflow = Inflow(self.rows)
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
        """What was kept of the row of a line."""
        return self.shards.kept(self.shards.record(number))

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
        self._open.close()

    def _read(self, segments: list[Segment]) -> None:
        self.segments += segments
        for segment in segments:
            rows = os.pread(self.rows, segment.size, segment.offset)
            records, kept = self.reader.read(rows, self._kept.room(len(rows)))
            self._kept.put(kept)
            self.shards.put(records)
