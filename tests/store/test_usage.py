"""Usage is counted with each job, in its transaction, and quotas hold whoever comes at once."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest
from tests.fake_clock import START
from tests.store.driver import finish, look

from penstock.core.access import Actor
from penstock.core.estimate import Estimate, Past, Span
from penstock.core.job import Counts, Job, OrgId, new_job_id
from penstock.core.quotas import DAY_SECONDS, Asked, Quotas, Used, day_of, month_begins
from penstock.core.state import JobState
from penstock.errors import QuotaExceeded
from penstock.store.admission import Admission
from penstock.store.store import Store
from penstock.store.usage import PAST_JOBS_LOOKED_AT

ACME, RIVAL = OrgId("acme"), OrgId("rival")
DAY = day_of(START)
ACTOR = Actor(
    org_id=ACME, user_id="acme-user", key_id="testkey1", address="192.0.2.1", request_id="r1"
)
SUMS = """SELECT org_id, CAST(FLOOR(created_at / 86400) AS INTEGER), count(*), sum(line_count),
    sum(input_bytes + coalesce(output_bytes, 0)),
    sum(CASE WHEN finished_at IS NULL THEN coalesce(reserved_micro_dollars, 0) ELSE 0 END),
    sum(coalesce(cost_micro_dollars, 0)) FROM jobs GROUP BY 1, 2 ORDER BY 1, 2"""
ROWS = """SELECT org_id, day, jobs, lines, bytes, reserved_micro_dollars, spent_micro_dollars
    FROM usage ORDER BY 1, 2"""

MakeJob = Callable[..., Job]


def sums(store: Store) -> str:
    """The query; an old SQLite has no floor(), and its casts cut."""
    return SUMS if store._engine.has_a_clock else SUMS.replace("FLOOR", "")


async def used(store: Store, now: float = START, org_id: OrgId = ACME) -> Used:
    """What an organisation uses."""
    return (await store.usage.report(org_id, now)).used


async def test_a_job_is_counted_with_its_row(store: Store, new_job: MakeJob) -> None:
    """Accepted: a job in flight, its lines, its bytes, and what is reserved for it."""
    await store.jobs.add(new_job(reserved_micro_dollars=70))
    await store.jobs.add(new_job(reserved_micro_dollars=None))
    assert await used(store) == Used(
        jobs_in_flight=2,
        bytes_stored=600,
        lines_day=6,
        reserved_day_micro_dollars=70,
        reserved_month_micro_dollars=70,
    )
    assert await used(store, org_id=RIVAL) == Used()


async def test_an_end_settles_what_was_reserved(store: Store, new_job: MakeJob) -> None:
    """The reservation goes, the cost and the output's bytes come; an end that repeats adds none."""
    job = new_job(reserved_micro_dollars=70, state=JobState.COLLECTING, provider_job="p")
    await store.jobs.add(job)
    done = [await store.jobs.finish(job.id, START, finish()) for _ in range(2)]
    assert done == [True, False]
    assert await used(store) == Used(
        bytes_stored=309, lines_day=3, spent_day_micro_dollars=42, spent_month_micro_dollars=42
    )


async def test_a_failure_is_refunded(store: Store, new_job: MakeJob) -> None:
    """A job that ends without a bill gives all back and costs nothing."""
    job = new_job(reserved_micro_dollars=70)
    await store.jobs.add(job)
    nothing = finish(JobState.FAILED, counts=None, cost_micro_dollars=None, output_bytes=None)
    assert await store.jobs.finish(job.id, START + 5, nothing)
    assert await used(store) == Used(bytes_stored=300, lines_day=3)


async def test_an_end_counts_on_the_day_of_its_beginning(store: Store, new_job: MakeJob) -> None:
    """A job that ends tomorrow frees today's budget; month and bytes span the days."""
    job = new_job(reserved_micro_dollars=70, state=JobState.COLLECTING, provider_job="p")
    await store.jobs.add(job)
    tomorrow = START + DAY_SECONDS
    await store.jobs.add(new_job(reserved_micro_dollars=5, created_at=tomorrow))
    assert await store.jobs.finish(job.id, tomorrow, finish())
    assert await used(store, tomorrow) == Used(
        jobs_in_flight=1,
        bytes_stored=609,
        lines_day=3,
        reserved_day_micro_dollars=5,
        spent_month_micro_dollars=42,
        reserved_month_micro_dollars=5,
    )
    report = await store.usage.report(ACME, tomorrow)
    assert [(day.day, day.spent_micro_dollars) for day in report.days] == [(DAY, 42), (DAY + 1, 0)]


async def test_another_month_begins_at_zero(store: Store, new_job: MakeJob) -> None:
    """What was spent last month is no part of this one, and is not shown in it."""
    last = (month_begins(START) - 1) * DAY_SECONDS + 5.0
    job = new_job(created_at=last, state=JobState.COLLECTING, provider_job="p")
    await store.jobs.add(job)
    assert await store.jobs.finish(job.id, START, finish())
    report = await store.usage.report(ACME, START)
    assert report.used == Used(bytes_stored=309)
    assert report.days == ()


FULL = {
    "jobs_in_flight_max": (2, "jobs_in_flight"),
    "bytes_stored_max": (899, "bytes_stored"),
    "lines_day_max": (8, "lines_day"),
    "spend_day_micro_dollars_max": (149, "spend_day"),
    "spend_month_micro_dollars_max": (149, "spend_month"),
}


@pytest.mark.parametrize("name", FULL)
async def test_each_quota_is_kept_in_the_transaction(
    store: Store, new_job: MakeJob, name: str
) -> None:
    """The third of three jobs does not fit; nothing of it is stored or counted."""
    limit, short = FULL[name]
    quotas = Quotas(**{name: limit})
    jobs = [new_job(reserved_micro_dollars=50) for _ in range(3)]
    for job in jobs[:2]:
        await store.jobs.add(job, Admission(quotas=quotas))
    before = look(store, ROWS)
    with pytest.raises(QuotaExceeded) as refused:
        await store.jobs.add(jobs[2], Admission(quotas=quotas, actor=ACTOR))
    assert refused.value.quota is not None
    assert refused.value.quota.name == short
    holds = {"jobs_in_flight": 1, "spend_day": 50, "spend_month": 50}.get(short)
    expected = {(job.id, holds) for job in jobs[:2]} if holds else set()
    assert {(one.request_id, one.amount) for one in refused.value.quota.reserved_by} == expected
    assert await store.jobs.load(jobs[2].id) is None
    assert await store.jobs.is_ruled_out(jobs[2])
    assert look(store, ROWS) == before
    assert look(store, "SELECT count(*) FROM audit") == [(0,)]


async def test_a_refusal_names_ten_jobs(store: Store, new_job: MakeJob) -> None:
    """Those that hold the most are named, and no more than ten; yesterday's hold no part of it."""
    await store.jobs.add(new_job(reserved_micro_dollars=999, created_at=START - DAY_SECONDS))
    for amount in range(1, 13):
        await store.jobs.add(new_job(reserved_micro_dollars=amount))
    quotas = Quotas(spend_day_micro_dollars_max=78)
    with pytest.raises(QuotaExceeded) as refused:
        await store.usage.look(ACME, quotas, Asked(), START)
    assert refused.value.quota is not None
    amounts = [one.amount for one in refused.value.quota.reserved_by]
    assert amounts == list(range(12, 2, -1))


async def test_a_look_without_quotas_asks_nobody(store: Store) -> None:
    """Where nothing is limited, no query is made."""
    await store.close()
    await store.usage.look(ACME, Quotas(requests_second_max=3), Asked(), START)


async def test_submit_and_cancel_leave_a_row_each(store: Store, new_job: MakeJob) -> None:
    """What an actor does to jobs stands in the audit log; what changes nothing of his does not."""
    job = new_job()
    await store.jobs.add(job, Admission(actor=ACTOR))
    for _ in range(2):
        assert await store.jobs.request_cancel(ACME, job.id, START + 1, ACTOR)
    assert not await store.jobs.request_cancel(RIVAL, job.id, START + 1, ACTOR)
    assert await store.jobs.finish(job.id, START, finish(JobState.CANCELLED, counts=None))
    assert not await store.jobs.request_cancel(ACME, job.id, START + 2, ACTOR)
    rows = await store.audit.page(ACME, None, 10)
    assert [row.action for row in rows] == ["job.cancel"] * 3 + ["job.submit"]
    assert {(row.object, row.result) for row in rows} == {(job.id, "done")}
    assert (await store.audit.verify(ACME)).broken_at is None


NOTHING = Span(low=0, expected=0, high=0)
EXPECTED = Estimate(
    lines=4,
    prompt_tokens=NOTHING,
    output_tokens=NOTHING,
    plain_prompt_tokens=400,
    plain_output_tokens=800,
)


async def end_with(store: Store, job: Job, counts: Counts | None) -> None:
    """Let a job end with these lines and tokens."""
    begun = msgspec.structs.replace(job, state=JobState.COLLECTING, provider_job="p")
    await store.jobs.add(begun)
    end = finish(counts=counts, cost_micro_dollars=None)
    assert await store.jobs.finish(job.id, START, end)


async def test_earlier_jobs_say_how_right_estimates_were(store: Store, new_job: MakeJob) -> None:
    """Tokens a paid line, beside what was expected of it; lines with a twin's answer cost none."""
    counts = Counts(ok=5, error=1, prompt_tokens=90, candidates_tokens=20, thoughts_tokens=10)
    await end_with(store, new_job(estimate=EXPECTED, twin_count=2), counts)
    assert await store.usage.past(ACME, "gemini-3-flash-preview") == [
        Past(
            prompt_tokens=30.0,
            output_tokens=10.0,
            plain_prompt_tokens=100.0,
            plain_output_tokens=200.0,
        )
    ]
    assert await store.usage.past(ACME, "gemini-3-pro-preview") == []
    assert await store.usage.past(RIVAL, "gemini-3-flash-preview") == []


async def test_some_jobs_say_nothing(store: Store, new_job: MakeJob) -> None:
    """Without an estimate, an end, lines or an answer there is nothing to compare."""
    good = Counts(ok=1, prompt_tokens=1)
    await end_with(store, new_job(), good)
    await end_with(store, new_job(estimate=EXPECTED), None)
    await end_with(store, new_job(estimate=EXPECTED), Counts(error=3))
    empty = msgspec.structs.replace(EXPECTED, lines=0)
    await end_with(store, new_job(estimate=empty), good)
    await store.jobs.add(new_job(estimate=EXPECTED))
    assert await store.usage.past(ACME, "gemini-3-flash-preview") == []


async def test_the_last_jobs_count(store: Store, new_job: MakeJob) -> None:
    """Twenty of them, the newest; who has sent fifty others since begins anew."""
    for number in range(1, 23):
        counts = Counts(ok=1, prompt_tokens=number)
        await end_with(store, new_job(estimate=EXPECTED, created_at=START + number), counts)
    found = await store.usage.past(ACME, "gemini-3-flash-preview")
    assert [one.prompt_tokens for one in found] == [float(number) for number in range(22, 2, -1)]
    for number in range(PAST_JOBS_LOOKED_AT):
        await store.jobs.add(new_job(model="other", created_at=START + 100 + number))
    assert await store.usage.past(ACME, "gemini-3-flash-preview") == []


LEFT = 7
RACERS = 1_000


@pytest.mark.slow
@pytest.mark.parametrize(
    "quotas",
    [
        Quotas(jobs_in_flight_max=LEFT),
        Quotas(spend_day_micro_dollars_max=50 * LEFT + 49),
    ],
    ids=["jobs", "spend"],
)
async def test_of_a_thousand_at_once_those_pass_that_fit(
    stores: list[Store], new_job: MakeJob, quotas: Quotas
) -> None:
    """1,000 submissions at once over four stores: exactly as many pass as the quota allows."""
    gate = asyncio.Semaphore(40)

    async def submit(number: int) -> bool:
        job = new_job(id=new_job_id(), reserved_micro_dollars=50)
        async with gate:
            try:
                await stores[number % 4].jobs.add(job, Admission(quotas=quotas))
            except QuotaExceeded:
                return False
        return True

    passed = await asyncio.gather(*(submit(number) for number in range(RACERS)))
    assert sum(passed) == LEFT
    assert look(stores[0], "SELECT count(*) FROM jobs") == [(LEFT,)]
    assert look(stores[0], ROWS) == look(stores[0], sums(stores[0]))
