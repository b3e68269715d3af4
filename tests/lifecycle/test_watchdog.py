"""watchdog: who takes longer than others is told of once a round, and nobody too early."""

import asyncio
import logging
from collections.abc import Callable

import pytest
from tests.fake_clock import START, FakeClock
from tests.lifecycle.fakes import Steps, Stopped

from penstock.clock import Clock
from penstock.core.job import Job
from penstock.core.state import JobState
from penstock.core.waiting import WaitingRules
from penstock.errors import DatabaseUnavailable
from penstock.lifecycle.watchdog import Watchdog
from penstock.store.history import History, OpenTime, Pasts
from penstock.store.store import Store

MakeJob = Callable[..., Job]
RULES = WaitingRules(samples_min=20, slow_seconds_min=60, cache_seconds=0)
MODEL = "gemini-3-flash-preview"


def dog(store: Store, clock: Clock, rules: WaitingRules = RULES) -> Watchdog:
    """A watchdog over a store."""
    return Watchdog(store.history, Pasts(store.history, clock, rules), rules)


async def add_past(store: Store, new_job: MakeJob, number: int = 20) -> None:
    """Let jobs have waited 100 s and run 200 s."""
    for _ in range(number):
        await store.jobs.add(
            new_job(
                state=JobState.SUCCEEDED,
                created_at=START - 400,
                running_since=START - 300,
                finished_at=START - 100,
            )
        )


async def kinds(store: Store, job: Job) -> list[str]:
    """What happened to a job."""
    return [kind for kind, _ in await store.jobs.events(job.id)]


async def test_a_job_that_waits_too_long_is_told_of_once(
    quick_store: Store, new_job: MakeJob
) -> None:
    """Not at the time that the others took, once just after it, and never again."""
    await add_past(quick_store, new_job)
    job = new_job(created_at=START)
    await quick_store.jobs.add(job)
    clock = FakeClock(START + 100)
    one, other = dog(quick_store, clock), dog(quick_store, clock)
    assert await one.look() == 0
    clock.advance(1)
    assert sum(await asyncio.gather(one.look(), other.look())) == 1
    clock.advance(9_999)
    assert await one.look() == 0
    (told,) = [text for kind, text in await quick_store.jobs.events(job.id) if kind == "slow"]
    assert told == (
        "It has been waiting for 1 min 41 s; 95 of 100 other jobs of gemini-3-flash-preview "
        "waited no longer than 1 min 40 s."
    )


async def test_a_job_that_runs_is_measured_by_runs(quick_store: Store, new_job: MakeJob) -> None:
    """However long it had waited before, its run counts from its beginning."""
    await add_past(quick_store, new_job)
    job = new_job(
        state=JobState.RUNNING, created_at=START - 9_000, running_since=START, provider_job="p/1"
    )
    await quick_store.jobs.add(job)
    clock = FakeClock(START + 200)
    assert await dog(quick_store, clock).look() == 0
    clock.advance(1)
    assert await dog(quick_store, clock).look() == 1
    ((_, told),) = [one for one in await quick_store.jobs.events(job.id) if one[0] == "slow"]
    assert told.startswith("It has been running for 3 min 21 s; 95 of 100 other jobs of ")


async def test_below_the_floor_nothing_is_slow(quick_store: Store, new_job: MakeJob) -> None:
    """Where the others took less, a job has the time that the setting gives."""
    await add_past(quick_store, new_job)
    await quick_store.jobs.add(new_job(created_at=START))
    clock = FakeClock(START + 3_600)
    one = dog(quick_store, clock, WaitingRules(slow_seconds_min=3_600, cache_seconds=0))
    assert await one.look() == 0
    clock.advance(1)
    assert await one.look() == 1


async def test_of_too_few_others_nothing_is_said(quick_store: Store, new_job: MakeJob) -> None:
    """One job fewer than the setting asks for: then nobody knows what is slow."""
    await add_past(quick_store, new_job, 19)
    job = new_job(created_at=START - 9_999)
    await quick_store.jobs.add(job)
    assert await dog(quick_store, FakeClock()).look() == 0
    assert "slow" not in await kinds(quick_store, job)


async def test_a_later_round_is_told_of_again(quick_store: Store, new_job: MakeJob) -> None:
    """What was told of the round before does not count for this one."""
    await add_past(quick_store, new_job)
    job = new_job(round=2, created_at=START - 999, slow_at=START - 500, round_began_at=START)
    await quick_store.jobs.add(job)
    clock = FakeClock(START + 101)
    assert await dog(quick_store, clock).look() == 1
    assert await dog(quick_store, clock).look() == 0


async def test_one_look_tells_of_so_many(quick_store: Store, new_job: MakeJob) -> None:
    """After an outage the rest is left for the next look, the oldest first."""
    await add_past(quick_store, new_job)
    jobs = [new_job(created_at=START - number) for number in range(3)]
    for job in jobs:
        await quick_store.jobs.add(job)
    pasts = Pasts(quick_store.history, FakeClock(START + 5_000), RULES)
    one = Watchdog(quick_store.history, pasts, RULES, marks_max=2)
    assert await one.look() == 2
    assert "slow" not in await kinds(quick_store, jobs[0])
    assert await one.look() == 1


class Flaky(History):
    """A history that does not answer the first time."""

    looks = 0

    async def open_times(self, began_before: float) -> list[OpenTime]:
        """Fail once."""
        self.looks += 1
        if self.looks == 1:
            raise DatabaseUnavailable("down")
        return await super().open_times(began_before)


async def test_the_loop_outlives_a_database_that_is_down(
    quick_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """A look that fails is logged, and the next one comes at its time."""
    history, clock = Flaky(quick_store._engine), Steps(3)
    one = Watchdog(history, Pasts(history, clock, RULES), RULES)
    with caplog.at_level(logging.ERROR), pytest.raises(Stopped):
        await one.run()
    assert history.looks == 3
    assert clock.slept == [RULES.look_seconds] * 3
    assert "looking for slow jobs failed" in caplog.text


async def test_nobody_need_look(quick_store: Store) -> None:
    """With 0 seconds between looks there are none."""
    clock = Steps(0)
    await dog(quick_store, clock, WaitingRules(look_seconds=0)).run()
    assert clock.slept == []
