"""Whatever happens to jobs, the ledger's entries explain where the money is."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.fake_clock import START
from tests.store.driver import finish, look

from penstock.core.bill import Spent
from penstock.core.entry import EntryKind
from penstock.core.job import Job, JobId, OrgId, new_job_id
from penstock.core.line import LineOutcome
from penstock.core.options import Selection
from penstock.core.quotas import DAY_SECONDS, Quotas, day_of
from penstock.core.state import TERMINAL, JobState
from penstock.errors import QuotaExceeded
from penstock.store import tables
from penstock.store.admission import Admission
from penstock.store.jobs import Finish
from penstock.store.ledger import settle
from penstock.store.location import Location
from penstock.store.rounds import Round
from penstock.store.store import Store
from penstock.store.usage import add_bytes

MakeJob = Callable[..., Job]

AMOUNT = st.one_of(st.none(), st.integers(0, 90))
KINDS = (
    "accept",
    "accept",
    "finish",
    "finish",
    "expire",
    "cancel",
    "refuse",
    "round",
    "again",
    "lost",
)
ENDS = {"expire": JobState.FAILED}


class Lost(Exception):
    """The process dies before it commits."""


class Step(msgspec.Struct, frozen=True):
    """One thing that happens; `again` as a transaction that is tried once more."""

    kind: str
    pick: int
    day: int
    amount: int | None
    again: bool

    @property
    def at(self) -> float:
        """When."""
        return START + self.day * DAY_SECONDS


STEP = st.builds(
    Step, st.sampled_from(KINDS), st.integers(0, 5), st.integers(0, 3), AMOUNT, st.booleans()
)


class Story:
    """One organisation's jobs, and what ought to be known of them."""

    def __init__(self, store: Store, org_id: OrgId, new_job: MakeJob) -> None:
        self._store = store
        self._org_id = org_id
        self._new_job = new_job
        self._jobs: list[JobId] = []
        self.begun: dict[tuple[str, int], float] = {}
        """When each round of each job began."""

    def look(self, query: str) -> list[tuple[Any, ...]]:
        """What the database says of the organisation."""
        return look(self._store, query, self._org_id)

    async def step(self, step: Step) -> None:
        """Do one thing."""
        if step.kind in {"accept", "refuse"}:
            await self._bring(step)
        elif self._jobs:
            job_id = self._jobs[step.pick % len(self._jobs)]
            for _ in range(2 if step.again else 1):
                await self._change(job_id, step)

    async def _change(self, job_id: JobId, step: Step) -> None:
        if step.kind == "cancel":
            await self._store.jobs.request_cancel(self._org_id, job_id, step.at)
        elif step.kind == "round":
            await self._begin_round(job_id, step)
        elif step.kind == "again":
            await self._go_on(job_id, step)
        elif step.kind == "lost":
            with pytest.raises(Lost):
                await self._die(job_id, step.at, step.amount)
        else:
            await self._store.jobs.finish(job_id, step.at, _end(step))

    async def _bring(self, step: Step) -> None:
        job = self._new_job(
            id=new_job_id(),
            org_id=self._org_id,
            user_id=f"{self._org_id}-user",
            created_at=step.at,
            reserved_micro_dollars=step.amount,
            line_count=step.pick,
            state=JobState.COLLECTING,
            provider_job="p",
        )
        if step.kind == "refuse":
            with pytest.raises(QuotaExceeded):
                await self._store.jobs.add(job, Admission(quotas=Quotas(bytes_stored_max=1)))
            return
        await self._store.jobs.add(job)
        self._jobs.append(job.id)
        self.begun[job.id, 1] = step.at

    async def _begin_round(self, job_id: JobId, step: Step) -> None:
        """The job's owner sends lines of it again."""
        job = await self._store.jobs.load(job_id)
        assert job is not None
        if job.state not in TERMINAL:
            return
        await self._store.jobs.reopen(job, step.at, _round(step), Admission())
        self._began(job, step)

    async def _go_on(self, job_id: JobId, step: Step) -> None:
        """A round ends and the next one begins, in one transaction."""
        job = await self._store.jobs.load(job_id)
        assert job is not None
        if await self._store.jobs.again(job, step.at, _end(step), _round(step)):
            self._began(job, step)

    def _began(self, job: Job, step: Step) -> None:
        self.begun[job.id, job.round + 1] = step.at
        # As if it had been sent, so that it can end in any way.
        look(
            self._store,
            "UPDATE jobs SET state = 'collecting', provider_job = 'p' WHERE id = ?",
            job.id,
        )

    async def _die(self, job_id: JobId, at: float, amount: int | None) -> None:
        """An end whose process dies before the commit leaves nothing behind."""
        async with self._store._engine.begin() as connection:
            if await _is_open(connection, job_id):
                await add_bytes(connection, job_id, 9)
                await settle(connection, job_id, at, _spent(amount))
            raise Lost

    async def end_all(self) -> None:
        """Let every job end without having cost anything."""
        for job_id in self._jobs:
            end = finish(JobState.FAILED, counts=None, cost_micro_dollars=None)
            await self._store.jobs.finish(job_id, START, end)


def _spent(amount: int | None) -> Spent | None:
    return None if amount is None else Spent(lines=1, prompt_tokens=2, micro_dollars=amount)


def _end(step: Step) -> Finish:
    # Every third end has been paid without anybody knowing how much.
    spent = Spent(lines=1, prompt_tokens=2) if step.pick % 3 == 2 else _spent(step.amount)
    return finish(
        ENDS.get(step.kind, JobState.SUCCEEDED),
        counts=None,
        cost_micro_dollars=step.amount,
        output_bytes=step.pick or None,
        output_name=f"output-{step.pick}" if step.pick else None,
        spent=spent,
    )


def _round(step: Step) -> Round:
    selection = Selection(outcomes=(LineOutcome.ERROR,))
    return Round(selection=selection, lines=1, micro_dollars=step.amount)


async def _is_open(connection: AsyncConnection, job_id: JobId) -> bool:
    query = tables.jobs.select().where(tables.jobs.c.id == job_id)
    return (await connection.execute(query)).one().finished_at is None


def check(story: Story) -> None:
    """Compare jobs, ledger and days with each other; all sums are made here, row by row."""
    jobs = story.look(
        "SELECT id, created_at, finished_at, round, reserved_micro_dollars, line_count,"
        " input_bytes + coalesce(output_bytes, 0) FROM jobs WHERE org_id = ?"
    )
    entries = story.look("SELECT job_id, round, kind, micro_dollars FROM ledger WHERE org_id = ?")
    amounts: dict[tuple[str, int], Counter[str]] = {}
    for job_id, round_, kind, amount in entries:
        of_round = amounts.setdefault((job_id, round_), Counter())
        assert kind not in of_round
        of_round[kind] = amount or 0

    left = [
        one["reserved"] - one["refunded"] - min(one["usage"], one["reserved"])
        for one in amounts.values()
    ]
    assert min(left, default=0) >= 0
    assert sum(left) == sum(job[4] or 0 for job in jobs if job[2] is None)

    days: dict[int, Counter[str]] = {}
    for _, created_at, *_, lines, stored in jobs:
        days.setdefault(day_of(created_at), Counter()).update(jobs=1, lines=lines, bytes=stored)
    for key, one in amounts.items():
        is_open = EntryKind.REFUNDED.value not in one
        held = one["reserved"] if is_open else 0
        days.setdefault(day_of(story.begun[key]), Counter()).update(held=held, usage=one["usage"])
    names = ("jobs", "lines", "bytes", "held", "usage")
    wanted = [(day, *(sums[name] for name in names)) for day, sums in sorted(days.items())]
    rows = story.look(
        "SELECT day, jobs, lines, bytes, reserved_micro_dollars, spent_micro_dollars"
        " FROM usage WHERE org_id = ? ORDER BY day"
    )
    assert [row for row in rows if any(row[1:])] == [row for row in wanted if any(row[1:])]


async def play(store: Store, new_job: MakeJob, steps: list[Step]) -> None:
    """Play one story in an organisation of its own, since the ledger forgets nothing."""
    org_id = OrgId(f"org-{new_job_id()}")
    await store.tenants.ensure_org(org_id, org_id, START)
    await store.tenants.ensure_user(f"{org_id}-user", org_id, "owner", START)
    story = Story(store, org_id, new_job)
    for step in steps:
        await story.step(step)
        check(story)
    await story.end_all()
    check(story)
    held = "SELECT coalesce(sum(reserved_micro_dollars), 0) FROM usage WHERE org_id = ?"
    assert [(int(row[0]),) for row in story.look(held)] == [(0,)]


QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
STEPS = st.lists(STEP, max_size=25)


async def play_on(location: Location, new_job: MakeJob, steps: list[Step]) -> None:
    """Play one story on a store of its own."""
    store = Store.open(location)
    try:
        await play(store, new_job, steps)
    finally:
        await store.close()


@pytest.mark.parametrize("location", ["sqlite"], indirect=True)
@settings(QUIET, max_examples=40)
@given(steps=STEPS)
def test_the_ledger_explains_where_the_money_is(
    location: Location, new_job: MakeJob, steps: list[Step]
) -> None:
    """Of what was reserved, what was not given back and not billed is what open jobs hold.

    And a day's row is the sum over the jobs and over the ledger, at every moment.
    """
    asyncio.run(play_on(location, new_job, steps))


@pytest.mark.parametrize("location", ["postgres"], indirect=True)
@settings(QUIET, max_examples=4)
@given(steps=STEPS)
def test_the_ledger_explains_it_on_postgres(
    location: Location, new_job: MakeJob, steps: list[Step]
) -> None:
    """The same where each question is a connection of its own, with fewer stories."""
    asyncio.run(play_on(location, new_job, steps))


async def test_a_shard_has_no_entries(store: Store, new_job: MakeJob) -> None:
    """Its parent has; the end of a shard is neither billed nor counted."""
    shard = new_job(
        parent_id=new_job_id(),
        reserved_micro_dollars=None,
        state=JobState.COLLECTING,
        provider_job="p",
    )
    await store.jobs.add(shard)
    before = look(store, "SELECT * FROM usage")
    assert await store.jobs.finish(shard.id, START, finish())
    assert look(store, "SELECT * FROM ledger") == []
    assert look(store, "SELECT * FROM usage") == before


async def test_an_overrun_is_shown(store: Store, new_job: MakeJob) -> None:
    """A round that costs more than was reserved gives nothing back, and is billed in full."""
    job = new_job(reserved_micro_dollars=40, state=JobState.COLLECTING, provider_job="p")
    await store.jobs.add(job)
    await store.jobs.finish(job.id, START + 7, finish())
    rows = look(store, "SELECT kind, round, at, lines, micro_dollars FROM ledger ORDER BY id")
    assert rows == [
        ("reserved", 1, START, 3, 40),
        ("usage", 1, START + 7, 2, 42),
        ("refunded", 1, START + 7, 0, 0),
    ]
