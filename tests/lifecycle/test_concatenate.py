"""concatenate: the shards of a job, one behind the other, are the output that one job has."""

import hashlib
from array import array
from asyncio import Semaphore
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tests.fake_clock import START
from tests.lifecycle.fakes import input_of, row_of, store_input

from penstock.blobs.local import LocalBlobs
from penstock.blobs.spool import INPUT, INPUT_INDEX, Spool
from penstock.core.bill import Share
from penstock.core.job import Counts, Job, JobId
from penstock.core.line import LineKey, LineOutcome
from penstock.core.line_index import LineIndex
from penstock.core.models import SEED_CATALOGUE
from penstock.errors import BlobCorrupt, Problem
from penstock.ingest.problems import pack_problem
from penstock.lifecycle.collector import Conclude
from penstock.lifecycle.concatenate import Concatenation
from penstock.lifecycle.gather import Files, Gather
from penstock.lifecycle.merge import Merged, Missing

JOB = JobId("req_aaaaaaaaaaaaaaaaaaaaaaaaaa")
PRICE = SEED_CATALOGUE["gemini-3-flash-preview"].price
LINES = 7
TEXTS = [f"t{number}" for number in range(1, LINES + 1)]
MISSING = Missing(code="missing_row", message="No row.")
GONE = Missing(outcome=LineOutcome.EXPIRED, code="expired", message="Too late.")
LEADERS = [1, 2, 3, 4, 5, 6, 6]
"""The last line is a twin."""


class Shop:
    """A job of seven lines, one put aside and one a twin, that can be collected in ranges."""

    def __init__(self, spool: Spool, folder: Path, new_job: Callable[..., Job]) -> None:
        store_input(spool, JOB, input_of([*TEXTS[:-1], TEXTS[-2]]))
        (folder / "twins").write_bytes(array("I", LEADERS).tobytes())
        (folder / "problems").write_bytes(pack_problem(2, Problem(code="bad", message="Bad.")))
        self.spool = spool
        self.job = new_job(id=JOB, line_count=LINES, input_bytes=1, twin_count=1, problem_count=1)
        self.files = Files(
            spool=spool,
            blobs=LocalBlobs(spool),
            input_path=spool.path(JOB, INPUT),
            index_path=spool.path(JOB, INPUT_INDEX),
            twins_path=folder / "twins",
            problems_path=folder / "problems",
        )

    def shard(self, first: int, last: int) -> Job:
        """A shard of these lines."""
        return msgspec.structs.replace(
            self.job,
            id=JobId(f"req_{first:026d}"),
            parent_id=JOB,
            first_line=first,
            last_line=last,
            line_count=last - first + 1,
        )

    async def collected(self, job: Job, *numbers: int) -> tuple[Job, Merged]:
        """Collect a job with rows for these lines; return the row that it has then."""
        async with Gather(self.files, job, PRICE, Semaphore(1)) as gather:
            keys = LineKey(job.line_tag)
            rows = [row_of(job.id, one, f"t{one}", key=keys.of(one)) for one in numbers]
            await gather.feed(b"\n".join(rows))
            gather.end_shard()
            told = Conclude(missing=MISSING, now=START, only_with_rows=False)
            merged = (await gather.conclude(told)).merged
            assert merged is not None
            await gather.commit()
        ended = msgspec.structs.replace(
            job,
            counts=merged.counts,
            bill=merged.bill,
            output_name=gather.output_name,
            index_name=gather.index_name,
        )
        return ended, merged

    def path(self, job: Job, name: str | None) -> Path:
        """Where a file of a job is."""
        return self.spool.path(job.id, name or "")

    async def append(self, whole: Concatenation, shard: Job) -> None:
        """Append a shard that has an output."""
        output, index = (self.path(shard, name) for name in (shard.output_name, shard.index_name))
        await whole.append(shard, output, index)


@pytest.fixture
def shop(spool: Spool, tmp_path: Path, new_job: Callable[..., Job]) -> Shop:
    """A job that can be collected whole or in ranges."""
    return Shop(spool, tmp_path, new_job)


async def test_shards_make_the_output_of_the_whole(shop: Shop) -> None:
    """Byte for byte: the output, the index, the sums and the bill; nothing half done is left."""
    whole, expected = await shop.collected(shop.job, 1, 3, 5, 6)
    first, _ = await shop.collected(shop.shard(1, 3), 1, 3)
    second, _ = await shop.collected(shop.shard(4, 4))
    third, _ = await shop.collected(shop.shard(5, 7), 5, 6)
    async with Concatenation(shop.files, shop.job, PRICE) as joined:
        for shard in (first, second, third):
            await shop.append(joined, shard)
        merged = await joined.conclude()
        await joined.commit()
    assert merged == expected
    for name, same in (
        (joined.output_name, whole.output_name),
        (joined.index_name, whole.index_name),
    ):
        assert shop.path(whole, name).read_bytes() == shop.path(whole, same).read_bytes()
    assert merged.counts.ok == 5
    assert merged.bill.by_outcome["ok"] == Share(
        lines=4, prompt_tokens=8, output_tokens=12, micro_dollars=20
    )
    assert merged.bill.twin_micro_dollars == 5
    assert shop.spool.clear_incoming() == 0


async def test_a_shard_without_an_output_becomes_lines_that_say_why(shop: Shop) -> None:
    """Each line of its range is there, one that was put aside as such, and nothing was paid."""
    first, _ = await shop.collected(shop.shard(3, 7), 3, 5)
    async with Concatenation(shop.files, shop.job, PRICE) as joined:
        await joined.append_missing(range(1, 3), GONE, START)
        await shop.append(joined, first)
        merged = await joined.conclude()
        await joined.commit()
    output = shop.path(shop.job, joined.output_name).read_bytes()
    index = shop.path(shop.job, joined.index_name).read_bytes()
    found = LineIndex(lambda offset, size: index[offset : offset + size])
    entries = [found.entry(number) for number in range(1, LINES + 1)]
    assert [(one.outcome.value, one.code) for one in entries[:3]] == [
        ("expired", "expired"),
        ("error", "bad"),
        ("ok", ""),
    ]
    lines = output.splitlines(keepends=True)
    assert [output[one.offset : one.offset + one.length] for one in entries] == lines
    assert merged.output_sha256 == hashlib.sha256(output).hexdigest()
    assert (merged.output_bytes, merged.spent.lines) == (len(output), 2)
    assert merged.counts == Counts(
        ok=2, error=1, expired=1, missing=3, prompt_tokens=4, candidates_tokens=6
    )


async def test_an_unknown_bill_of_a_shard_adds_nothing(shop: Shop) -> None:
    """A shard from an interrupted upgrade has an output and no sums; its lines still count."""
    shard, _ = await shop.collected(shop.shard(1, 7), 1)
    bare = msgspec.structs.replace(shard, counts=None, bill=None)
    async with Concatenation(shop.files, shop.job, None) as joined:
        await shop.append(joined, bare)
        merged = await joined.conclude()
    assert (merged.counts.ok, merged.counts.prompt_tokens) == (1, 0)
    assert merged.cost_micro_dollars is None
    assert shop.spool.clear_incoming() == 0


async def test_no_line_is_left_out_or_said_twice(shop: Shop) -> None:
    """Ranges follow each other from the first line to the last."""
    async with Concatenation(shop.files, shop.job, PRICE) as joined:
        with pytest.raises(BlobCorrupt, match="No shard has line 1"):
            await joined.append_missing(range(2, 4), GONE, START)
        await joined.append_missing(range(1, 4), GONE, START)
        with pytest.raises(BlobCorrupt, match="end before line 4"):
            await joined.conclude()
        await joined.commit()
    assert sorted(shop.spool.files(JOB)) == [INPUT_INDEX, INPUT]


async def test_a_shards_output_must_be_what_its_index_says(shop: Shop) -> None:
    """Of another number of lines, or of other bytes: nothing is put behind it."""
    shard, _ = await shop.collected(shop.shard(1, 7), 1)
    short = msgspec.structs.replace(shard, line_count=6)
    async with Concatenation(shop.files, shop.job, PRICE) as joined:
        with pytest.raises(BlobCorrupt, match="of 6 lines has an output of 7"):
            await shop.append(joined, short)
    with shop.path(shard, shard.output_name).open("ab") as file:
        file.write(b"more\n")
    async with Concatenation(shop.files, shop.job, PRICE) as joined:
        with pytest.raises(BlobCorrupt, match="not what its row index says"):
            await shop.append(joined, shard)
