"""Idempotency keys: of all who use one at once, one makes the job, and the others find it."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest
import sqlalchemy as sa
from tests.fake_clock import START
from tests.store.driver import look

from penstock.core.job import Job, JobId, OrgId, new_job_id
from penstock.errors import Conflict
from penstock.store import tables
from penstock.store.admission import Admission
from penstock.store.idempotency import Claim, InFlight, Memory
from penstock.store.store import Store

LOST_SECONDS = 30.0
WEEK = 7 * 86_400.0
ACME = OrgId("acme")

MakeJob = Callable[..., Job]


def claim(token: str = "t1", **changes: str) -> Claim:  # noqa: S107  # a word for a test
    """A wish for a key."""
    first = Claim(org_id=ACME, route="POST /requests", key="k", job_id=new_job_id(), token=token)
    return msgspec.structs.replace(first, **changes)


async def ask(store: Store, wish: Claim, at: float = START) -> Claim | Memory | InFlight:
    """Claim it."""
    return await store.idempotency.claim(wish, at, LOST_SECONDS)


async def age(store: Store, seconds: float) -> None:
    """Put all times back, by whichever clock they are."""
    keys = tables.idempotency
    async with store._engine.begin() as connection:
        await connection.execute(
            sa.update(keys).values(
                created_at=keys.c.created_at - seconds, seen_at=keys.c.seen_at - seconds
            )
        )


async def commit(store: Store, held: Claim, job: Job, fingerprint: str = "f") -> None:
    """Commit the job under its key."""
    named = msgspec.structs.replace(job, id=held.job_id)
    await store.jobs.add(named, Admission(claim=held, fingerprint=fingerprint))


async def test_the_first_one_gets_the_key(store: Store) -> None:
    """A second request with the key meets the first one, whoever else has other keys."""
    first = claim()
    assert await ask(store, first) == first
    found = await ask(store, claim("t2"))
    assert isinstance(found, InFlight)
    assert 0 < found.seconds_left <= LOST_SECONDS
    for other in (claim(key="K"), claim(route="another"), claim(org_id="rival")):
        assert await ask(store, other) == other


async def test_a_committed_key_is_remembered(store: Store, new_job: MakeJob) -> None:
    """From the commit on the key stands for the job, for as long as it is kept."""
    held = claim()
    await ask(store, held)
    await commit(store, held, new_job())
    await age(store, WEEK - 60)
    assert await store.idempotency.prune(WEEK, START) == 0
    assert await ask(store, claim("t2")) == Memory(job_id=held.job_id, fingerprint="f")


async def test_a_released_key_is_free(store: Store) -> None:
    """A refusal gives the key back at once; releasing twice is harmless."""
    held = claim()
    await ask(store, held)
    for _ in range(2):
        await store.idempotency.release(held)
    again = claim("t2")
    assert await ask(store, again) == again


async def test_a_memory_cannot_be_released(store: Store, new_job: MakeJob) -> None:
    """Who does not know whether his commit took effect may release: what is done stays."""
    held = claim()
    await ask(store, held)
    await commit(store, held, new_job())
    await store.idempotency.release(held)
    assert isinstance(await ask(store, claim("t2")), Memory)


async def test_a_silent_claimant_loses_the_key(store: Store, new_job: MakeJob) -> None:
    """After the time without a sign of life another one takes over; the first commits nothing."""
    lost = claim()
    await ask(store, lost)
    await age(store, LOST_SECONDS + 1)
    taken = claim("t2")
    assert await ask(store, taken) == taken
    before = look(store, "SELECT count(*) FROM usage")
    with pytest.raises(Conflict) as refused:
        await commit(store, lost, new_job())
    assert refused.value.error_code == "idempotency_lost"
    assert look(store, "SELECT count(*) FROM usage") == before
    # What the lost one still does to the key does nothing.
    await store.idempotency.beat(lost, START + 99)
    await store.idempotency.release(lost)
    await commit(store, taken, new_job())
    assert look(store, "SELECT id FROM jobs") == [(taken.job_id,)]
    with pytest.raises(Conflict):
        await commit(store, lost, new_job())


async def test_signs_of_life_keep_the_key(store: Store) -> None:
    """A request that runs for hours keeps its key, as long as it is heard of."""
    held = claim()
    await ask(store, held)
    await age(store, LOST_SECONDS + 1)
    await store.idempotency.beat(held, START)
    assert isinstance(await ask(store, claim("t2")), InFlight)


async def test_a_killed_claimant_is_waited_for(store: Store, new_job: MakeJob) -> None:
    """Killed before the commit: the key is taken over after a while, and there is one job."""
    await ask(store, claim())
    found = await ask(store, claim("t2"), START + 1)
    assert isinstance(found, InFlight)
    await age(store, found.seconds_left)
    again = claim("t3")
    assert await ask(store, again, START + 1) == again
    await commit(store, again, new_job())
    assert await ask(store, claim("t4")) == Memory(job_id=again.job_id, fingerprint="f")


async def test_old_keys_are_pruned(store: Store, new_job: MakeJob) -> None:
    """Kept for as long as the setting says; one that is in use is kept."""
    held, running = claim(), claim(key="running")
    for one in (held, running):
        await ask(store, one)
    await commit(store, held, new_job())
    await age(store, WEEK + 1)
    await store.idempotency.beat(running, START)
    assert await store.idempotency.prune(WEEK, START) == 1
    fresh = claim("t2")
    assert await ask(store, fresh) == fresh
    assert isinstance(await ask(store, claim("t3", key="running")), InFlight)


@pytest.mark.parametrize("location", ["postgres"], indirect=True)
async def test_a_key_that_is_released_meanwhile_is_asked_for_again(store: Store) -> None:
    """Gone between the two looks of a claim, it is in flight for a moment more."""
    await ask(store, claim())

    @sa.event.listens_for(store._engine.sync_engine, "before_cursor_execute")
    def release(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("SELECT idempotency"):
            look(store, "DELETE FROM idempotency")

    assert await ask(store, claim("t2")) == InFlight(seconds_left=0.0)


@pytest.mark.slow
async def test_a_thousand_at_once_make_one_job(stores: list[Store], new_job: MakeJob) -> None:
    """1,000 requests with one key over four stores: one job, which all of them end up with."""
    gate = asyncio.Semaphore(40)

    async def submit(number: int) -> JobId:
        while True:
            async with gate:
                wish = claim(f"t{number}")
                found = await ask(stores[number % 4], wish)
                if isinstance(found, Memory):
                    return found.job_id
                if isinstance(found, Claim):
                    await commit(stores[number % 4], found, new_job())
                    return found.job_id

    made = await asyncio.gather(*(submit(number) for number in range(1_000)))
    assert [(one,) for one in set(made)] == look(stores[0], "SELECT id FROM jobs")
