"""supply: a large input is made by a process, whose end nobody has to see to but the supply."""

import asyncio
import fcntl
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path

import pytest
from tests.lifecycle.fakes import World, input_of, store_input

from penstock.blobs.bucket import Stat
from penstock.blobs.spool import INPUT, INPUT_INDEX
from penstock.core.job import Job
from penstock.core.limits import Limits
from penstock.core.options import Options
from penstock.core.state import JobState
from penstock.errors import BlobCorrupt, ProviderUnreachable, Unavailable
from penstock.lifecycle.prepare import prepare
from penstock.lifecycle.preparer import Order
from penstock.lifecycle.provider_input import BLOCK_BYTES, Bounds, Source
from penstock.lifecycle.supply import PROCESS_BYTES_MIN, Elsewhere, open_supply, pipe
from penstock.lifecycle.twins import TWINS

SMALL, LARGE = 0, PROCESS_BYTES_MIN
TEXTS = [f"{number}" + "x" * 100_000 for number in range(60)]
"""More than the pipe and what is made ahead of it."""

AHEAD_BYTES = 2 * BLOCK_BYTES
"""What the pipe holds, and the block that the process has at hand."""


def children() -> set[str]:
    """The processes that this one has started and that are not gone."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split())


def descriptors() -> set[str]:
    """What this process has open."""
    return {one.name for one in Path("/proc/self/fd").iterdir()}


def number_of(pid: int, file: str, name: str) -> int:
    """Return what the system says of a process."""
    lines = Path(f"/proc/{pid}/{file}").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def variables(pid: int) -> set[str]:
    """The names in the environment that a process was started with."""
    found = Path(f"/proc/{pid}/environ").read_text(encoding="utf-8").split("\0")
    return {variable.partition("=")[0] for variable in found if variable}


@contextmanager
def order_of(world: World, job: Job) -> Iterator[Order]:
    """Open the files of a job."""
    files = [os.open(world.spool.path(job.id, name), os.O_RDONLY) for name in (INPUT, INPUT_INDEX)]
    source = Source(input=files[0], index=files[1], tag=job.line_tag, line_count=job.line_count)
    try:
        yield Order(source=source, bounds=Bounds(bytes_max=2**30, lines_max=2**20))
    finally:
        for descriptor in files:
            os.close(descriptor)


async def with_lines(world: World, texts: list[str], input_bytes: int, **more: object) -> Job:
    """Commit a job of lines, so large that a process prepares it, or not."""
    job = await world.job(line_count=len(texts), input_bytes=input_bytes, **more)
    store_input(world.spool, job.id, input_of(texts))
    return job


async def test_a_process_prepares_what_this_one_does(world: World) -> None:
    """Small or large: the same objects, shards and twins, and no process or file stays."""
    texts = ["a", "b", "a", "c", *TEXTS[:30], "a", TEXTS[0], TEXTS[0]]
    found = []
    for size in (SMALL, LARGE):
        before = children(), descriptors()
        job = await with_lines(world, texts, size, options=Options(shards=3))
        await prepare(world.ports(limits=Limits(provider_lines_max=9)), job.id)
        sent = [data.replace(job.line_tag.encode(), b"-") for data in world.bucket.objects.values()]
        world.bucket.objects.clear()
        shards = [
            (one.first_line, one.last_line, one.input_bytes, one.twin_count)
            for one in await world.jobs.shards_of(job.id)
        ]
        twins = world.spool.path(job.id, TWINS).read_bytes()
        found.append((sent, shards, twins, (await world.now(job)).twin_count))
        assert (children(), descriptors()) == before
    assert found[0] == found[1]
    assert len(found[0][0]) == 4
    assert found[0][3] == 2


async def test_blocks_are_no_larger_and_no_thread_makes_them(world: World) -> None:
    """What the bucket gets at once is a megabyte at most, whatever the lines are."""
    job = await with_lines(world, ["x" * 3 * BLOCK_BYTES, "y"], LARGE)
    await prepare(world.ports(), job.id)
    assert max(world.bucket.blocks) <= BLOCK_BYTES
    assert sum(world.bucket.blocks) > 3 * BLOCK_BYTES
    assert (await world.now(job)).state is JobState.PREPARED


async def test_a_job_of_which_nothing_is_left_has_no_object(world: World) -> None:
    """The process says so before anything is sent."""
    job = await with_lines(world, ["bad"], LARGE)
    with order_of(world, job) as order:
        order.source.left_out.append(1)
        supply = await open_supply(order, LARGE)
        assert (supply.state.is_over, supply.state.cut) == (True, None)
        await supply.close()


async def test_a_damaged_input_is_said_as_by_this_process(world: World) -> None:
    """The error is the same, and no process or descriptor stays."""
    job = await with_lines(world, ["a", "b"], LARGE)
    world.spool.path(job.id, INPUT).write_bytes(b'{"request":')
    with order_of(world, job) as order:
        before = children(), descriptors()
        for size in (SMALL, LARGE):
            with pytest.raises(BlobCorrupt, match=r"Line 1 of the stored input is damaged\."):
                await open_supply(order, size)
        assert (children(), descriptors()) == before


async def test_a_killed_process_fails_the_try_and_the_next_one_works(world: World) -> None:
    """The reason stands on the job while it waits; then everything is sent from the beginning."""
    job = await with_lines(world, TEXTS, LARGE)
    before = children()
    put = world.bucket.put
    details = []

    async def deadly(name: str, blocks: AsyncIterator[bytes]) -> Stat:
        world.bucket.put = put  # type: ignore[method-assign]  # only once
        await anext(blocks)
        for pid in children() - before:
            os.kill(int(pid), signal.SIGKILL)
        return await put(name, blocks)

    async def look() -> None:
        details.append((await world.now(job)).status_detail)

    world.bucket.put = deadly  # type: ignore[method-assign]  # kills what prepares
    world.clock.at(1, look)
    await prepare(world.ports(), job.id)
    assert details == ["The process that prepared the input ended with -9."]
    (whole,) = world.bucket.objects.values()
    assert len(whole.splitlines()) == len(TEXTS)
    assert children() == before


async def test_a_bucket_that_takes_no_more_ends_the_process(world: World) -> None:
    """What fails in the middle is begun anew by another process, under another name."""
    job = await with_lines(world, TEXTS, LARGE)
    before = children(), descriptors()
    put = world.bucket.put

    async def full(_name: str, blocks: AsyncIterator[bytes]) -> Stat:
        world.bucket.put = put  # type: ignore[method-assign]  # only once
        await anext(blocks)
        raise ProviderUnreachable("Cloud Storage could not write: no room")

    async def look() -> None:
        assert (children(), descriptors()) == before

    world.bucket.put = full  # type: ignore[assignment,method-assign]  # fails in the middle
    world.clock.at(1, look)
    await prepare(world.ports(), job.id)
    assert (await world.now(job)).state is JobState.PREPARED
    (whole,) = world.bucket.objects.values()
    assert len(whole.splitlines()) == len(TEXTS)


async def test_a_cancel_ends_the_process(world: World) -> None:
    """A server that stops while the bucket hangs leaves no process, no descriptor and no object."""
    job = await with_lines(world, TEXTS, LARGE)
    before = children(), descriptors()
    stuck = asyncio.Event()

    async def hanging(_name: str, blocks: AsyncIterator[bytes]) -> Stat:
        await anext(blocks)
        stuck.set()
        await asyncio.Event().wait()
        raise AssertionError

    world.bucket.put = hanging  # type: ignore[method-assign,assignment]  # never ends
    task = asyncio.create_task(prepare(world.ports(), job.id))
    await stuck.wait()
    assert len(children()) == len(before[0]) + 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (children(), descriptors()) == before
    assert world.bucket.objects == {}


class Watched(Elsewhere):
    """Says when it waits for the process."""

    waits = asyncio.Event()

    async def _readable(self) -> None:
        self.waits.set()
        await super()._readable()


async def test_a_cancel_while_it_waits_for_the_process_ends_it(world: World) -> None:
    """Whoever waits for the next block when the server stops lets go of the pipe."""
    job = await with_lines(world, TEXTS, LARGE)
    with order_of(world, job) as order:
        before = children(), descriptors()
        supply = await Watched.begin(order)
        os.kill(supply._process.pid, signal.SIGSTOP)
        Watched.waits = asyncio.Event()

        async def take() -> None:
            try:
                async with aclosing(supply.blocks()) as blocks:
                    async for _ in blocks:
                        pass
            finally:
                await supply.close()

        task = asyncio.create_task(take())
        await Watched.waits.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (children(), descriptors()) == before


@pytest.mark.parametrize("turns", [1, 2, 3, None])
async def test_a_cancel_while_the_process_starts_leaves_none(
    world: World, turns: int | None
) -> None:
    """Neither a process nor its pipe: after some turns of the loop, or when it is waited for."""
    job = await with_lines(world, ["a"], LARGE)
    with order_of(world, job) as order:
        before = children(), descriptors()
        Watched.waits = asyncio.Event()
        beginning = asyncio.create_task(Watched.begin(order))
        for _ in range(turns or 0):
            await asyncio.sleep(0)
        if turns is None:
            await Watched.waits.wait()
        beginning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await beginning
        assert (children(), descriptors()) == before


async def test_a_process_that_cannot_start_is_an_error_to_try_again(world: World) -> None:
    """Where the system gives no process, nothing is lost but time."""
    job = await with_lines(world, ["a"], LARGE)
    with order_of(world, job) as order:
        before = descriptors()
        with pytest.raises(Unavailable, match="No process could be started: No such file"):
            await Elsewhere.begin(order, program="/nonexistent/python")
        assert descriptors() == before


async def test_a_process_ends_when_its_server_does(world: World) -> None:
    """What a killed server leaves behind ends by itself, in order: its pipes are closed."""
    job = await with_lines(world, TEXTS, LARGE)
    with order_of(world, job) as order:
        supply = await Elsewhere.begin(order)
        os.close(supply._frames)
        assert await supply._process.wait() == 0


async def test_a_slow_bucket_holds_the_process_up(world: World) -> None:
    """It is never further than the pipe ahead, knows no secret, and stays small."""
    texts = [f"{number}" + "x" * 100_000 for number in range(300)]
    job = await with_lines(world, texts, LARGE)
    with order_of(world, job) as order:
        supply = await Elsewhere.begin(order)
        pid = supply._process.pid
        assert variables(pid) <= {
            "PYTHONPATH",
            "MALLOC_MMAP_THRESHOLD_",
            "MALLOC_TRIM_THRESHOLD_",
        }
        taken = peak = 0
        async for piece in supply.blocks():
            taken += len(piece)
            # It still has to write more than it may be ahead, so it lives.
            if taken < sum(map(len, texts)) - AHEAD_BYTES:
                assert number_of(pid, "io", "wchar") <= taken + AHEAD_BYTES
                peak = max(peak, number_of(pid, "status", "VmRSS"))
        await supply.leaders()
        await supply.close()
    assert taken > 300 * 100_000
    assert 0 < peak * 1024 < 60_000_000


def test_a_pipe_is_as_large_as_the_system_allows() -> None:
    """Where it may not be enlarged, or cannot, it has the usual size."""

    def refused(*_: object) -> int:
        raise PermissionError

    sizes = []
    for made in (pipe(2**18), pipe(2**18, refused), pipe(2**18, None)):
        sizes.append(fcntl.fcntl(made[1], fcntl.F_GETPIPE_SZ))
        for end in made:
            os.close(end)
    assert sizes == [2**18, 2**16, 2**16]
