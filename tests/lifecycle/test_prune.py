"""prune: bytes without a row go, everything else stays."""

import logging
from collections.abc import AsyncIterator

import msgspec
import pytest
from tests.blobs.places import names_of, opened
from tests.emulator.driver import Emulator
from tests.lifecycle.fakes import Steps, Stopped, World, input_of, store_input

from penstock.blobs.spool import INPUT, INPUT_INDEX, OUTPUT
from penstock.core.job import Job, JobId, OrgId
from penstock.errors import DatabaseUnavailable
from penstock.lifecycle.ports import Ports
from penstock.lifecycle.prune import (
    ORPHANS_MAX,
    ROWS,
    keep_keys_pruned,
    keep_pruned,
    prune_orphans,
)
from penstock.settings import Timing
from penstock.store.idempotency import Claim, Idempotency
from penstock.store.store import Store

DAY = 86_400.0
HOUR = 3_600.0
MINE, FOREIGN = "output-00000001.jsonl", "output-00000002.jsonl"


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


async def test_outputs_that_no_row_names_go(world: World) -> None:
    """Each died collector left one; a running job has none yet, so all of its are such."""
    ended = await world.with_input(input_of(["a"]), **done(world, MINE))
    old = await world.with_input(input_of(["a"]), **done(world, None))
    open_job = await world.running()
    for job, names in ((ended, (MINE, FOREIGN)), (old, (OUTPUT, FOREIGN)), (open_job, (MINE,))):
        await put(world, job, *names)
    assert await prune_orphans(world.ports()) == 3
    found = await names_of(world.blobs)
    assert found[ended.id] == [INPUT_INDEX, INPUT, MINE]
    assert found[old.id] == [INPUT_INDEX, INPUT, OUTPUT]
    assert found[open_job.id] == []


async def test_a_wrong_database_removes_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """More jobs without a row than with one, and many: nobody's typing error costs the inputs."""
    for number in range(ORPHANS_MAX + 1):
        (world.spool._jobs / f"req_{number}").mkdir()
    with caplog.at_level(logging.ERROR):
        assert await prune_orphans(world.ports()) == 0
    assert len(list(world.spool.job_ids())) == ORPHANS_MAX + 1
    assert "another database" in caplog.text


async def test_many_jobs_are_looked_at_in_groups(world: World) -> None:
    """None is forgotten at the seam of two groups, and none at the end."""
    jobs = [await world.job() for _ in range(ROWS + 1)]
    for job in jobs:
        (world.spool._jobs / job.id).mkdir()
    (world.spool._jobs / "req_orphan").mkdir()
    assert await prune_orphans(world.ports()) == 1
    assert sorted(world.spool.job_ids()) == sorted(job.id for job in jobs)


def done(world: World, output_name: str | None) -> dict[str, object]:
    """The fields of a job that has ended."""
    return {
        "state": "succeeded",
        "finished_at": world.clock.now(),
        "output_name": output_name,
    }


async def put(world: World, job: Job, *names: str) -> None:
    """Write files of a job."""
    for name in names:
        part = world.spool.begin(job.id, name)
        part.write(b"lines")
        await world.blobs.commit(job.id, {name: part})


# -- a place that others use, too ----------------------------------------------------------------


@pytest.fixture
async def shared(world: World, emulator: Emulator) -> AsyncIterator[World]:
    """A world whose blobs lie there."""
    async with opened("gs", emulator.url, "prune", world.spool) as blobs:
        world.blobs = blobs
        yield world


async def looks(world: World, count: int = 1, **changes: float) -> None:
    """Let a worker look so often, an hour apart."""
    clock = Steps(count)
    clock.advance(world.clock.now() - clock.now())
    timing = Timing(prune_seconds=HOUR, **changes)
    ports: Ports = world.ports(timing=timing, clock=clock)
    with pytest.raises(Stopped):
        await keep_pruned(ports)


async def test_only_old_orphans_go(shared: World) -> None:
    """A job that may be in the middle of its commit is never touched, a day later it is gone."""
    young = await shared.job(id="req_young")
    for job_id in ("req_orphan", young.id):
        await put(shared, shared.make(id=job_id), INPUT, INPUT_INDEX)
    shared.clock.advance(DAY - HOUR - 1)
    await looks(shared)
    assert sorted(await names_of(shared.blobs)) == ["req_orphan", "req_young"]
    shared.clock.advance(2)
    await looks(shared)
    assert await names_of(shared.blobs) == {"req_young": [INPUT_INDEX, INPUT]}


async def test_one_young_file_keeps_the_folder(shared: World) -> None:
    """A submission that is tried again writes its files anew, one after the other."""
    orphan = shared.make(id="req_orphan")
    await put(shared, orphan, INPUT, INPUT_INDEX)
    shared.clock.advance(DAY)
    await put(shared, orphan, INPUT)
    await looks(shared)
    assert await names_of(shared.blobs) == {"req_orphan": [INPUT_INDEX, INPUT]}


async def test_an_upload_that_is_still_open_keeps_its_files(shared: World) -> None:
    """However short the setting: until an upload's end its job may still be committed."""
    await put(shared, shared.make(id="req_orphan"), INPUT)
    shared.clock.advance(DAY - 2 * HOUR)
    await looks(shared, orphan_seconds=1.0)
    assert list(await names_of(shared.blobs)) == ["req_orphan"]


async def test_outputs_go_when_their_job_has_ended(shared: World) -> None:
    """As long as a job is open somebody who was frozen may still name one of them."""
    ended = await shared.job(id="req_ended", **done(shared, MINE))
    collecting = await shared.job(id="req_open", state="collecting", provider_job="p")
    for job in (ended, collecting):
        await put(shared, job, INPUT, MINE, FOREIGN)
    shared.clock.advance(DAY)
    await put(shared, ended, "output-00000003.jsonl")
    await looks(shared)
    assert await names_of(shared.blobs) == {
        "req_ended": [INPUT, MINE, "output-00000003.jsonl"],
        "req_open": [INPUT, MINE, FOREIGN],
    }


async def test_a_start_prunes_nothing_that_is_shared(shared: World) -> None:
    """Another process may be accepting; only this one's own half-written files go."""
    await put(shared, shared.make(id="req_orphan"), INPUT)
    shared.clock.advance(10 * DAY)
    left = shared.spool.begin("req_dead", INPUT)
    left.close()
    assert await prune_orphans(shared.ports()) == 1
    assert list(await names_of(shared.blobs)) == ["req_orphan"]


async def test_a_look_that_fails_is_not_the_last(
    shared: World, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    """The storage was away once; an hour later the orphan goes."""
    await put(shared, shared.make(id="req_orphan"), INPUT)
    shared.clock.advance(DAY)
    emulator.rule(when={"call": "object_list"}, then={"status": 403}, times=1)
    with caplog.at_level(logging.ERROR):
        await looks(shared, 2)
    assert "trying again" in caplog.text
    assert await names_of(shared.blobs) == {}


class Forgetful(Idempotency):
    """Keys of a database that is away at first; afterwards the loop is ended."""

    failures = 1

    async def prune(self, kept_seconds: float, at: float) -> int:
        """Fail once, prune once, and then stop."""
        self.failures -= 1
        if self.failures == 0:
            raise DatabaseUnavailable("The database went away.")
        if self.failures < -1:
            raise Stopped
        return await super().prune(kept_seconds, at)


async def test_old_idempotency_keys_are_forgotten(
    world: World, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Each hour, also after one in which the database was away."""
    keys = Forgetful(store._engine)
    old = Claim(org_id=OrgId("acme"), route="r", key="k", job_id=JobId("j"), token="t")
    await keys.claim(old, world.clock.now(), 30.0)
    world.clock.advance(8 * DAY)
    with pytest.raises(Stopped), caplog.at_level(logging.ERROR):
        await keep_keys_pruned(keys, world.ports())
    assert "trying again" in caplog.text
    assert world.clock.slept == [3_600.0] * 3
    young = msgspec.structs.replace(old, token="u")
    assert await keys.claim(young, world.clock.now(), 30.0) == young


async def test_a_directory_needs_no_looks(world: World) -> None:
    """It was pruned at the start, and nobody else writes to it."""
    await keep_pruned(world.ports())
    assert world.clock.slept == []
