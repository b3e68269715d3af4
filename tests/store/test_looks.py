"""Looks at running jobs: one wish at a time, and no late writer in the place of a newer one."""

from collections.abc import Callable

import pytest
from tests.fake_clock import START

from penstock.core.job import Job, OrgId
from penstock.core.look import Look
from penstock.store.store import Store

SECONDS = 100.0
ACME = OrgId("acme")
LOOK = Look(
    name="partial-00000001-5-" + "0" * 64 + ".jsonl",
    index_name="partial-00000001.index",
    at=START + 5,
    lines=2,
    size_bytes=5,
    sha256="0" * 64,
)

MakeJob = Callable[..., Job]


async def added(store: Store, make: MakeJob, **fields: object) -> Job:
    """Commit a running job."""
    job = make(**({"state": "running", "provider_job": "p"} | fields))
    await store.jobs.add(job)
    found = await store.jobs.load(job.id)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("fields", "is_written"),
    [
        ({}, True),
        ({"partial_at": START - SECONDS}, True),
        ({"partial_at": START - SECONDS + 1}, False),
        ({"partial_wanted_at": START - 1}, False),
        ({"partial_wanted_at": START - 1, "partial_at": START - 500}, False),
        ({"partial_wanted_at": START - 501, "partial_at": START - 500}, True),
        ({"partial_wanted_at": START - SECONDS}, True),
        ({"state": "collecting"}, False),
        ({"state": "prepared"}, False),
        ({"org_id": "rival"}, False),
    ],
)
async def test_who_may_wish(
    store: Store, new_job: MakeJob, fields: dict[str, object], *, is_written: bool
) -> None:
    """A running job of one's own, not too early, and not while a wish waits that is still young."""
    job = await added(store, new_job, **fields)
    assert await store.looks.wish(ACME, job.id, START, SECONDS) is is_written
    after = await store.jobs.load(job.id)
    assert after is not None
    wanted_at = START if is_written else fields.get("partial_wanted_at")
    assert (after.partial_wanted_at, after.updated_at) == (wanted_at, job.updated_at)


async def test_a_look_is_put_once(store: Store, new_job: MakeJob) -> None:
    """Who knows of an older look, or of none, does not replace the newest."""
    job = await added(store, new_job)
    assert await store.looks.put(job, LOOK)
    after = await store.jobs.load(job.id)
    assert after is not None
    assert (after.partial_name, after.partial_lines) == (LOOK.name, 2)
    assert not await store.looks.put(job, LOOK)
    assert not await store.looks.see_nothing(job, START)
    assert await store.looks.put(after, LOOK)


async def test_a_look_is_forgotten_after_the_end(store: Store, new_job: MakeJob) -> None:
    """All that stood in the row goes, but only of the look that is meant and no running job."""
    running = await added(store, new_job, partial_name=LOOK.name)
    ended = await added(store, new_job, state="collecting", partial_name=LOOK.name, partial_at=1.0)
    for job in (running, ended):
        await store.looks.forget(job.id, "partial-other.jsonl")
        assert (await store.jobs.load(job.id)) == job
        await store.looks.forget(job.id, LOOK.name)
    assert await store.jobs.load(running.id) == running
    after = await store.jobs.load(ended.id)
    assert after is not None
    assert (after.partial_name, after.partial_at) == (None, None)


async def test_a_wish_can_be_given_up(store: Store, new_job: MakeJob) -> None:
    """Then it is gone, and another one may be written at once."""
    job = await added(store, new_job, partial_wanted_at=START)
    await store.looks.give_up(job.id)
    assert await store.looks.wish(ACME, job.id, START + 1, SECONDS)
