"""ports: delays, reasons to stop, and an alarm that a cancel rings."""

import asyncio

import pytest
from tests.fake_clock import START, FakeClock
from tests.lifecycle.fakes import Steps, Stopped, World

from penstock.core.job import JobId, StopReason
from penstock.core.limits import Limits
from penstock.core.models import Model
from penstock.errors import InternalError
from penstock.lifecycle.ports import Backoff, CancelWatch, why_stop
from penstock.store.jobs import Jobs

HOUR = 3600.0


class Gate:
    """A clock whose sleepers wait until the test lets time pass."""

    def __init__(self) -> None:
        self._ticks: asyncio.Queue[None] = asyncio.Queue()
        self.sleeping = asyncio.Event()

    def now(self) -> float:
        return START

    def tick(self) -> None:
        """Let one short sleeper wake up."""
        self._ticks.put_nowait(None)

    async def sleep(self, seconds: float) -> None:
        """Wait for a tick; whoever sleeps long, sleeps for ever."""
        self.sleeping.set()
        if seconds > HOUR:
            await asyncio.Event().wait()
        await self._ticks.get()


class Broken:
    """A table of jobs whose first query fails."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self.asked = 0

    async def cancel_requested(self) -> set[JobId]:
        """Fail once."""
        self.asked += 1
        if self.asked == 1:
            raise OSError("the disk is gone")
        return await self._jobs.cancel_requested()


def test_delays_double_up_to_the_most() -> None:
    """Each failure doubles the wait, never over the limit."""
    backoff = Backoff(2.0, 10.0)
    assert [backoff.failed() for _ in range(5)] == [2.0, 4.0, 8.0, 10.0, 10.0]


def test_success_starts_the_delays_over() -> None:
    """After something worked, the next failure waits shortly again."""
    backoff = Backoff(2.0, 10.0)
    backoff.failed()
    backoff.worked()
    assert backoff.failed() == 2.0


@pytest.mark.parametrize(
    ("age", "ran", "cancelled", "reason"),
    [
        (0.0, None, False, None),
        (72 * HOUR - 1, None, False, None),
        (72 * HOUR, None, False, StopReason.QUEUE_EXPIRED),
        (72 * HOUR, None, True, StopReason.CANCELLED),
        (100 * HOUR, 24 * HOUR - 1, False, None),
        (100 * HOUR, 24 * HOUR, False, StopReason.RUN_EXPIRED),
        (100 * HOUR, 24 * HOUR, True, StopReason.CANCELLED),
        (0.0, None, True, StopReason.CANCELLED),
    ],
)
async def test_why_a_job_stops(
    world: World, *, age: float, ran: float | None, cancelled: bool, reason: StopReason | None
) -> None:
    """The queue's limit counts from acceptance until it runs, the run's from then; cancel wins."""
    job = await world.job(
        created_at=START - age,
        running_since=None if ran is None else START - ran,
        cancel_requested_at=START if cancelled else None,
    )
    assert why_stop(job, Limits(), START) is reason


async def test_an_alarm_ends_after_its_seconds(world: World) -> None:
    """Without a cancel the wait is as long as asked for."""
    clock = FakeClock()
    watch = CancelWatch(world.jobs, clock, 1.0)
    await watch.wait(JobId("req_x"), 42.0)
    assert clock.now() == START + 42.0


async def test_a_cancel_rings_the_alarm(world: World) -> None:
    """A waiter of hours wakes at the next look after its owner's cancel."""
    job, other = await world.job(), await world.job()
    gate = Gate()
    watch = CancelWatch(world.jobs, gate, 1.0)
    looking = asyncio.create_task(watch.run())
    waiting = asyncio.create_task(watch.wait(job.id, 100 * HOUR))
    unmoved = asyncio.create_task(watch.wait(other.id, 100 * HOUR))
    await gate.sleeping.wait()
    gate.tick()
    await world.cancel(job)()
    gate.tick()
    await waiting
    assert not unmoved.done()
    for task in (looking, unmoved):
        task.cancel()
    await asyncio.gather(looking, unmoved, return_exceptions=True)


async def test_a_cancel_of_a_job_that_nobody_waits_for_is_nothing(world: World) -> None:
    """The watch wakes only those who wait; the others read the cancel themselves."""
    job, other = await world.job(), await world.job()
    await world.cancel(other)()
    gate = Gate()
    watch = CancelWatch(world.jobs, gate, 1.0)
    looking = asyncio.create_task(watch.run())
    waiting = asyncio.create_task(watch.wait(job.id, 100 * HOUR))
    await gate.sleeping.wait()
    gate.tick()
    await world.cancel(job)()
    gate.tick()
    await waiting
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)


async def test_the_watch_outlives_an_error(world: World) -> None:
    """A query that fails costs one look; later cancels ring all the same."""
    job = await world.job()
    await world.cancel(job)()
    gate = Gate()
    broken = Broken(world.jobs)
    watch = CancelWatch(broken, gate, 1.0)  # type: ignore[arg-type]  # the one query it asks
    waiting = asyncio.create_task(watch.wait(job.id, 100 * HOUR))
    await gate.sleeping.wait()
    looking = asyncio.create_task(watch.run())
    gate.tick()
    gate.tick()
    await waiting
    assert broken.asked == 2
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)


async def test_the_watch_asks_nothing_while_nobody_waits(world: World) -> None:
    """An idle server does not query for cancels."""
    broken = Broken(world.jobs)
    watch = CancelWatch(broken, Steps(3), 1.0)  # type: ignore[arg-type]  # the one query it asks
    with pytest.raises(Stopped):
        await watch.run()
    assert broken.asked == 0


async def test_a_job_without_a_row_is_our_fault(world: World) -> None:
    """A workflow for a job that is not in the table fails loudly."""
    with pytest.raises(InternalError, match="req_none has a workflow, but no row"):
        await world.ports().job(JobId("req_none"))


async def test_a_model_that_left_the_catalogue_still_runs(world: World) -> None:
    """An accepted job keeps its model by its id, at the default location, without a price."""
    job = await world.job(model="gemini-gone")
    ports = world.ports()
    assert ports.model(job) == Model(id="gemini-gone")
    assert ports.location_of(job) == "global"
