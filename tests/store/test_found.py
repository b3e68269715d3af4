"""Lists by name, label and beginning: what they find is what one would find by looking at each."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec.structs import replace
from tests.fake_clock import START
from tests.store.driver import bring, look

from penstock.core.job import Job, JobId, OrgId
from penstock.core.state import JobState
from penstock.store import lists
from penstock.store.jobs import Page
from penstock.store.store import Store

MakeJob = Callable[..., Job]
ACME, RIVAL = OrgId("acme"), OrgId("rival")
QUEUED = frozenset({JobState.ACCEPTED, JobState.PREPARED})
NAMES = (None, "nightly", "nightly 2", "Nightly", "nächtlich", "zz\U0001f642")
TEAMS = ("ads", "search", "")
STATES = (None, frozenset({JobState.ACCEPTED}), QUEUED)


async def fill(store: Store, new_job: MakeJob) -> list[Job]:
    """Add jobs of all sorts, two to a time, and as many of another tenant; return them in order."""
    jobs = []
    for number in range(36):
        labels = {"team": TEAMS[number % 3]} | ({"env": "prod"} if number % 2 else {})
        job = new_job(
            id=JobId(f"req_{'abc'[number % 3]}{'01'[number % 2]}{number:02}"),
            name=NAMES[number % len(NAMES)],
            labels=labels if number % 5 else {},
            created_at=START + number // 2,
        )
        await bring(store, job, (JobState.ACCEPTED, JobState.PREPARED)[number % 4 == 0])
        jobs.append(job)
        theirs = {"id": JobId(f"req_a0x{number:02}"), "org_id": RIVAL, "user_id": "rival-user"}
        await store.jobs.add(new_job(**theirs, name="nightly", labels={"team": "ads"}))
    found = [await store.jobs.get(ACME, job.id) for job in jobs]
    return sorted((job for job in found if job), key=lambda job: (job.created_at, job.id))[::-1]


def is_wanted(job: Job, page: Page) -> bool:
    """Whether the job passes each filter, by the plainest words."""
    return (
        (page.states is None or job.state in page.states)
        and (page.name is None or job.name == page.name)
        and (page.name_prefix is None or (job.name or "").startswith(page.name_prefix))
        and all(job.labels.get(key) == value for key, value in page.labels)
        and (page.id_prefix is None or job.id.startswith(page.id_prefix))
    )


FILTERS: dict[str, list[dict[str, Any]]] = {
    "name": [{}, {"name": "nightly"}, {"name_prefix": "n"}],
    "labels": [{}, {"labels": (("team", "ads"),)}, {"labels": (("env", "prod"), ("team", ""))}],
    "id": [{}, {"id_prefix": "req_a"}, {"id_prefix": "req_b0"}],
    "states": [{"states": states} for states in STATES],
}


def pages() -> list[Page]:
    """Every way to filter, alone and together."""
    chosen: list[Page] = []
    for each in product(*FILTERS.values()):
        together: dict[str, Any] = {}
        for one in each:
            together |= one
        chosen.append(Page(**together))
    return chosen


@pytest.mark.parametrize("few", [lists.FEW, 3])
async def test_lists_find_what_passes_every_filter(
    stores: list[Store], new_job: MakeJob, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    """Whichever filter leads: the same jobs, in order, in pages of any kind, and their count."""
    monkeypatch.setattr(lists, "FEW", few)
    store = stores[0]
    jobs = await fill(store, new_job)
    for page in pages():
        expected = [job for job in jobs if is_wanted(job, page)]
        assert (await store.jobs.listed(ACME, page))[0] == expected, page
        assert (await store.jobs.listed(ACME, page))[1] == len(expected), page


@pytest.mark.parametrize("few", [lists.FEW, 3])
@pytest.mark.parametrize(
    "page",
    [
        Page(labels=(("team", "ads"),), limit=4),
        Page(labels=(("env", "prod"),), states=QUEUED, limit=3),
        Page(id_prefix="req_a", limit=5),
    ],
)
async def test_pages_lead_through_what_is_found(
    store: Store, new_job: MakeJob, monkeypatch: pytest.MonkeyPatch, page: Page, few: int
) -> None:
    """By offset and by cursor every job is shown once, ties included."""
    monkeypatch.setattr(lists, "FEW", few)
    expected = [job for job in await fill(store, new_job) if is_wanted(job, page)]
    assert len(expected) > page.limit
    by_offset: list[Job] = []
    by_cursor: list[Job] = []
    for offset in range(0, len(expected), page.limit):
        by_offset += (await store.jobs.listed(ACME, replace(page, offset=offset)))[0]
        last = by_cursor[-1] if by_cursor else None
        before = None if last is None else (last.created_at, last.id)
        by_cursor += (await store.jobs.listed(ACME, replace(page, before=before)))[0]
    assert by_offset == by_cursor == expected


async def test_a_job_keeps_its_names(store: Store, new_job: MakeJob) -> None:
    """Whatever becomes of it; one without them has none."""
    job = new_job(name="nightly", labels={"team": "ads"})
    plain = new_job()
    for one in (job, plain):
        await bring(store, one, JobState.SUCCEEDED)
        found = await store.jobs.load(one.id)
        assert found is not None
        assert (found.name, found.labels) == (one.name, one.labels)
    assert (plain.name, plain.labels) == (None, {})


EACH = {
    "ix_jobs_org_name": Page(name="name 3"),
    "ix_job_labels_org_key": Page(labels=(("team", "ads"),)),
    "ix_jobs_org_id": Page(id_prefix="req_12"),
}


MANY = (
    """
    INSERT INTO jobs (id, org_id, user_id, key_id, state, model, payload, line_count, input_bytes,
                      input_sha256, created_at, updated_at, name)
    WITH RECURSIVE one (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM one WHERE n < 4000)
    SELECT 'req_' || n, 'acme', 'acme-user', 'k', 'accepted', 'm', '{}', 1, 1, '', n, n,
           'name ' || (n - n / 100 * 100) FROM one
    """,
    """
    INSERT INTO job_labels (job_id, key, value, org_id, created_at, state, name, labels)
    SELECT id, 'team', CASE WHEN name LIKE 'name 5_' THEN 'ads' ELSE 'x' END, org_id, created_at,
           state, name, CASE WHEN name LIKE 'name 5_' THEN '{"team":"ads"}' ELSE '{"team":"x"}' END
    FROM jobs
    """,
    "ANALYZE",
)
"""Thousands of jobs: forty of each name, and a label with one value for a tenth of them."""


def many(store: Store) -> None:
    """Add them."""
    for statement in MANY:
        look(store, statement)


async def plan_of(store: Store, page: Page, *, is_huge: bool = False) -> list[str]:
    """How the database finds the ids of a page, or would where the table is huge."""
    async with store._engine.connect() as connection:
        query = (await lists.find(connection, ACME, page)).ids
        sql = query.compile(connection.sync_connection, compile_kwargs={"literal_binds": True})
        is_sqlite = connection.dialect.name == "sqlite"
        words = "EXPLAIN QUERY PLAN" if is_sqlite else "EXPLAIN"
        if is_huge and not is_sqlite:
            # A table of so few is soon read as a whole, and one of many is not.
            await connection.execute(sa.text("SET LOCAL enable_seqscan = off"))
            await connection.execute(sa.text("SET LOCAL enable_bitmapscan = off"))
        rows = (await connection.execute(sa.text(f"{words} {sql}"))).all()
    return [row[3] if is_sqlite else row[0] for row in rows]


@pytest.mark.parametrize("index", EACH)
async def test_one_filter_reads_its_own_index(store: Store, index: str) -> None:
    """Nothing else is looked through, and what is in order is not sorted."""
    many(store)
    plan = await plan_of(store, EACH[index])
    used = {name for name in EACH for step in plan if name in step}
    assert used == {index}, plan
    assert not any("SCAN jobs" in step or "Seq Scan" in step for step in plan), plan
    is_sorted = any("TEMP B-TREE" in step or "Sort" in step for step in plan)
    assert is_sorted == (index == "ix_jobs_org_id")


async def test_what_many_have_is_shown_in_the_order_of_the_list(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of them is read until it is full; all that a filter selects is not sorted for it."""
    monkeypatch.setattr(lists, "FEW", 100)
    many(store)
    page = Page(name_prefix="name 1", states=QUEUED, offset=200)
    plan = await plan_of(store, page, is_huge=True)
    assert any("ix_jobs_org_created" in step for step in plan), plan
    assert not any("TEMP B-TREE" in step or "Sort" in step for step in plan), plan


async def test_the_narrowest_filter_leads(store: Store) -> None:
    """A rare name leads a label that half of all have, and each is held against it by its key."""
    many(store)
    both = Page(name="name 3", labels=(("team", "x"),), states=QUEUED)
    plan = await plan_of(store, both)
    assert "ix_jobs_org_name" in next(step for step in plan if "ix_job" in step), plan
    assert (await store.jobs.listed(ACME, both))[1] == 40
