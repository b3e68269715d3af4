"""Counts of lists: whatever becomes of jobs, what is kept is what one would count."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product
from random import Random

import pytest
import sqlalchemy as sa
from msgspec.structs import replace
from tests.fake_clock import START
from tests.store.driver import PROVIDER_JOB, attempt, bring, finish, look

from penstock.core.job import Job, JobId, OrgId
from penstock.core.state import TERMINAL, JobState, states_of
from penstock.store import tables
from penstock.store.jobs import FOUND_BY_BYTES_MAX, Page
from penstock.store.store import Store

MakeJob = Callable[..., Job]
ACME, RIVAL = OrgId("acme"), OrgId("rival")
VALUES = ("ads", "", 'x","team":"ads', '"', "\\", "a:b", "ü\U0001f642", ":", ",")
"""Values of labels, of which several look like pieces of JSON."""

KEPT = "SELECT org_id, key, value, state, sum(jobs) FROM job_counts GROUP BY 1, 2, 3, 4"
COUNTED = """
    SELECT org_id, '', '', state, count(*) FROM jobs WHERE parent_id IS NULL GROUP BY org_id, state
    UNION ALL
    SELECT l.org_id, l.key, l.value, j.state, count(*)
    FROM job_labels l JOIN jobs j ON j.id = l.job_id GROUP BY 1, 2, 3, 4
"""
ASTRAY = "SELECT job_id FROM job_labels l JOIN jobs j ON j.id = l.job_id WHERE l.state <> j.state"


def check_sums(store: Store) -> None:
    """What is kept is what one would count, and labels know the states of their jobs."""
    kept = {row[:4]: int(row[4]) for row in look(store, KEPT) if row[4]}
    assert kept == {row[:4]: row[4] for row in look(store, COUNTED)}
    assert look(store, ASTRAY) == []


async def jobs_of(store: Store, org_id: OrgId) -> list[Job]:
    """Every job of a tenant as it is now, in the order of lists."""
    query = (
        sa.select(tables.jobs.c.id)
        .where(tables.jobs.c.org_id == org_id, tables.jobs.c.parent_id.is_(None))
        .order_by(tables.jobs.c.created_at.desc(), tables.jobs.c.id.desc())
    )
    async with store._engine.for_reading().connect() as connection:
        ids = (await connection.execute(query)).scalars().all()
    found = [await store.jobs.get(org_id, each) for each in ids]
    return [job for job in found if job is not None]


def is_wanted(job: Job, page: Page) -> bool:
    """Whether the job passes each filter, by the plainest words."""
    return (
        (page.states is None or job.state in page.states)
        and (page.name_prefix is None or (job.name or "").startswith(page.name_prefix))
        and all(job.labels.get(key) == value for key, value in page.labels)
    )


async def check_lists(store: Store, org_id: OrgId) -> None:
    """Every way to filter gives the jobs that one would choose, and pages of them."""
    jobs = await jobs_of(store, org_id)
    states = (None, states_of("queued"), frozenset({JobState.SUCCEEDED}))
    labels = [(), *(((key, value),) for key in ("team", "env") for value in VALUES[:4])]
    labels += [(("team", VALUES[2]), ("env", "ads")), (("team", "ads"), ("env", "ads"))]
    for among, held, prefix in product(states, labels, (None, "n")):
        page = Page(states=among, labels=held, name_prefix=prefix, limit=5)
        expected = [job for job in jobs if is_wanted(job, page)]
        for offset in (0, len(expected) // 2, len(expected), len(expected) + 9):
            found = await store.jobs.listed(org_id, replace(page, offset=offset))
            assert found == (expected[offset : offset + 5], len(expected)), (page, offset)


class Life:
    """Lets things happen to jobs, one after the other."""

    def __init__(self, store: Store, new_job: MakeJob, seed: int) -> None:
        self._store = store
        self._new_job = new_job
        self._random = Random(seed)  # noqa: S311  # the same at each run
        self._number = 0

    async def step(self) -> None:
        """Let one thing happen to some job."""
        jobs = [job for org_id in (ACME, RIVAL) for job in await jobs_of(self._store, org_id)]
        ways = [self._add, self._add, self._move, self._move, self._end, self._end]
        ways += [self._shard, self._fail_to_add, self._return, self._remove]
        await self._random.choice(ways)(self._random.sample(jobs, min(len(jobs), 1)))

    def _made(self) -> Job:
        self._number += 1
        values = {key: self._random.choice(VALUES) for key in ("team", "env")}
        owner = self._random.choice(("acme", "acme", "rival"))
        return self._new_job(
            id=JobId(f"req_{self._number:03}"),
            org_id=OrgId(owner),
            user_id=f"{owner}-user",
            name=self._random.choice((None, "nightly", "other", "n" * 200)),
            labels={
                key: values[key] for key in self._random.choice(((), ("team",), tuple(values)))
            },
            created_at=START + self._number // 3,
        )

    async def _add(self, _jobs: Sequence[Job]) -> None:
        await self._store.jobs.add(self._made())

    async def _fail_to_add(self, _jobs: Sequence[Job]) -> None:
        assert await self._store.jobs.is_ruled_out(self._made())

    async def _move(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if job.state is JobState.ACCEPTED:
                await self._store.jobs.move(job.id, JobState.PREPARED, START)
            elif job.state is JobState.PREPARED and not await self._store.jobs.attempts(job.id):
                await self._store.jobs.intend(attempt(job.id))
            elif job.state is JobState.SUBMITTING:
                only = {"only_input": None}
                await self._store.jobs.record_provider_job(job.id, 1, PROVIDER_JOB, START, **only)
            elif job.state is JobState.RUNNING:
                await self._store.jobs.move(job.id, JobState.COLLECTING, START)

    async def _end(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            await self._store.jobs.finish(job.id, START, finish(JobState.CANCELLED, counts=None))
            await self._store.jobs.finish(job.id, START, finish())

    async def _shard(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            own = {"parent_id": job.id, "state": JobState.PREPARED, "first_line": 1, "last_line": 1}
            owner = {"org_id": job.org_id, "user_id": job.user_id}
            shards = [self._new_job(**own, **owner) for _ in range(2)]
            await self._store.jobs.begin_shards(job, shards, START, twin_count=0)

    async def _return(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if job.state in TERMINAL:
                values = "state = 'accepted', finished_at = NULL, round = round + 1"
                look(self._store, f"UPDATE jobs SET {values} WHERE id = ?", job.id)  # noqa: S608

    async def _remove(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if job.state is JobState.ACCEPTED and job.round == 1:
                for table, column in (
                    ("job_labels", "job_id"),
                    ("events", "job_id"),
                    ("jobs", "id"),
                ):
                    look(self._store, f"DELETE FROM {table} WHERE {column} = ?", job.id)  # noqa: S608  # our own names


@pytest.mark.parametrize("seed", [1, 2])
async def test_sums_and_lists_are_exact_whatever_happens(
    store: Store, new_job: MakeJob, seed: int
) -> None:
    """After any sequence of adds, moves, ends, retries and removals, of shards and others."""
    life = Life(store, new_job, seed)
    for number in range(120):
        await life.step()
        if number % 10 == 0:
            check_sums(store)
    check_sums(store)
    for org_id in (ACME, RIVAL):
        await check_lists(store, org_id)


async def test_processes_that_move_jobs_at_once_lose_no_count(
    stores: list[Store], new_job: MakeJob
) -> None:
    """Nobody waits for another one's sums, and none of two changes at once is lost."""
    jobs = [new_job(labels={"team": "ads", "env": "prod"}) for _ in range(24)]

    async def lead(number: int) -> None:
        store = stores[number % len(stores)]
        await bring(store, jobs[number], (JobState.RUNNING, JobState.SUCCEEDED)[number % 2])

    await asyncio.gather(*(lead(number) for number in range(len(jobs))))
    check_sums(stores[0])
    total = Counter({None: 24, JobState.RUNNING: 12, JobState.SUCCEEDED: 12})
    for state, count in total.items():
        states = None if state is None else frozenset({state})
        page = Page(states=states, labels=(("team", "ads"),))
        assert (await stores[1].jobs.listed(ACME, page))[1] == count
    slots = look(stores[0], "SELECT count(*) FROM job_counts GROUP BY org_id, key, value, state")
    assert max(slots) <= (len(stores) * 5,)


@pytest.mark.parametrize("location", ["postgres"], indirect=True)
async def test_a_sum_that_somebody_holds_is_left_alone(
    stores: list[Store], new_job: MakeJob
) -> None:
    """While one transaction has not ended, another one of the organisation ends (Postgres)."""
    prepared = Page(states=frozenset({JobState.PREPARED}))
    first, second = new_job(), new_job()
    await stores[0].jobs.add(first)
    await stores[0].jobs.add(second)
    held = sa.text("UPDATE jobs SET state = 'prepared' WHERE id = :id")
    async with stores[0]._engine.connect() as connection:
        await connection.execute(held, {"id": first.id})
        async with asyncio.timeout(20):
            assert await stores[1].jobs.move(second.id, JobState.PREPARED, START)
        assert (await stores[1].jobs.listed(ACME, prepared))[1] == 1
        await connection.commit()
    assert (await stores[1].jobs.listed(ACME, prepared))[1] == 2
    check_sums(stores[0])


async def test_too_much_for_an_index_is_looked_up(store: Store, new_job: MakeJob) -> None:
    """Jobs whose labels are too long to stand beside each are found by all filters, too."""
    long = {f"key-{number:02}": "ü" * 63 for number in range(16)}
    jobs = [
        new_job(name=name, labels=labels, created_at=START + number)
        for number, (name, labels) in enumerate(
            product(("one", "two"), (long, {"key-01": "ü" * 63}))
        )
    ]
    for job in jobs:
        await store.jobs.add(job)
    assert sum(len(f"{key}{value}".encode()) for key, value in long.items()) > FOUND_BY_BYTES_MAX
    found = look(store, "SELECT count(*) FROM job_labels WHERE labels IS NULL AND name IS NULL")
    assert found == [(32,)]
    expected = [jobs[2], jobs[0]]
    page = Page(labels=(("key-01", "ü" * 63), ("key-02", "ü" * 63)))
    assert await store.jobs.listed(ACME, page) == (expected, 2)
    page = Page(labels=(("key-01", "ü" * 63),), name_prefix="tw")
    assert await store.jobs.listed(ACME, page) == ([jobs[3], jobs[2]], 2)
