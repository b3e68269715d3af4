"""Rounds and shards in both databases: transactions that hold against each other."""

import asyncio
from collections.abc import Callable

import msgspec
from tests.fake_clock import START
from tests.store.driver import SPENT, finish

from penstock.core.job import Job, OrgId, shard_id
from penstock.core.line import LineOutcome
from penstock.core.options import Selection
from penstock.core.state import JobState
from penstock.store.rounds import Round
from penstock.store.store import Store

MakeJob = Callable[..., Job]
FOLLOWING = Round(selection=Selection(outcomes=(LineOutcome.ERROR,)), lines=1, micro_dollars=50)
SHARDS = 4


async def cut(store: Store, job: Job, state: JobState = JobState.COLLECTING) -> list[Job]:
    """Store a job that waits for some shards, and return these."""
    await store.jobs.add(job)
    shards = [
        msgspec.structs.replace(
            job,
            id=shard_id(job.id, number),
            parent_id=job.id,
            first_line=number,
            last_line=number,
            state=state,
            provider_job="p" if state is JobState.COLLECTING else None,
            reserved_micro_dollars=None,
        )
        for number in range(1, SHARDS + 1)
    ]
    assert await store.jobs.begin_shards(job, shards, START + 1, twin_count=0)
    return shards


async def test_shards_that_end_at_once_move_their_parent_once(
    store: Store, new_job: MakeJob
) -> None:
    """However many end at the same time, the last one sees it, and it alone."""
    job = new_job()
    shards = await cut(store, job)
    ends = [store.jobs.finish(one.id, START + 2, finish()) for one in shards]
    assert await asyncio.gather(*ends) == [True] * SHARDS
    kinds = [kind for kind, _ in await store.jobs.events(job.id)]
    assert kinds == ["accepted", "sharded", "running", "collecting"]


async def test_a_cancel_meets_shards_that_end(store: Store, new_job: MakeJob) -> None:
    """A cancel and the ends of shards wait for each other in one order, and none is lost."""
    job = new_job()
    shards = await cut(store, job)
    ends = [store.jobs.finish(one.id, START + 2, finish()) for one in shards]
    await asyncio.gather(store.jobs.request_cancel(OrgId("acme"), job.id, START + 2), *ends)
    after = await store.jobs.load(job.id)
    assert after is not None
    assert after.state is JobState.COLLECTING
    assert [one.state for one in await store.jobs.shards_of(job.id)] == [
        JobState.SUCCEEDED
    ] * SHARDS


async def test_a_round_is_settled_and_the_next_reserved(store: Store, new_job: MakeJob) -> None:
    """One transaction bills the first round, keeps its output, and sets aside the second."""
    job = new_job(state=JobState.COLLECTING, provider_job="p", reserved_micro_dollars=100)
    await store.jobs.add(job)
    end = finish(output_name="o", index_name="i")
    assert await store.jobs.again(job, START + 2, end, FOLLOWING)
    assert not await store.jobs.again(job, START + 2, end, FOLLOWING)
    after = await store.jobs.load(job.id)
    assert after is not None
    assert (after.state, after.round, after.run, after.attempt) == (JobState.ACCEPTED, 2, 1, 1)
    assert (after.output_name, after.settled_state) == ("o", JobState.SUCCEEDED)
    assert (after.provider_job, after.selection) == (None, FOLLOWING.selection)
    used = (await store.usage.report(job.org_id, START + 2)).used
    assert used.reserved_month_micro_dollars == FOLLOWING.micro_dollars
    assert used.spent_month_micro_dollars == SPENT.micro_dollars
    failed = finish(JobState.CANCELLED, counts=None, output_bytes=None, spent=None)
    assert await store.jobs.finish(job.id, START + 3, failed)
    assert not await store.jobs.finish(job.id, START + 3, failed)
    ended = await store.jobs.load(job.id)
    assert ended is not None
    assert (ended.state, ended.output_name, ended.counts) == (
        JobState.SUCCEEDED,
        "o",
        after.counts,
    )
    used = (await store.usage.report(job.org_id, START + 3)).used
    assert (used.reserved_month_micro_dollars, used.jobs_in_flight) == (0, 0)
