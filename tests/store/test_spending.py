"""What was billed, by day, model, key and organisation, on both databases."""

from collections.abc import Callable

import msgspec
import pytest
from tests.fake_clock import START
from tests.store.driver import finish, look

from penstock.core.bill import Bill, Spent
from penstock.core.job import Job, JobId, OrgId
from penstock.core.quotas import DAY_SECONDS, day_of
from penstock.core.state import JobState
from penstock.store.spending import By, Group, Spending
from penstock.store.store import Store

MakeJob = Callable[..., Job]
DAY = day_of(START)


async def billed(store: Store, job: Job, cost: int | None, online: int | None = None) -> JobId:
    """A job that has ended on the day on which it was created."""
    collecting = msgspec.structs.replace(job, state=JobState.COLLECTING, provider_job="p")
    await store.jobs.add(collecting)
    spent = Spent(lines=2, prompt_tokens=10, output_tokens=25, micro_dollars=cost)
    bill = Bill(micro_dollars=cost, online_micro_dollars=online)
    end = finish(cost_micro_dollars=cost, bill=bill, spent=spent)
    assert await store.jobs.finish(job.id, job.created_at, end)
    return job.id


async def asked(store: Store, *by: By, **changes: object) -> list[Group]:
    """The groups of acme's spending around the tests' day."""
    wanted = Spending(
        org_id=OrgId("acme"), first_day=DAY - 9, last_day=DAY + 9, by=by, groups_max=50
    )
    return await store.usage.groups(msgspec.structs.replace(wanted, **changes))


def of(jobs: int, cost: int, **more: object) -> Group:
    """A group of jobs with two lines each."""
    group = Group(
        jobs=jobs,
        lines=2 * jobs,
        prompt_tokens=10 * jobs,
        output_tokens=25 * jobs,
        micro_dollars=cost,
        unpriced_lines=0,
        compared_micro_dollars=0,
        online_micro_dollars=0,
    )
    return msgspec.structs.replace(group, **more)


async def test_nothing_billed_is_no_group(store: Store, new_job: MakeJob) -> None:
    """A job that has not ended, or that cost nothing, is in no sum; neither is a reservation."""
    await store.jobs.add(new_job(reserved_micro_dollars=70))
    assert await asked(store) == []
    assert await asked(store, By.DAY, By.MODEL) == []


async def test_sums_are_split_by_what_is_asked(store: Store, new_job: MakeJob) -> None:
    """By day, model and key, alone or together, in this order."""
    tomorrow = START + DAY_SECONDS
    await billed(store, new_job(), 40)
    await billed(store, new_job(created_at=tomorrow, key_id="other"), 2)
    await billed(store, new_job(created_at=tomorrow, model="gemini-3-pro-preview"), 500)
    flash, pro = "gemini-3-flash-preview", "gemini-3-pro-preview"
    assert await asked(store) == [of(3, 542)]
    assert await asked(store, By.DAY) == [of(1, 40, day=DAY), of(2, 502, day=DAY + 1)]
    assert await asked(store, By.MODEL) == [of(2, 42, model=flash), of(1, 500, model=pro)]
    assert await asked(store, By.KEY, By.MODEL) == [
        of(1, 2, key="other", model=flash),
        of(1, 40, key="testkey1", model=flash),
        of(1, 500, key="testkey1", model=pro),
    ]


async def test_a_span_has_both_its_ends(store: Store, new_job: MakeJob) -> None:
    """A day is in the span up to its last moment, and no further."""
    for moment in (0.0, DAY_SECONDS - 0.001, DAY_SECONDS):
        await billed(store, new_job(created_at=DAY * DAY_SECONDS + moment), 1)
    only = {"first_day": DAY, "last_day": DAY}
    assert await asked(store, By.DAY, **only) == [of(2, 2, day=DAY)]


async def test_each_organisation_sees_its_own(store: Store, new_job: MakeJob) -> None:
    """Only the operator's question, which names none, is about all of them."""
    await billed(store, new_job(), 40)
    await billed(store, new_job(org_id=OrgId("rival"), user_id="rival-user"), 7)
    assert await asked(store) == [of(1, 40)]
    assert await asked(store, By.ORG, org_id=None) == [of(1, 40, org="acme"), of(1, 7, org="rival")]


async def test_what_has_no_price_is_counted_apart(store: Store, new_job: MakeJob) -> None:
    """Its tokens are in the sums, its lines are named, and its cost is not taken for zero."""
    await billed(store, new_job(), None)
    await billed(store, new_job(), 40)
    assert await asked(store) == [of(2, 40, unpriced_lines=2)]


async def test_the_online_price_is_compared_with_its_own(store: Store, new_job: MakeJob) -> None:
    """What has no online price is in neither side of the comparison."""
    await billed(store, new_job(), 40, online=80)
    await billed(store, new_job(), 5)
    assert await asked(store) == [of(2, 45, compared_micro_dollars=40, online_micro_dollars=80)]


async def test_later_rounds_add_their_own_part(store: Store, new_job: MakeJob) -> None:
    """Each round counts on its day; what all would have cost online counts once."""
    job_id = await billed(store, new_job(), 40, online=96)
    tomorrow = START + DAY_SECONDS
    insert = (
        "INSERT INTO ledger (org_id, job_id, attempt, round, kind, at, lines, prompt_tokens,"
        " output_tokens, micro_dollars) VALUES ('acme', ?, 2, 2, 'usage', ?, 1, 5, 5, 8)"
    )
    look(store, insert, job_id, tomorrow)
    whole = await asked(store)
    assert whole == [
        msgspec.structs.replace(
            of(1, 48, compared_micro_dollars=48, online_micro_dollars=96),
            lines=3,
            prompt_tokens=15,
            output_tokens=30,
        )
    ]
    days = await asked(store, By.DAY)
    assert [(one.micro_dollars, one.online_micro_dollars) for one in days] == [(40, 96), (8, 0)]


@pytest.mark.parametrize("most", [1, 2])
async def test_too_many_groups_are_seen(store: Store, new_job: MakeJob, most: int) -> None:
    """One more than may be is read, and no more."""
    for day in range(4):
        await billed(store, new_job(created_at=START + day * DAY_SECONDS), 1)
    assert len(await asked(store, By.DAY, groups_max=most)) == most + 1
