"""prune: bytes without a row go, everything else stays."""

from tests.lifecycle.fakes import World, input_of, store_input

from penstock.blobs.spool import INPUT, INPUT_INDEX
from penstock.core.job import JobId
from penstock.lifecycle.prune import prune_orphans


async def test_orphans_go_and_known_jobs_stay(world: World) -> None:
    """A folder whose row was never committed is removed, a job's own files are not touched."""
    job = await world.with_input(input_of(["a"]))
    store_input(world.spool, JobId("req_orphan"), input_of(["b"]))
    assert await prune_orphans(world.ports()) == 1
    assert list(world.spool.job_ids()) == [job.id]
    assert world.spool.path(job.id, INPUT).read_bytes() == input_of(["a"])
    assert world.spool.path(job.id, INPUT_INDEX).is_file()


async def test_half_written_files_go(world: World) -> None:
    """What was being written when the process died is counted and removed."""
    job = await world.job()
    part = world.spool.begin(job.id, INPUT)
    part.write(b"half")
    part.sync()
    assert await prune_orphans(world.ports()) == 1
    assert world.spool.clear_incoming() == 0


async def test_nothing_to_prune_is_nothing(world: World) -> None:
    """A clean directory stays as it is, and ended jobs count as known."""
    await world.with_input(input_of(["a"]), state="cancelled", finished_at=world.clock.now())
    assert await prune_orphans(world.ports()) == 0
    assert len(list(world.spool.job_ids())) == 1
