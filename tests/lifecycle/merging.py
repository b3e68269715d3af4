"""A merge of whatever a job may have: rows, twins, lines put aside, a round before, a range."""

import os
import socket
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from threading import Thread

import msgspec
from tests.fake_clock import START
from tests.lifecycle.reading import Reading

from penstock.core.job import JobId
from penstock.core.line_index import Entry, LineIndex
from penstock.core.models import SEED_CATALOGUE, Price
from penstock.core.options import Selection
from penstock.errors import Problem
from penstock.lifecycle.merge import Merge, Merged, Missing
from penstock.lifecycle.sent import Base
from penstock.lifecycle.stripes import Splicer, Stripes, help_with

JOB = JobId("req_aaaaaaaaaaaaaaaaaaaaaaaaaa")
PRICE = SEED_CATALOGUE["gemini-3-flash-preview"].price
MISSING = Missing(code="missing_row", message="The provider gave no row for this line.")


class Made(msgspec.Struct, frozen=True):
    """What a merge made."""

    output: bytes
    index: bytes
    merged: Merged

    @property
    def lines(self) -> list[bytes]:
        """The lines of the output, each with its newline."""
        return self.output.splitlines(keepends=True)

    @property
    def found(self) -> LineIndex:
        """The row index."""
        return LineIndex(lambda offset, size: self.index[offset : offset + size])

    @property
    def entries(self) -> list[Entry]:
        """What the row index says of each line."""
        found = self.found
        return [found.entry(number) for number in range(1, found.line_count + 1)]

    @property
    def endings(self) -> list[tuple[str, str]]:
        """Outcome and code of each line."""
        return [(one.outcome.value, one.code) for one in self.entries]


@contextmanager
def helping(splicer: Splicer) -> Iterator[int]:
    """Have a thread put stripes together; yields the socket of whoever gives them."""
    mine, theirs = socket.socketpair()
    thread = Thread(target=help_with, args=(theirs.detach(), splicer))
    thread.start()
    try:
        yield mine.detach()
    finally:
        thread.join(timeout=20)
        assert not thread.is_alive()


def merge_all(
    folder: Path,
    raw: bytes,
    rows: Iterable[bytes],
    *,
    price: Price | None = PRICE,
    missing: Missing = MISSING,
    numbers: range | None = None,
    leaders: Sequence[int] | None = None,
    problems: Mapping[int, Problem] | None = None,
    base: Made | None = None,
    selection: Selection | None = None,
    others: int | None = None,
) -> Made:
    """Merge rows into an input; a base makes it the second round.

    With `others`, so many others write stripes of it.
    """
    blocks: list[bytes] = []
    with ExitStack() as stack:

        def opened(name: str, data: bytes) -> int:
            (folder / name).write_bytes(data)
            descriptor = os.open(folder / name, os.O_RDWR)
            stack.callback(os.close, descriptor)
            return descriptor

        lines = numbers or range(1, raw.count(b"\n") + 1)
        before = None
        if base is not None:
            files = opened("base", base.output), opened("base.index", base.index)
            before = Base(*files, lines)
        twins = None if leaders is None else opened("twins", array("I", leaders).tobytes())
        known = {"twins": twins, "problems": problems, "base": before, "selection": selection}
        reading = stack.enter_context(Reading(folder, JOB, raw, price, lines, **known))
        reading.feed([b"\n".join(rows)])
        round_ = 1 if base is None else 2
        merge = Merge(reading.shards, reading.totals, missing, START, round_)
        if others is None:
            merged = merge.write(blocks.append)
        else:
            output = opened("striped", b"")
            splicer = Splicer(reading.lines, reading.kept, output)
            helped = [stack.enter_context(helping(splicer)) for _ in range(others)]
            with closing(Stripes(splicer, output, helped)) as stripes:
                merged = merge.write_stripes(stripes)
            blocks.append((folder / "striped").read_bytes())
        index = b"".join(merge.index.pieces())
    return Made(b"".join(blocks), index, merged)
