"""gather: the same output from this process and from others, and nothing left behind by either."""

import asyncio
import os
import signal
from array import array
from asyncio import Semaphore
from collections.abc import Callable
from pathlib import Path
from typing import cast

import msgspec
import pytest
from tests.fake_clock import START
from tests.lifecycle.fakes import input_of, row_of, store_input

from penstock.blobs.local import LocalBlobs
from penstock.blobs.spool import INPUT, INPUT_INDEX, Spool
from penstock.core.job import Job, JobId
from penstock.core.line import LineKey, LineOutcome
from penstock.core.models import SEED_CATALOGUE
from penstock.core.options import Selection
from penstock.errors import Problem, StorageFull, Unavailable
from penstock.ingest.problems import pack_problem
from penstock.lifecycle.collector import Collected, Conclude, Pause, Read, Setup
from penstock.lifecycle.crew import Crew, _heard, _tell
from penstock.lifecycle.gather import PROCESS_BYTES_MIN, Files, Gather
from penstock.lifecycle.inflow import ROW_BYTES_MAX, SEGMENT_BYTES, Inflow
from penstock.lifecycle.merge import Missing

JOB = JobId("req_aaaaaaaaaaaaaaaaaaaaaaaaaa")
PRICE = SEED_CATALOGUE["gemini-3-flash-preview"].price
TEXTS = [f"t{number}" for number in range(1, 6)]
CONCLUDE = Conclude(
    missing=Missing(code="missing_row", message="No row."), now=START, only_with_rows=True
)
SMALL, LARGE = 0, PROCESS_BYTES_MIN

Make = Callable[..., Gather]


@pytest.fixture
def make(spool: Spool, new_job: Callable[..., Job]) -> Make:
    """Gather the rows of a job of five lines; its size says who does the work."""
    store_input(spool, JOB, input_of(TEXTS))

    def made(input_bytes: int, slots: Semaphore | None = None) -> Gather:
        files = Files(
            spool=spool,
            blobs=LocalBlobs(spool),
            input_path=spool.path(JOB, INPUT),
            index_path=spool.path(JOB, INPUT_INDEX),
        )
        job = new_job(id=JOB, line_count=len(TEXTS), input_bytes=input_bytes)
        return Gather(files, job, PRICE, slots or Semaphore(1))

    return made


def rows(*numbers: int) -> bytes:
    """Rows of the job."""
    return b"".join(row_of(JOB, number, f"t{number}") + b"\n" for number in numbers)


async def feed(gather: Gather) -> None:
    """Feed three shards, one row of them nobody's and one repeated."""
    for shard in (rows(5, 4), rows(1, 9), rows(3, 1)):
        await gather.feed(shard)
        gather.end_shard()


def pids(gather: Gather) -> list[int]:
    """The processes that work for it."""
    assert gather._crew is not None
    return [process.pid for process in gather._crew._processes]


def is_alive(pid: int) -> bool:
    """Whether there is such a process."""
    return Path(f"/proc/{pid}").exists()


def children() -> set[str]:
    """The processes that this one has started and that are not gone."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split())


def variables(pid: int) -> set[str]:
    """The names in the environment that a process was started with."""
    found = Path(f"/proc/{pid}/environ").read_text(encoding="utf-8").split("\0")
    return {variable.partition("=")[0] for variable in found if variable}


async def test_processes_write_what_this_one_writes(make: Make, spool: Spool) -> None:
    """Small or large: the same bytes, the same sums, and nothing but the output is left."""
    results: list[tuple[Collected, bytes, bytes]] = []
    for size in (SMALL, LARGE):
        async with make(size) as gather:
            await feed(gather)
            collected = await gather.conclude(CONCLUDE)
            await gather.commit()
        names = gather.output_name, gather.index_name
        output, index = (spool.path(JOB, name).read_bytes() for name in names)
        results.append((collected, output, index))
        assert (spool.clear_incoming(), gather._crew is None) == (0, size == SMALL)
    assert results[0] == results[1]
    collected, output, _ = results[0]
    assert (collected.duplicates, collected.strangers) == (1, 1)
    assert collected.merged is not None
    assert (collected.merged.counts.ok, collected.merged.counts.missing) == (4, 1)
    assert len(output.splitlines()) == 5


async def test_a_later_round_adds_to_those_before(
    spool: Spool, tmp_path: Path, new_job: Callable[..., Job]
) -> None:
    """With twins, a line put aside and an output before, in this process and in others alike."""
    store_input(spool, JOB, input_of([*TEXTS[:4], "t4"]))
    (tmp_path / "twins").write_bytes(array("I", [1, 2, 3, 4, 4]).tobytes())
    (tmp_path / "problems").write_bytes(pack_problem(2, Problem(code="bad", message="Bad.")))
    given = Files(
        spool=spool,
        blobs=LocalBlobs(spool),
        input_path=spool.path(JOB, INPUT),
        index_path=spool.path(JOB, INPUT_INDEX),
        twins_path=tmp_path / "twins",
        problems_path=tmp_path / "problems",
    )
    job = new_job(id=JOB, line_count=5, input_bytes=SMALL)
    async with Gather(given, job, PRICE, Semaphore(1), "partial") as gather:
        await gather.feed(rows(1, 2))
        gather.end_shard()
        first = (await gather.conclude(CONCLUDE)).merged
        await gather.commit()
    assert first is not None
    assert (gather.output_name[:8], gather.index_name[:8]) == ("partial-", "partial-")
    given = msgspec.structs.replace(
        given,
        base_output_path=spool.path(JOB, gather.output_name),
        base_index_path=spool.path(JOB, gather.index_name),
    )
    results = []
    for size in (SMALL, LARGE):
        again = msgspec.structs.replace(
            job,
            input_bytes=size,
            round=2,
            selection=Selection(outcomes=(LineOutcome.MISSING,)),
            counts=first.counts,
            bill=first.bill,
        )
        async with Gather(given, again, PRICE, Semaphore(1)) as gather:
            keys = LineKey(again.line_tag)
            await gather.feed(
                b"".join(
                    row_of(JOB, number, f"t{number}", key=keys.of(number)) + b"\n"
                    for number in (4, 1)
                )
            )
            gather.end_shard()
            collected = await gather.conclude(CONCLUDE)
            await gather.commit()
        output, index = (
            spool.path(JOB, name).read_bytes() for name in (gather.output_name, gather.index_name)
        )
        results.append((collected, output, index))
    assert results[0] == results[1]
    second, output, _ = results[0]
    assert second.merged is not None
    # The row for line 1 is nobody's: it was not sent again.
    assert second.strangers == 1
    counts, bill = second.merged.counts, second.merged.bill
    assert (counts.ok, counts.error, counts.missing, counts.prompt_tokens) == (3, 1, 1, 4)
    assert (second.merged.spent.lines, bill.by_outcome["ok"].lines) == (1, 2)
    assert (second.merged.cost_micro_dollars, bill.twin_micro_dollars) == (10, 5)
    assert len(output.splitlines()) == 5


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_without_rows_there_is_no_output(make: Make, spool: Spool, size: int) -> None:
    """If so ordered, nothing is written, and nothing half-made stays."""
    async with make(size) as gather:
        collected = await gather.conclude(CONCLUDE)
        await gather.commit()
    assert collected == Collected(duplicates=0, strangers=0, merged=None)
    assert spool.clear_incoming() == 0
    assert sorted(spool.files(JOB)) == [INPUT_INDEX, INPUT]


async def test_a_row_that_was_skipped_is_a_stranger(make: Make) -> None:
    """Rows that were too long to be read are counted with those of nobody."""
    async with make(SMALL) as gather:
        gather._inflow.feed(bytes(ROW_BYTES_MAX + 1))
        gather.end_shard()
        gather._inflow.size = 0
        assert (await gather.conclude(CONCLUDE)).strangers == 1


async def test_processes_begin_while_rows_arrive(make: Make) -> None:
    """They are started as soon as the output is known to be large, without any secret."""
    async with make(LARGE) as gather:
        await gather.feed(rows(1))
        for pid in pids(gather):
            assert variables(pid) <= {
                "PYTHONPATH",
                "MALLOC_MMAP_THRESHOLD_",
                "MALLOC_TRIM_THRESHOLD_",
            }
    assert not any(map(is_alive, pids(gather)))


async def test_rows_that_were_read_make_room_for_others(make: Make) -> None:
    """Many times what the files hold goes through them, and each line gets its own row."""
    filler = b" " * 50_000 + b"\n"
    async with make(LARGE) as gather:
        gather._inflow = inflow = Inflow(gather._rows[0], file_bytes=2 * SEGMENT_BYTES)
        for number in (5, 3, 1, 4, 2):
            for _ in range(50):
                await gather.feed(filler)
            await gather.feed(rows(number))
            gather.end_shard()
        collected = await gather.conclude(CONCLUDE)
        sizes = [os.fstat(file).st_size for file in gather._rows]
    assert collected.merged is not None
    assert (collected.merged.counts.ok, collected.strangers) == (5, 0)
    assert inflow.size > 5 * 50 * len(filler) > 2 * sum(sizes)


async def test_a_process_that_is_killed_while_rows_come_is_noticed(make: Make) -> None:
    """Nobody waits for what it was to read."""

    async def go_on(gather: Gather) -> None:
        for _ in range(10):
            await gather.feed(b" " * 2000 + b"\n")

    async with make(LARGE) as gather:
        gather._inflow = Inflow(gather._rows[0], file_bytes=1000)
        await gather.feed(rows(1))
        os.kill(pids(gather)[0], signal.SIGKILL)
        with pytest.raises(Unavailable, match="ended with -9"):
            await go_on(gather)


@pytest.mark.parametrize("which", [0, 1])
async def test_a_killed_process_fails_the_try(make: Make, spool: Spool, which: int) -> None:
    """The error says that it may be tried again, and the next try finds a clean place."""
    async with make(LARGE) as gather:
        await feed(gather)
        os.kill(pids(gather)[which], signal.SIGKILL)
        with pytest.raises(Unavailable, match="ended with -9"):
            await gather.conclude(CONCLUDE)
    assert spool.clear_incoming() == 0
    assert not any(map(is_alive, pids(gather)))


async def test_a_process_that_is_killed_while_it_helps_costs_nothing(make: Make) -> None:
    """Once all rows are read, the first can do without the other."""
    async with make(LARGE) as gather:
        await feed(gather)
        assert gather._crew is not None
        first, other = gather._crew._processes
        reads = []
        for process in (first, other):
            _tell(process, Pause())
            reads.append(cast(Read, await _heard(process)))
        other.kill()
        await other.wait()
        _tell(first, msgspec.structs.replace(CONCLUDE, reads=reads))
        collected = cast(Collected, await _heard(first))
    assert collected.merged is not None
    assert (collected.merged.counts.ok, collected.duplicates) == (4, 1)


async def test_processes_end_when_their_server_does(make: Make) -> None:
    """What a killed server leaves behind ends by itself: its pipes are closed."""
    async with make(LARGE) as gather:
        await gather.feed(rows(1))
        assert gather._crew is not None
        for process in gather._crew._processes:
            assert process.stdin is not None
            process.stdin.close()
            assert await process.wait() == 0


async def test_a_cancel_ends_the_processes(make: Make, spool: Spool) -> None:
    """A server that stops in order leaves no process and no file."""
    fed, never = asyncio.Event(), asyncio.Event()
    gather = make(LARGE)

    async def work() -> None:
        async with gather:
            await feed(gather)
            fed.set()
            await never.wait()

    task = asyncio.create_task(work())
    await fed.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert spool.clear_incoming() == 0
    assert not any(map(is_alive, pids(gather)))


async def test_few_jobs_have_processes_at_once(make: Make) -> None:
    """A job that finds all slots taken copies its rows, and has them read when a slot is free."""
    slots = Semaphore(1)
    await slots.acquire()
    async with make(LARGE, slots) as gather:
        await feed(gather)
        assert gather._crew is None
        slots.release()
        collected = await gather.conclude(CONCLUDE)
        await gather.commit()
    assert collected.merged is not None
    assert collected.merged.counts.ok == 4
    assert not slots.locked()


async def test_a_full_disk_is_storage_full(make: Make) -> None:
    """What a process could not write is the same error as if it had been this one."""
    async with make(LARGE) as gather:
        await feed(gather)
        full = gather._open(Path("/dev/full"), os.O_WRONLY)
        setup = Setup(
            task=gather._task(),
            output=full,
            output_index=full,
            found=[gather._nameless("records")],
            turns=gather._nameless("turns"),
        )
        crew = await Crew.hire(setup)
        crew.read(gather._segments)
        try:
            with pytest.raises(StorageFull, match="No space left"):
                await crew.conclude(
                    Conclude(missing=CONCLUDE.missing, now=START, only_with_rows=False)
                )
        finally:
            await crew.dismiss()


async def test_a_process_that_cannot_start_is_an_error_to_try_again(make: Make) -> None:
    """Where the system gives no process, nothing is lost but time."""
    async with make(LARGE) as gather:
        with pytest.raises(Unavailable, match="No process could be started: No such file"):
            await Crew.hire(gather._open_all(), program="/nonexistent/python")


async def test_a_cancel_while_processes_start_leaves_none(make: Make) -> None:
    """Whoever is being started when the server stops is ended, too."""
    before = children()
    async with make(LARGE) as gather:
        hiring = asyncio.create_task(Crew.hire(gather._open_all()))
        await asyncio.sleep(0)
        hiring.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hiring
    assert children() <= before
