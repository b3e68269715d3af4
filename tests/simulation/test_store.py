"""The store in memory is the real one: any sequence of calls gives the same answers and rows."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from tests.simulation.store import MemoryJobs, MemoryWorkers

from penstock.core.bill import Spent
from penstock.core.job import Attempt, Counts, Job, JobId, OrgId, shard_id
from penstock.core.line import LineOutcome
from penstock.core.options import Selection
from penstock.core.state import TERMINAL, JobState
from penstock.errors import Conflict, InternalError
from penstock.store.admission import ANYBODY
from penstock.store.jobs import Finish, Jobs
from penstock.store.rounds import Round
from penstock.store.store import Store

CALLS = 400
ENDS = sorted(TERMINAL)
SPENT = Spent(lines=1, prompt_tokens=2, output_tokens=3, micro_dollars=4)
FOLLOWING = Round(selection=Selection(outcomes=(LineOutcome.ERROR,)), lines=1, micro_dollars=5)
MIDDLES = [JobState.PREPARED, JobState.COLLECTING]


class Both:
    """The two stores; each call goes to both, and both must say the same."""

    def __init__(self, real: Jobs, dice: random.Random) -> None:
        self._real = real
        self._memory = MemoryJobs()
        self._dice = dice
        self._at = 1_795_363_200.0
        self.answers: list[Any] = []

    async def call(self, name: str, *args: object, **named: object) -> None:
        """Call both and compare what comes back; a refusal by the database is one too."""
        try:
            expected = await getattr(self._real, name)(*args, **named)
        except (sa.exc.IntegrityError, Conflict) as error:
            expects = Conflict if isinstance(error, Conflict) else InternalError
            with pytest.raises(expects):
                await getattr(self._memory, name)(*args, **named)
            self.answers.append((name, "refused"))
            return
        assert await getattr(self._memory, name)(*args, **named) == expected, name
        self.answers.append((name, expected))

    async def compare(self, job_id: JobId) -> None:
        """Compare all that is known of a job."""
        for name in ("load", "attempts"):
            await self.call(name, job_id)
        await self.call("kept", [job_id, "req_none"])
        assert list(await self._real.events(job_id)) == await self._memory.events(job_id)

    async def something(self, job: Job) -> None:
        """Make one call with arguments that are sometimes right."""
        dice, job_id = self._dice, job.id
        self._at += dice.random()
        now = self._memory.rows[job_id]
        number = max(1, now.attempt + dice.choice([-1, 0, 0, 0, 1]))
        where = dice.choice([None, now.provider_input, "gs://b/1", "gs://b/2"])
        only = dice.choice([None, number])
        calls: list[Callable[[], Any]] = [
            lambda: self.call(
                "move",
                job_id,
                JobState.PREPARED,
                self._at,
                provider_input="gs://b/1",
                only_from=dice.choice([None, JobState.ACCEPTED]),
            ),
            lambda: self.call(
                "move", job_id, dice.choice(MIDDLES), self._at, only_attempt=only, only_input=where
            ),
            lambda: self.call("note", job_id, self._at, status_detail="x", stop_reason="cancelled"),
            lambda: self.call("note", job_id, self._at, only_attempt=number, status_detail="y"),
            lambda: self.call(
                "next_run",
                job_id,
                now.run + dice.choice([0, 1]),
                self._at,
                "why",
                only_from=dice.choice([now.state, JobState.RUNNING]),
            ),
            lambda: self.call("intend", _attempt(job_id, now.attempt + 1, self._at)),
            lambda: self.call("intend", _attempt(job_id, number, self._at)),
            lambda: self.call(
                "record_provider_job",
                job_id,
                number,
                "name",
                self._at,
                only_input=where,
                adopted_in=only,
            ),
            lambda: self.call("fence", job_id, number, self._at, "gs://b/2"),
            lambda: self.call("request_cancel", OrgId("acme"), job_id, self._at),
            lambda: self.call("request_cancel", OrgId("rival"), job_id, self._at),
            lambda: self.call("event", job_id, self._at, "kind", "detail"),
        ]
        await self._something_rare(now, only)
        await dice.choice(calls)()

    async def rounds_and_shards(self, job: Job) -> None:
        """Lead a job through shards, a round by itself, one by hand, and back."""
        self._at += 1.0
        at, real = self._at, self._real
        end = Finish(state=JobState.SUCCEEDED, detail="", output_name="o", spent=SPENT)
        await self.call("add", job)
        shards = [
            msgspec.structs.replace(
                _shard(job, number), state=JobState.COLLECTING, provider_job="p"
            )
            for number in (1, 2)
        ]
        await self.call("begin_shards", job, shards, at, twin_count=1)
        await self.call("request_cancel", OrgId("acme"), shards[0].id, at)
        for shard in shards:
            await self.call("finish", shard.id, at, end)
            await self.compare(job.id)
        now = await real.load(job.id)
        assert now is not None
        assert now.state is JobState.COLLECTING
        await self.call("again", now, at, end, FOLLOWING)
        await self.compare(job.id)
        await self.call("again", now, at, end, FOLLOWING)
        failed = Finish(state=JobState.FAILED, detail="no", error_code="x", error_message="no")
        await self.call("finish", job.id, at, failed)
        await self.compare(job.id)
        now = await real.load(job.id)
        await self.call("reopen", now, at, FOLLOWING, ANYBODY)
        await self.compare(job.id)
        await self.call("reopen", now, at, FOLLOWING, ANYBODY)
        await self.call("kept", [job.id, shards[0].id])
        await self.call("shards_of", job.id)

    async def _something_rare(self, job: Job, only: int | None) -> None:
        """End the job, or a round of it, with or without an output, or cut it into shards."""
        dice, at = self._dice, self._at
        known = msgspec.structs.replace(job, attempt=job.attempt + dice.choice([0, 0, 0, -1]))
        name = dice.choice([None, f"output-{dice.randrange(9)}.jsonl"])
        end = Finish(
            state=dice.choice(ENDS),
            detail="end",
            counts=Counts(ok=1),
            output_name=name,
            spent=SPENT,
        )
        if dice.random() < 0.02:
            await self.call("finish", job.id, at, end, only_attempt=only)
        if dice.random() < 0.8 and job.state is JobState.COLLECTING:
            ended = msgspec.structs.replace(end, state=JobState.SUCCEEDED)
            await self.call("again", known, at, ended, FOLLOWING)
        if dice.random() < 0.8 and job.state in TERMINAL:
            await self.call("reopen", known, at, FOLLOWING, ANYBODY)
        if dice.random() < 0.15 and not await self._real.shards_of(job.id):
            shards = [_shard(job, number) for number in (1, 2)]
            await self.call("begin_shards", known, shards, at, twin_count=1)
        for shard in await self._real.shards_of(job.id):
            if dice.random() < 0.1:
                await self.call("finish", shard.id, at, end)
                await self.call("load", shard.id)
        await self.call("shards_of", job.id)


def _shard(job: Job, number: int) -> Job:
    return msgspec.structs.replace(
        job,
        id=shard_id(job.id, number),
        parent_id=job.id,
        state=JobState.PREPARED,
        first_line=number,
        last_line=number,
        run=0,
        attempt=0,
        finished_at=None,
    )


def _attempt(job_id: JobId, number: int, at: float) -> Attempt:
    return Attempt(
        job_id=job_id,
        number=number,
        intent_at=at,
        input_uri="gs://b/1",
        output_prefix="gs://b/o",
        label=job_id,
    )


@pytest.mark.parametrize("seed", range(3))
async def test_both_stores_are_the_same(
    store: Store, new_job: Callable[..., Job], seed: int
) -> None:
    """Answers, rows, attempts, events and who is open agree after every call."""
    dice = random.Random(seed)  # noqa: S311  # reproducible, not secret
    both = Both(store.jobs, dice)
    jobs = [
        new_job(id=JobId(f"req_{seed}-{number}"), updated_at=float(number)) for number in range(8)
    ]
    for job in jobs:
        await both.call("add", job)
    for _ in range(CALLS):
        job = dice.choice(jobs)
        await both.something(job)
        await both.compare(job.id)
    await both.rounds_and_shards(new_job(id=JobId(f"req_{seed}-whole")))
    await both.call("open_jobs")
    await both.call("cancel_requested")
    await both.call("load", "req_nobody")
    await both.call("add", jobs[0])
    worked = {name for name, answer in both.answers if answer not in (False, "refused")}
    assert {
        *("move", "intend", "record_provider_job", "fence", "finish", "next_run"),
        *("again", "reopen", "begin_shards"),
    } <= worked


async def test_the_ledgers_are_the_same(store: Store, new_job: Callable[..., Job]) -> None:
    """An end with counts is billed once, in its transaction, by both."""
    job = new_job(state="collecting", provider_job="p", attempt=1)
    spent = Spent(lines=1, micro_dollars=7)
    end = Finish(state=JobState.SUCCEEDED, detail="", counts=Counts(ok=1), spent=spent)
    memory = MemoryJobs()
    for jobs in (store.jobs, memory):
        await jobs.add(job)
        assert [await jobs.finish(job.id, 1.0, end) for _ in range(2)] == [True, False]
    async with store._engine.connect() as connection:
        query = sa.text("SELECT job_id, attempt, micro_dollars FROM ledger")
        rows = [tuple(row) for row in await connection.execute(query)]
    assert rows == [(job.id, 1, 7)]
    assert [(one.job_id, one.attempt, one.micro_dollars) for one in memory.ledger] == rows


async def test_both_know_the_same_workers(store: Store) -> None:
    """Joining, beating, silence and forgetting agree."""
    memory = MemoryWorkers()
    for workers in (store.workers, memory):
        await workers.join("a", 1.0)
        await workers.join("b", 2.0)
        await workers.beat("b", 9.0)
        await workers.beat("c", 3.0)
        assert sorted(await workers.silent_since(5.0)) == ["a", "c"]
        await workers.forget("a")
        await workers.forget("nobody")
        assert await workers.silent_since(5.0) == ["c"]


def test_nothing_of_the_real_store_is_missing() -> None:
    """Every call that the lifecycle makes exists in memory, with the same parameters."""
    folder = Path(__file__).parents[2] / "src" / "penstock" / "lifecycle"
    text = "".join(path.read_text() for path in folder.glob("*.py"))
    for name in {name for name in dir(Jobs) if f"jobs.{name}(" in text}:
        real, memory = getattr(Jobs, name), getattr(MemoryJobs, name)
        names = real.__code__.co_varnames[
            : real.__code__.co_argcount + real.__code__.co_kwonlyargcount
        ]
        count = memory.__code__.co_argcount + memory.__code__.co_kwonlyargcount
        assert memory.__code__.co_varnames[:count] == names, name


def test_the_entries_of_the_ledger_are_whole() -> None:
    """An entry says whose, which attempt, when, what and how much."""
    from_memory = MemoryJobs()
    from_memory.rows["j"] = msgspec.convert(
        {
            "id": "j",
            "org_id": "acme",
            "user_id": "u",
            "key_id": "k",
            "state": "succeeded",
            "model": "m",
            "payload": {},
            "line_count": 1,
            "input_bytes": 1,
            "input_sha256": "",
            "created_at": 0.0,
            "updated_at": 0.0,
        },
        Job,
    )
    job = from_memory.rows["j"]
    from_memory.bill(job, 1.0, Counts(ok=1), 5)
    with pytest.raises(InternalError):
        from_memory.bill(job, 2.0, Counts(ok=1), 5)
