"""durable: partitions, turns and priorities on the real engine, and upgrades to them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from dbos import DBOS, SetWorkflowID
from tests.fake_clock import START
from tests.lifecycle.fakes import NAME, FakeBucket, World, input_of, row_of
from tests.lifecycle.test_durable import (
    PATIENCE_SECONDS,
    Machine,
    engine_template,
    location,
    machine,
    on_server,
)

from penstock.blobs.bucket import Stat
from penstock.core.job import Job, JobId, OrgId
from penstock.core.state import JobState
from penstock.lifecycle.accept import Phase
from penstock.lifecycle.durable import Engine, queue_name, workflow_id
from penstock.lifecycle.turns import Slots, Turns

# Fixtures of the real engine, from where they are made.
__all__ = ["engine_template", "location", "machine", "on_server"]

RIVAL = OrgId("rival")


class Counted(Engine):
    """An engine that tells of each workflow that it enqueued."""

    def __init__(self, *ports: Any) -> None:  # noqa: ANN401  # what Engine takes
        super().__init__(*ports)
        self.starts = asyncio.Semaphore(0)
        self._told: set[JobId] = set()

    async def start(
        self, phase: Phase, job_id: JobId, run: int, org_id: OrgId, priority: int
    ) -> None:
        """Enqueue, then tell, of each job once: on a slow machine it is started again."""
        await super().start(phase, job_id, run, org_id, priority)
        if job_id not in self._told:
            self._told.add(job_id)
            self.starts.release()


class Filling(Counted):
    """The engine of today, as long as it takes nothing."""

    async def _listen(self, phase: Phase) -> None:
        await DBOS.register_queue_async(
            queue_name(phase), worker_concurrency=0, on_conflict="always_update"
        )


class Emptying(Engine):
    """The engine of today over a queue that is full already.

    At its start it puts all again into the queue, where they stay as they are; but on Postgres
    whoever takes the next one passes over a row that is written at that moment.
    """

    async def start(
        self, phase: Phase, job_id: JobId, run: int, org_id: OrgId, priority: int
    ) -> None:
        """Enqueue what comes after."""
        if phase is not Phase.PREPARE:
            await super().start(phase, job_id, run, org_id, priority)


class Older(Counted):
    """The engine as it was before partitions: one queue a phase, and no keys on it."""

    at_once = 2

    def _leave_queues(self) -> None:
        """Look at all, as it did."""

    async def _listen(self, phase: Phase) -> None:
        await DBOS.register_queue_async(
            phase.value,
            worker_concurrency=self.at_once,
            polling_interval_sec=0.05,
            on_conflict="always_update",
        )

    async def start(
        self, phase: Phase, job_id: JobId, run: int, org_id: OrgId, priority: int
    ) -> None:
        """Enqueue without a place, then tell."""
        del org_id, priority
        with SetWorkflowID(workflow_id(phase, job_id, run)):
            await DBOS.enqueue_workflow_async(phase.value, self._workflows[phase], str(job_id), run)
        self.starts.release()


class OlderFilling(Older):
    """The same, as long as it takes nothing."""

    at_once = 0


class Noted(FakeBucket):
    """A bucket that tells of each input, and can be slow for ever."""

    def __init__(self, world: World) -> None:
        super().__init__(world.clock)
        self.puts = asyncio.Semaphore(0)
        self.began: list[str] = []
        self.is_slow = False

    async def put(self, name: str, blocks: AsyncIterator[bytes]) -> Stat:
        """Write, then tell."""
        self.began.append(name)
        self.puts.release()
        if self.is_slow:
            await asyncio.Event().wait()
        return await super().put(name, blocks)


class Line(Turns):
    """Turns that tell of each job that comes."""

    def __init__(self, slots: Slots) -> None:
        super().__init__(slots)
        self.came = asyncio.Semaphore(0)

    @asynccontextmanager
    async def take(self, org_id: OrgId, priority: int) -> AsyncIterator[None]:
        """Tell, and wait for the turn."""
        self.came.release()
        async with super().take(org_id, priority):
            yield


async def times(happened: asyncio.Semaphore, count: int) -> None:
    """Wait until something has happened so often."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        for _ in range(count):
            await happened.acquire()


async def fill(machine: Machine, kind: type[Counted], count: int) -> None:
    """Have a process of that kind enqueue so many workflows, and end."""
    machine.kind = kind
    engine = await machine.boot()
    assert isinstance(engine, Counted)
    await times(engine.starts, count)
    await machine.halt()
    machine.kind = Engine


async def waiting_in(machine: Machine, phase: Phase) -> Job:
    """Commit a job whose next workflow is that of the phase."""
    fields: dict[str, Any] = {}
    if phase is not Phase.PREPARE:
        fields = {"state": "prepared", "provider_input": "gs://fake/input.jsonl"}
        machine.world.bucket._write("input.jsonl", b"{}\n")
    if phase is Phase.COLLECT:
        fields |= {"state": "collecting", "attempt": 1, "provider_job": NAME}
        fields |= {"provider_state": "JOB_STATE_SUCCEEDED", "provider_output": "gs://fake/out"}
    now = machine.clock.now()
    job = await machine.world.with_input(
        input_of(["t1", "t2"]), created_at=now, updated_at=now, **fields
    )
    rows = b"\n".join(row_of(job.id, number, f"t{number}") for number in (1, 2))
    machine.world.bucket.objects["out/predictions.jsonl"] = rows
    return job


@pytest.mark.parametrize("phase", list(Phase))
async def test_what_an_older_version_enqueued_still_runs(machine: Machine, phase: Phase) -> None:
    """A workflow in a queue of old, without a partition, is run to its end after the upgrade."""
    job = await waiting_in(machine, phase)
    await fill(machine, OlderFilling, 1)
    left = machine.rows("SELECT workflow_uuid, queue_name, status FROM workflow_status")
    assert left == [(workflow_id(phase, job.id, 0), phase.value, "ENQUEUED")]
    await machine.boot()
    await machine.until(machine.jobs.ended)
    after = await machine.world.now(job)
    assert (after.state, after.run) == (JobState.SUCCEEDED, 0)


async def test_what_an_older_version_ran_is_taken_over(machine: Machine) -> None:
    """A workflow that was running there goes on here, in its old queue, and its job is posted once.

    What it starts next stands in a partition.
    """
    machine.provider.silent = True
    machine.kind = Older
    await machine.boot()
    job = await machine.accept()
    await machine.until(machine.provider.asked)
    await machine.halt()
    machine.provider.silent, machine.kind = False, Engine
    await machine.boot()
    await machine.until(machine.jobs.ended)
    assert (await machine.world.now(job)).state is JobState.SUCCEEDED
    assert len(machine.provider.posts) == 1
    queues = machine.rows("SELECT queue_name, queue_partition_key FROM workflow_status ORDER BY 1")
    assert queues == [("collect-by-org", "acme"), ("prepare", None), ("run", None)]


async def test_an_older_process_runs_what_a_newer_one_enqueued(machine: Machine) -> None:
    """While both are there in a rolling upgrade, or after going back, nothing is left behind."""
    job = await machine.accept()
    await fill(machine, Filling, 1)
    # As the newer process leaves it, whose queues are in the database.
    machine.rows("UPDATE queues SET worker_concurrency = 2 RETURNING 1")
    machine.kind = Older
    await machine.boot()
    await machine.until(machine.jobs.ended)
    assert (await machine.world.now(job)).state is JobState.SUCCEEDED


async def test_the_lowest_number_goes_first_within_its_organisation(machine: Machine) -> None:
    """Jobs that wait are prepared by their priority, and another organisation's has its turn."""
    await machine.store.tenants.ensure_org(RIVAL, "rival", START)
    await machine.store.tenants.ensure_user("rival-user", RIVAL, "owner", START)
    machine.world.bucket = bucket = Noted(machine.world)
    machine.provider = type(machine.provider)(machine.world)
    machine.provider.silent = True
    now = machine.clock.now()
    names = {}
    for priority in (300, 2_000, 0, 100):
        job = await machine.world.with_input(
            input_of(["t1"]), created_at=now, updated_at=now, priority=priority
        )
        names[job.id] = str(priority)
    theirs = await machine.world.with_input(
        input_of(["t1"]),
        org_id=RIVAL,
        user_id="rival-user",
        created_at=now,
        updated_at=now,
        priority=9_999,
    )
    names[theirs.id] = "theirs"
    await fill(machine, Filling, 5)
    one = Slots(whole=1, each=1)
    machine.slots = {Phase.PREPARE: one, Phase.RUN: Slots(whole=9, each=9), Phase.COLLECT: one}
    machine.kind = Emptying
    await machine.boot()
    await times(bucket.puts, 5)
    await machine.halt()
    order = [names[JobId(name.split("/")[1])] for name in bucket.began]
    assert [name for name in order if name != "theirs"] == ["0", "100", "300", "2000"]
    assert order.index("theirs") <= 1


async def test_jobs_that_wait_for_their_turn_end_with_their_process(machine: Machine) -> None:
    """At the end nothing waits on, and the next process finds the work of all of them."""
    machine.world.bucket = bucket = Noted(machine.world)
    machine.provider = type(machine.provider)(machine.world)
    bucket.is_slow = True
    machine.slots = {phase: Slots(whole=1, each=1) for phase in Phase}
    await machine.store.tenants.ensure_org(RIVAL, "rival", START)
    await machine.store.tenants.ensure_user("rival-user", RIVAL, "owner", START)
    await machine.accept()
    now = machine.clock.now()
    await machine.world.with_input(
        input_of(["t1"]), org_id=RIVAL, user_id="rival-user", created_at=now, updated_at=now
    )
    await fill(machine, Filling, 2)
    engine = await machine.boot()
    engine._turns[Phase.PREPARE] = line = Line(machine.slots[Phase.PREPARE])
    await times(line.came, 2)
    await times(bucket.puts, 1)
    await machine.halt()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert len(bucket.began) == 1
    left = machine.rows("SELECT 1 FROM workflow_status WHERE status IN ('PENDING', 'ENQUEUED')")
    assert len(left) == 2
