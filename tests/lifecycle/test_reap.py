"""reap: beats, takes over the silent, and outlives errors."""

import asyncio
import logging
from contextlib import suppress

import pytest
import sqlalchemy as sa
from tests.fake_clock import START, FakeClock
from tests.lifecycle.fakes import Steps, Stopped

from penstock.lifecycle.reap import Reaper
from penstock.settings import Timing
from penstock.store import tables
from penstock.store.store import Store

TIMING = Timing(heartbeat_seconds=2.0, worker_lost_seconds=8.0)


class Taker:
    """An engine that notes whose work it took over; fails on request."""

    def __init__(self, *, failures: int = 0, works: int = 3) -> None:
        self._works = works
        self.taken: list[str] = []
        self._failures = failures

    async def take_over(self, executor_id: str) -> int:
        self.taken.append(executor_id)
        if self._failures:
            self._failures -= 1
            raise OSError("the disk is gone")
        return self._works


async def run(store: Store, taker: Taker, clock: Steps) -> None:
    """Run a reaper named `me` until its clock stops it."""
    reaper = Reaper(store.workers, clock, TIMING, "me", taker)
    try:
        await reaper.run()
    except Stopped:
        return


async def known(store: Store) -> dict[str, float]:
    """All executors with their last heartbeat."""
    query = sa.select(tables.workers.c.executor_id, tables.workers.c.heartbeat_at)
    async with store._engine.connect() as connection:
        return {row[0]: row[1] for row in await connection.execute(query)}


async def test_it_beats(quick_store: Store) -> None:
    """Each round moves the heartbeat to the current time."""
    await quick_store.workers.join("me", START)
    await run(quick_store, Taker(), Steps(3))
    assert await known(quick_store) == {"me": START + 6.0}


async def test_it_takes_over_the_silent(quick_store: Store) -> None:
    """An executor without a heartbeat for its time loses its work."""
    await quick_store.workers.join("silent", START)
    taker = Taker()
    await run(quick_store, taker, Steps(5))
    assert taker.taken == ["silent"]


async def test_the_silent_stay_known_for_long(quick_store: Store) -> None:
    """It may wake up, begin something and die before its next beat; that work is found, too."""
    await quick_store.workers.join("frozen", START - Timing().worker_forgotten_seconds)
    taker = Taker()
    await run(quick_store, taker, Steps(6))
    assert taker.taken == ["frozen"] * 5
    assert list(await known(quick_store)) == ["me"]


async def test_without_work_there_is_nothing_to_report(
    quick_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Looking again after the work of the dead says nothing when there is none."""
    await quick_store.workers.join("silent", START - 100.0)
    caplog.set_level(logging.INFO, "penstock.lifecycle.reap")
    await run(quick_store, Taker(works=0), Steps(3))
    assert caplog.records == []


async def test_it_leaves_the_living_alone(quick_store: Store) -> None:
    """A heartbeat within the time keeps the work."""
    await quick_store.workers.join("other", START)
    taker = Taker()
    await run(quick_store, taker, Steps(4))
    assert taker.taken == []


async def test_it_never_takes_over_itself(quick_store: Store) -> None:
    """After a freeze its own heartbeat is old; its work is still its own."""
    await quick_store.workers.join("me", START - 1000.0)
    taker = Taker()
    reaper = Reaper(quick_store.workers, FakeClock(), TIMING, "me", taker)
    await reaper._take_over_silent(START, forget_since=START)
    assert taker.taken == []


async def test_alone_it_takes_over_everybody_at_once(quick_store: Store) -> None:
    """Whoever holds the directory alone knows that all others are dead, lately seen or not."""
    await quick_store.workers.join("before", START)
    taker = Taker()
    await Reaper(quick_store.workers, FakeClock(), TIMING, "me", taker).begin(alone=True)
    assert taker.taken == ["before"]
    assert list(await known(quick_store)) == ["me"]


async def test_it_is_known_before_it_works(quick_store: Store) -> None:
    """Announcing comes first, and beginning does not mind."""
    reaper = Reaper(quick_store.workers, FakeClock(), TIMING, "me", Taker())
    await reaper.announce()
    assert list(await known(quick_store)) == ["me"]
    await reaper.begin(alone=True)
    assert list(await known(quick_store)) == ["me"]


async def test_beside_others_it_only_announces_itself(quick_store: Store) -> None:
    """A process among several waits for real silence."""
    await quick_store.workers.join("other", START)
    taker = Taker()
    await Reaper(quick_store.workers, FakeClock(), TIMING, "me", taker).begin(alone=False)
    assert (taker.taken, sorted(await known(quick_store))) == ([], ["me", "other"])


class Outage(Steps):
    """A clock in whose n-th sleep nobody could beat for a while."""

    def __init__(self, sleeps: int, *, gap_at: int, gap_seconds: float) -> None:
        super().__init__(sleeps)
        self._gap_at = gap_at
        self._gap_seconds = gap_seconds

    async def sleep(self, seconds: float) -> None:
        if len(self.slept) == self._gap_at:
            self.advance(self._gap_seconds)
        await super().sleep(seconds)


async def taken_rounds(store: Store, clock: Steps) -> list[int]:
    """In which rounds the one that is silent from the beginning was taken over."""
    taker = Taker()
    rounds: list[int] = []

    async def take_over(executor_id: str) -> int:
        assert executor_id == "silent"
        rounds.append(len(clock.slept))
        return 0

    taker.take_over = take_over  # type: ignore[method-assign]  # notes the round, too
    await store.workers.join("silent", START)
    reaper = Reaper(store.workers, clock, TIMING, "me", taker)
    await reaper.announce()
    await reaper.begin(alone=False)
    with suppress(Stopped):
        await reaper.run()
    return rounds


async def test_an_outage_is_not_held_against_the_others(quick_store: Store) -> None:
    """Time in which this process could not beat does not count; a calm while later, it does."""
    # Silent for 2 + 100 + 2 s, of which 102 are excused until 8 s after the gap.
    clock = Outage(8, gap_at=1, gap_seconds=100.0)
    assert await taken_rounds(quick_store, clock) == [6, 7, 8]


async def test_without_an_outage_the_silent_one_has_its_time(quick_store: Store) -> None:
    """Lost after 8 s, seen every 2: the fifth round is the first that takes over."""
    assert await taken_rounds(quick_store, Steps(6)) == [5, 6]


async def test_one_that_leaves_is_taken_over_at_once(quick_store: Store) -> None:
    """Nobody waits for its silence; and it stays known, in case its last write comes late."""
    clock = Steps(2)
    other = Reaper(quick_store.workers, clock, TIMING, "other", Taker())
    await other.announce()
    await other.leave()
    taker = Taker()
    await run(quick_store, taker, clock)
    assert taker.taken == ["other", "other"]
    assert sorted(await known(quick_store)) == ["me", "other"]


async def test_leaving_without_a_database_is_told(
    quick_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """The end of a process does not fail; the others find out by themselves."""
    async with quick_store._engine.begin() as connection:
        await connection.execute(sa.text("PRAGMA query_only = ON"))
    with caplog.at_level(logging.WARNING):
        await Reaper(quick_store.workers, FakeClock(), TIMING, "me", Taker()).leave()
    assert "could not hand the work on" in caplog.text


async def test_an_error_costs_one_round(quick_store: Store) -> None:
    """A take-over that fails is logged and tried again; the silent one is not forgotten before."""
    await quick_store.workers.join("silent", START - 1000.0)
    taker = Taker(failures=2)
    await run(quick_store, taker, Steps(5))
    assert taker.taken == ["silent"] * 3
    assert list(await known(quick_store)) == ["me"]


async def test_it_stops_when_told(quick_store: Store) -> None:
    """A cancelled task ends; the boundary does not swallow that."""
    task = asyncio.create_task(
        Reaper(quick_store.workers, FakeClock(), TIMING, "me", Taker()).run()
    )
    await asyncio.sleep(0)
    task.cancel()
    (result,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(result, asyncio.CancelledError)
