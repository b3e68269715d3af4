"""reap: beats, takes over the silent, and outlives errors."""

import asyncio
import logging

import pytest
import sqlalchemy as sa
from tests.fake_clock import START, FakeClock
from tests.lifecycle.fakes import Steps, Stopped

from penstock.lifecycle.reap import FORGOTTEN_SECONDS, Reaper
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
    await quick_store.workers.join("frozen", START - FORGOTTEN_SECONDS)
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
