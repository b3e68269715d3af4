"""Lists: their order, their pages, and that no page reads what it does not show."""

from collections.abc import Callable
from itertools import product

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from tests.fake_clock import START
from tests.store.driver import bring, look

from penstock.core.job import Job, OrgId
from penstock.core.state import JobState
from penstock.store.jobs import Page
from penstock.store.lists import ids_by_state, part_of
from penstock.store.store import Store

MakeJob = Callable[..., Job]
ACME = OrgId("acme")
QUEUED = frozenset({JobState.ACCEPTED, JobState.PREPARED})


async def add_several(store: Store, new_job: MakeJob) -> list[str]:
    """Add jobs of which some share a time, and return their ids as a list must show them."""
    jobs = [new_job(created_at=START + second) for second in (0, 1, 1, 1, 0.1, 0.30000000000000004)]
    for job in jobs:
        await store.jobs.add(job)
    ordered = sorted(jobs, key=lambda job: (job.created_at, job.id), reverse=True)
    return [job.id for job in ordered]


async def test_the_newest_comes_first(store: Store, new_job: MakeJob) -> None:
    """The order is by time and, on a tie, by id."""
    expected = await add_several(store, new_job)
    assert [job.id for job in (await store.jobs.listed(ACME, Page()))[0]] == expected


@pytest.mark.parametrize("limit", [1, 2, 4, 7])
async def test_offsets_lead_through_all(store: Store, new_job: MakeJob, limit: int) -> None:
    """Pages by offset show every job once, ties included."""
    expected = await add_several(store, new_job)
    seen: list[str] = []
    for offset in range(0, len(expected), limit):
        page = (await store.jobs.listed(ACME, Page(limit=limit, offset=offset)))[0]
        seen += [job.id for job in page]
    assert seen == expected


@pytest.mark.parametrize("limit", [1, 2, 4, 7])
async def test_cursors_lead_through_all(store: Store, new_job: MakeJob, limit: int) -> None:
    """Pages by cursor show every job once, ties included."""
    expected = await add_several(store, new_job)
    page = (await store.jobs.listed(ACME, Page(limit=limit)))[0]
    seen: list[str] = []
    while page:
        seen += [job.id for job in page]
        last = page[-1]
        page = (
            await store.jobs.listed(ACME, Page(limit=limit, before=(last.created_at, last.id)))
        )[0]
    assert seen == expected


async def test_a_new_job_does_not_shift_a_cursor(store: Store, new_job: MakeJob) -> None:
    """Jobs that arrive between two pages neither hide nor repeat one."""
    expected = await add_several(store, new_job)
    last = ((await store.jobs.listed(ACME, Page(limit=2)))[0])[-1]
    await store.jobs.add(new_job(created_at=START + 99))
    page = (await store.jobs.listed(ACME, Page(before=(last.created_at, last.id), offset=5)))[0]
    assert [job.id for job in page] == expected[2:]


async def test_a_filter_selects_by_state(store: Store, new_job: MakeJob) -> None:
    """Page and count agree on the filter, and the count ignores the page's bounds."""
    ended = await bring(store, new_job(), JobState.SUCCEEDED)
    await bring(store, new_job(), JobState.RUNNING)
    page = Page(states=frozenset({JobState.SUCCEEDED}), limit=1, offset=0)
    assert [job.id for job in (await store.jobs.listed(ACME, page))[0]] == [ended]
    assert (await store.jobs.listed(ACME, page))[1] == 1
    assert (await store.jobs.listed(ACME, Page(limit=1, offset=9)))[1] == 2


async def add_in_states(store: Store, new_job: MakeJob) -> list[str]:
    """Add jobs of three states, two to a time; return the queued ones as a list must show them."""
    queued = []
    for number in range(18):
        state = (JobState.ACCEPTED, JobState.PREPARED, JobState.RUNNING)[number % 3]
        job = new_job(created_at=START + number // 2)
        await bring(store, job, state)
        if state is not JobState.RUNNING:
            queued.append(job)
    ordered = sorted(queued, key=lambda job: (job.created_at, job.id), reverse=True)
    return [job.id for job in ordered]


@pytest.mark.parametrize("limit", [1, 5, 12, 50])
async def test_offsets_lead_through_several_states(
    store: Store, new_job: MakeJob, limit: int
) -> None:
    """A list of more than one state is in one order, ties included, page by page."""
    expected = await add_in_states(store, new_job)
    seen: list[str] = []
    for offset in range(0, len(expected), limit):
        page = Page(states=QUEUED, limit=limit, offset=offset)
        seen += [job.id for job in (await store.jobs.listed(ACME, page))[0]]
    assert seen == expected
    assert (await store.jobs.listed(ACME, Page(states=QUEUED)))[1] == len(expected)


@pytest.mark.parametrize("limit", [1, 5, 12, 50])
async def test_cursors_lead_through_several_states(
    store: Store, new_job: MakeJob, limit: int
) -> None:
    """The same by cursor."""
    expected = await add_in_states(store, new_job)
    page = (await store.jobs.listed(ACME, Page(states=QUEUED, limit=limit)))[0]
    seen: list[str] = []
    while page:
        seen += [job.id for job in page]
        before = (page[-1].created_at, page[-1].id)
        page = (await store.jobs.listed(ACME, Page(states=QUEUED, limit=limit, before=before)))[0]
    assert seen == expected


async def test_no_state_selects_no_job(store: Store, new_job: MakeJob) -> None:
    """A filter that no state passes is not the same as no filter."""
    await store.jobs.add(new_job())
    nothing = Page(states=frozenset())
    assert (await store.jobs.listed(ACME, nothing))[0] == []
    assert (await store.jobs.listed(ACME, nothing))[1] == 0


FILTERS = [None, frozenset({JobState.FAILED}), QUEUED, frozenset(JobState)]


@pytest.mark.parametrize("location", ["sqlite"], indirect=True)
@pytest.mark.parametrize("total", [4000, 60])
@pytest.mark.parametrize("before", [None, (START, "req_x")])
@pytest.mark.parametrize("states", FILTERS)
async def test_lists_read_nothing_but_indexes(
    store: Store,
    states: frozenset[JobState] | None,
    before: tuple[float, str] | None,
    total: int,
) -> None:
    """Neither a sort nor a row that is not shown: a page's cost is what it skips, in an index."""
    page = Page(states=states, offset=9, before=before)
    query = ids_by_state(ACME, page, part_of(page, total), merges=True)
    sql = str(query.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))
    plan = [row[3] for row in look(store, f"EXPLAIN QUERY PLAN {sql}")]
    searches = [step for step in plan if step.startswith("SEARCH jobs")]
    assert len(searches) == (1 if states is None else len(states))
    assert all("USING COVERING INDEX ix_jobs_org" in step for step in searches)
    assert all("state=?" in step for step in searches) == (states is not None)
    assert not any("SCAN" in step or "TEMP B-TREE" in step for step in plan)


MANY = """
    INSERT INTO jobs (id, org_id, user_id, key_id, state, model, payload, line_count, input_bytes,
                      input_sha256, created_at, updated_at, finished_at, provider_job)
    SELECT 'req_' || n, 'acme', 'acme-user', 'k', states.name, 'm', '{}', 1, 1, '', n, n,
           CASE WHEN states.name IN ('succeeded', 'failed', 'cancelled') THEN n END, 'p'
    FROM generate_series(1, 4000) AS n
    JOIN unnest(ARRAY['accepted', 'prepared', 'submitting', 'running', 'collecting', 'succeeded',
                      'failed', 'cancelled']) WITH ORDINALITY AS states (name, number)
    ON states.number = mod(n, 8) + 1
"""


@pytest.mark.parametrize("location", ["postgres"], indirect=True)
async def test_lists_read_nothing_but_indexes_on_postgres(store: Store) -> None:
    """There each state gives what the page can need, from its index and in order."""
    look(store, MANY)
    look(store, "ANALYZE jobs")
    for states, before, total in product(FILTERS, (None, (2000.0, "req_x")), (4000, 60)):
        page = Page(states=states, offset=9, before=before)
        query = ids_by_state(ACME, page, part_of(page, total), merges=False)
        async with store._engine.connect() as connection:
            sql = query.compile(connection.sync_connection, compile_kwargs={"literal_binds": True})
            plan = [row[0] for row in await connection.execute(sa.text(f"EXPLAIN {sql}"))]
        is_from_end = total == 60 and before is None
        direction = f"Scan{'' if is_from_end else ' Backward'} using ix_jobs_org"
        scans = [step for step in plan if " Scan" in step and "Subquery" not in step]
        assert len(scans) == (1 if states is None else len(states))
        assert all(direction in step for step in scans)
        limits = [step for step in plan if "Limit" in step]
        assert len(limits) == (1 if len(scans) == 1 else len(scans) + 1)
