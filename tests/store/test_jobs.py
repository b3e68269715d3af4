import asyncio
from collections.abc import Callable
from functools import partial

import pytest
import sqlalchemy as sa
from tests.fake_clock import START
from tests.store.driver import COUNTS, PROVIDER_JOB, attempt, bring, finish, look

from penstock.core.job import Attempt, Counts, Job, JobId, OrgId
from penstock.core.state import TERMINAL, JobState, sources_of
from penstock.store.jobs import Finish, Jobs, Kept, Page
from penstock.store.location import Location
from penstock.store.store import Store

MakeJob = Callable[..., Job]
ACME, RIVAL = OrgId("acme"), OrgId("rival")
OPEN = [state for state in JobState if state not in TERMINAL]
MOVES = (JobState.PREPARED, JobState.COLLECTING)


async def snapshot(jobs: Jobs, job: Job) -> object:
    """Everything that is stored of a job."""
    return await jobs.load(job.id), await jobs.attempts(job.id), await jobs.events(job.id)


# -- adding and reading --------------------------------------------------------------------------


async def test_a_job_comes_back_as_it_was_added(store: Store, new_job: MakeJob) -> None:
    """Every field survives, the payload's JSON included."""
    job = new_job(payload={"model": "m", "labels": {"a": [1, None, "ü"]}}, status_detail="Stored.")
    await store.jobs.add(job)
    assert await store.jobs.get(ACME, job.id) == job


async def test_adding_is_one_event(store: Store, new_job: MakeJob) -> None:
    """The history begins with the job, in the same transaction."""
    job = new_job(line_count=7)
    await store.jobs.add(job)
    assert await store.jobs.events(job.id) == [("accepted", "7 lines")]


async def test_an_id_is_used_once(store: Store, new_job: MakeJob) -> None:
    """A second job of the same id is refused and leaves no event."""
    job = new_job()
    await store.jobs.add(job)
    with pytest.raises(sa.exc.IntegrityError):
        await store.jobs.add(job)
    assert len(await store.jobs.events(job.id)) == 1


async def test_a_job_survives_a_restart(store: Store, new_job: MakeJob, location: Location) -> None:
    """What was added is read by another process."""
    job = new_job()
    await store.jobs.add(job)
    other = Store.open(location)
    assert await other.jobs.load(job.id) == job
    await other.close()


# -- tenants -------------------------------------------------------------------------------------


async def test_a_foreign_job_is_absent(store: Store, new_job: MakeJob) -> None:
    """Another tenant's id and an id that does not exist give the same."""
    job = await bring(store, new_job(), JobState.ACCEPTED)
    assert await store.jobs.get(RIVAL, job) is None
    assert await store.jobs.get(RIVAL, "req_absent") is None


async def test_lists_hold_the_tenants_own(store: Store, new_job: MakeJob) -> None:
    """Neither the page nor the count knows of another tenant's jobs."""
    mine = new_job()
    await store.jobs.add(mine)
    await store.jobs.add(new_job(org_id=RIVAL, user_id="rival-user"))
    assert (await store.jobs.listed(ACME, Page()))[0] == [mine]
    assert (await store.jobs.listed(ACME, Page()))[1] == 1


async def test_a_foreign_job_cannot_be_cancelled(store: Store, new_job: MakeJob) -> None:
    """Another tenant's wish changes nothing."""
    job = new_job()
    await store.jobs.add(job)
    before = await snapshot(store.jobs, job)
    assert not await store.jobs.request_cancel(RIVAL, job.id, START + 1)
    assert await snapshot(store.jobs, job) == before


# -- moves ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", MOVES)
@pytest.mark.parametrize("source", list(JobState))
async def test_a_move_follows_the_table(
    store: Store, new_job: MakeJob, source: JobState, to: JobState
) -> None:
    """A move from a state that the table does not allow returns False and changes nothing."""
    job = new_job()
    await bring(store, job, source)
    before = await snapshot(store.jobs, job)
    moved = await store.jobs.move(job.id, to, START + 9, status_detail="moved")
    assert moved == (source in sources_of(to))
    assert (await snapshot(store.jobs, job) == before) == (not moved)


@pytest.mark.parametrize("end", sorted(TERMINAL))
@pytest.mark.parametrize("source", list(JobState))
async def test_an_end_follows_the_table(
    store: Store, new_job: MakeJob, source: JobState, end: JobState
) -> None:
    """A finish from a wrong state, a stale second one included, changes nothing."""
    job = new_job()
    await bring(store, job, source)
    before = await snapshot(store.jobs, job)
    ended = await store.jobs.finish(job.id, START + 9, finish(end))
    assert ended == (source in sources_of(end))
    assert (await snapshot(store.jobs, job) == before) == (not ended)


@pytest.mark.parametrize("source", list(JobState))
async def test_an_intent_is_only_for_prepared_jobs(
    store: Store, new_job: MakeJob, source: JobState
) -> None:
    """Only a PREPARED job may get an attempt; nobody else may send anything."""
    job = new_job()
    await bring(store, job, source)
    before = await snapshot(store.jobs, job)
    loaded = await store.jobs.load(job.id)
    assert loaded is not None
    intended = await store.jobs.intend(attempt(job.id, loaded.attempt + 1))
    assert intended == (source is JobState.PREPARED)
    assert (await snapshot(store.jobs, job) == before) == (not intended)


@pytest.mark.parametrize("source", list(JobState))
async def test_a_provider_job_is_recorded_only_while_submitting(
    store: Store, new_job: MakeJob, source: JobState
) -> None:
    """A late answer to a create does not revive a job that has moved on."""
    job = new_job()
    await bring(store, job, source)
    before = await snapshot(store.jobs, job)
    recorded = await store.jobs.record_provider_job(
        job.id, 1, "other", START + 9, only_input=None, adopted_in=1
    )
    assert recorded == (source is JobState.SUBMITTING)
    assert (await snapshot(store.jobs, job) == before) == (not recorded)


async def test_a_move_writes_its_fields_and_one_event(store: Store, new_job: MakeJob) -> None:
    """State, fields, time and event come together."""
    job = new_job()
    await store.jobs.add(job)
    await store.jobs.move(
        job.id, JobState.PREPARED, START + 1, provider_input="x", status_detail="Uploaded."
    )
    moved = await store.jobs.load(job.id)
    assert moved is not None
    assert (moved.state, moved.provider_input) == (JobState.PREPARED, "x")
    assert (moved.updated_at, moved.status_detail) == (START + 1, "Uploaded.")
    assert (await store.jobs.events(job.id))[-1] == ("prepared", "Uploaded.")


async def test_moving_a_job_that_does_not_exist_is_false(store: Store) -> None:
    """No row, no move, no event."""
    assert not await store.jobs.move(absent(), JobState.PREPARED, START)


def absent() -> JobId:
    """An id that no job has."""
    return JobId("req_absent")


# -- attempts ------------------------------------------------------------------------------------


async def test_an_intent_is_committed_with_its_attempt(store: Store, new_job: MakeJob) -> None:
    """State, attempt number, attempt row and event are one transaction."""
    job = new_job()
    await bring(store, job, JobState.PREPARED)
    assert await store.jobs.intend(attempt(job.id))
    loaded = await store.jobs.load(job.id)
    assert loaded is not None
    assert (loaded.state, loaded.attempt) == (JobState.SUBMITTING, 1)
    assert await store.jobs.attempts(job.id) == [attempt(job.id)]
    assert (await store.jobs.events(job.id))[-1] == ("intent", "attempt 1")


@pytest.mark.parametrize("number", [1, 3])
async def test_only_the_next_attempt_can_be_intended(
    store: Store, new_job: MakeJob, number: int
) -> None:
    """Whoever counts from another attempt, or another round, changes nothing."""
    job = new_job()
    await bring(store, job, JobState.SUBMITTING)
    await store.jobs.move(job.id, JobState.PREPARED, START + 2)
    before = await snapshot(store.jobs, job)
    assert not await store.jobs.intend(attempt(job.id, number))
    assert await snapshot(store.jobs, job) == before


async def test_attempts_come_in_order(store: Store, new_job: MakeJob) -> None:
    """The oldest attempt is the first."""
    job = new_job()
    await bring(store, job, JobState.SUBMITTING)
    for number in (2, 3):
        await store.jobs.move(job.id, JobState.PREPARED, START)
        await store.jobs.intend(attempt(job.id, number))
    assert [each.number for each in await store.jobs.attempts(job.id)] == [1, 2, 3]


async def test_a_provider_job_is_named_on_job_and_attempt(store: Store, new_job: MakeJob) -> None:
    """The name stands in both rows, and the history says how it was learnt."""
    job = new_job()
    await bring(store, job, JobState.RUNNING)
    loaded = await store.jobs.load(job.id)
    assert loaded is not None
    assert (loaded.provider_job, loaded.provider_state) == (PROVIDER_JOB, "JOB_STATE_PENDING")
    assert loaded.provider_state_since == loaded.updated_at
    assert [each.provider_job for each in await store.jobs.attempts(job.id)] == [PROVIDER_JOB]
    assert (await store.jobs.events(job.id))[-1] == ("created", PROVIDER_JOB)


async def test_a_fence_marks_one_attempt(store: Store, new_job: MakeJob) -> None:
    """The input moves and only the newest attempt can be fenced; a late writer changes nothing."""
    job = new_job()
    await bring(store, job, JobState.SUBMITTING)
    await store.jobs.move(job.id, JobState.PREPARED, START)
    await store.jobs.intend(attempt(job.id, 2))
    assert not await store.jobs.fence(job.id, 1, START + 4, "late/input.jsonl")
    assert await store.jobs.fence(job.id, 2, START + 5, "moved/input.jsonl")
    attempts: list[Attempt] = await store.jobs.attempts(job.id)
    loaded = await store.jobs.load(job.id)
    assert loaded is not None
    assert [each.fenced_at for each in attempts] == [None, START + 5]
    assert loaded.provider_input == "moved/input.jsonl"


async def test_a_fenced_attempt_takes_no_answer(store: Store, new_job: MakeJob) -> None:
    """Whoever knows only the input from before the fence records nothing."""
    job = new_job()
    await bring(store, job, JobState.SUBMITTING)
    await store.jobs.fence(job.id, 1, START + 5, "moved")
    record = partial(store.jobs.record_provider_job, job.id, 1, "ours", START + 6)
    back = partial(store.jobs.move, job.id, JobState.PREPARED, START + 6, only_attempt=1)
    assert [await record(only_input="before"), await back(only_input="before")] == [False, False]
    assert await record(only_input="moved", adopted_in=1)
    assert not await store.jobs.fence(job.id, 1, START + 7, "moved again")


async def test_a_move_may_name_the_only_state_it_starts_from(
    store: Store, new_job: MakeJob
) -> None:
    """A late prepare does not take a job back that is being submitted."""
    job = new_job()
    await bring(store, job, JobState.SUBMITTING)
    late = partial(store.jobs.move, job.id, JobState.PREPARED, START + 5)
    assert not await late(only_from=JobState.ACCEPTED)
    assert await late(only_from=JobState.SUBMITTING)


# -- ends and money ------------------------------------------------------------------------------


async def test_an_end_is_written_whole(store: Store, new_job: MakeJob) -> None:
    """State, time, counts, cost and output stand in the row after one call."""
    job = new_job()
    await bring(store, job, JobState.COLLECTING)
    assert await store.jobs.finish(job.id, START + 9, finish())
    ended = await store.jobs.load(job.id)
    assert ended is not None
    assert (ended.state, ended.finished_at) == (JobState.SUCCEEDED, START + 9)
    assert (ended.counts, ended.cost_micro_dollars) == (COUNTS, 42)
    assert (ended.output_bytes, ended.output_sha256) == (9, "f" * 64)


async def test_a_finish_bills_once(store: Store, new_job: MakeJob) -> None:
    """However often the end is written, the ledger has one entry, with the paid lines only."""
    job = new_job(reserved_micro_dollars=None)
    await bring(store, job, JobState.COLLECTING)
    for _ in range(3):
        await store.jobs.finish(job.id, START + 9, finish())
    ledger = look(
        store,
        "SELECT org_id, job_id, attempt, kind, lines, prompt_tokens, output_tokens, micro_dollars"
        " FROM ledger",
    )
    assert ledger == [("acme", job.id, 1, "usage", 2, 10, 25, 42)]


async def test_a_late_answer_to_an_older_attempt_changes_nothing(
    store: Store, new_job: MakeJob
) -> None:
    """A process that froze with attempt 1's answer writes nothing while attempt 2 is submitting."""
    job = new_job()
    await bring(store, job, JobState.SUBMITTING)
    await store.jobs.move(job.id, JobState.PREPARED, START + 5)
    second = Attempt(
        job_id=job.id,
        number=2,
        intent_at=START + 6,
        input_uri="gs://b/i",
        output_prefix="gs://b/o",
        label="l",
    )
    assert await store.jobs.intend(second)
    late = START + 7
    record = partial(store.jobs.record_provider_job, only_input=None)
    assert not await record(job.id, 1, "projects/late", late)
    assert not await record(job.id, 1, "projects/late", late, adopted_in=1)
    assert not await store.jobs.move(job.id, JobState.PREPARED, late, only_attempt=1)
    assert not await store.jobs.finish(job.id, late, finish(JobState.FAILED), only_attempt=1)
    assert await record(job.id, 2, "projects/ours", late)


async def test_the_ledger_takes_no_round_twice(store: Store, new_job: MakeJob) -> None:
    """Even a writer that forgets the guard cannot bill a round again."""
    job = new_job()
    await bring(store, job, JobState.SUCCEEDED)
    before = look(store, "SELECT * FROM ledger")
    with pytest.raises(Exception, match=r"(?i)unique constraint.*ledger"):
        look(
            store,
            "INSERT INTO ledger (org_id, job_id, attempt, kind, at, lines, prompt_tokens,"
            " output_tokens) VALUES ('acme', ?, 9, 'usage', 0, 0, 0, 0)",
            job.id,
        )
    assert look(store, "SELECT * FROM ledger") == before


async def test_an_unknown_price_is_null(store: Store, new_job: MakeJob) -> None:
    """A cost that nobody knows is not written as zero."""
    job = new_job()
    await bring(store, job, JobState.COLLECTING)
    await store.jobs.finish(job.id, START, finish(cost_micro_dollars=None))
    assert look(store, "SELECT micro_dollars FROM ledger") == [(None,)]


async def test_an_end_without_lines_bills_nothing(store: Store, new_job: MakeJob) -> None:
    """A job that never reached the provider has no ledger entry, and says why it failed."""
    job = new_job()
    await store.jobs.add(job)
    failed = Finish(
        state=JobState.FAILED, detail="No.", error_code="refused", error_message="Because."
    )
    await store.jobs.finish(job.id, START, failed)
    ended = await store.jobs.load(job.id)
    assert ended is not None
    assert (ended.error_code, ended.error_message, ended.counts) == ("refused", "Because.", None)
    assert look(store, "SELECT * FROM ledger") == []


async def test_zero_counts_survive(store: Store, new_job: MakeJob) -> None:
    """Counts of zero are counts and not nothing."""
    job = new_job()
    await bring(store, job, JobState.COLLECTING)
    await store.jobs.finish(job.id, START, finish(counts=Counts()))
    ended = await store.jobs.load(job.id)
    assert ended is not None
    assert ended.counts == Counts()


# -- races ---------------------------------------------------------------------------------------


async def test_one_of_many_finishers_wins(store: Store, new_job: MakeJob) -> None:
    """Ends that are written at the same time give one end and one bill."""
    job = new_job()
    await bring(store, job, JobState.COLLECTING)
    ends = [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED] * 3
    won = await asyncio.gather(*(store.jobs.finish(job.id, START, finish(end)) for end in ends))
    assert won.count(True) == 1
    assert len(look(store, "SELECT * FROM ledger")) == 1


async def test_one_of_many_restarts_counts(store: Store, new_job: MakeJob) -> None:
    """Those who find the same dead workflow count one restart together."""
    job = new_job()
    await store.jobs.add(job)
    won = await asyncio.gather(
        *(
            store.jobs.next_run(job.id, 0, START + 1, "died", only_from=JobState.ACCEPTED)
            for _ in range(6)
        )
    )
    loaded = await store.jobs.load(job.id)
    assert loaded is not None
    assert (won.count(True), loaded.run) == (1, 1)
    assert await store.jobs.events(job.id) == [("accepted", "3 lines"), ("restarted", "died")]


async def test_one_of_many_intents_is_committed(store: Store, new_job: MakeJob) -> None:
    """Two workers on one job make one attempt."""
    job = new_job()
    await bring(store, job, JobState.PREPARED)
    won = await asyncio.gather(*(store.jobs.intend(attempt(job.id)) for _ in range(4)))
    assert won.count(True) == 1


# -- cancels and notes ---------------------------------------------------------------------------


@pytest.mark.parametrize("state", OPEN)
async def test_an_open_job_can_be_cancelled_twice(
    store: Store, new_job: MakeJob, state: JobState
) -> None:
    """The first wish counts, the second is the same as the first."""
    job = new_job()
    await bring(store, job, state)
    assert await store.jobs.request_cancel(ACME, job.id, START + 5)
    assert await store.jobs.request_cancel(ACME, job.id, START + 9)
    loaded = await store.jobs.load(job.id)
    assert loaded is not None
    assert (loaded.state, loaded.cancel_requested_at) == (state, START + 5)
    kinds = [kind for kind, _ in await store.jobs.events(job.id)]
    assert kinds.count("cancel_requested") == 1


@pytest.mark.parametrize("state", sorted(TERMINAL))
async def test_an_ended_job_cannot_be_cancelled(
    store: Store, new_job: MakeJob, state: JobState
) -> None:
    """After the end a wish changes nothing."""
    job = new_job()
    await bring(store, job, state)
    before = await snapshot(store.jobs, job)
    assert not await store.jobs.request_cancel(ACME, job.id, START + 5)
    assert await snapshot(store.jobs, job) == before


async def test_only_open_wishes_are_listed(store: Store, new_job: MakeJob) -> None:
    """The lifecycle sees the wishes that it can still fulfil."""
    wished, ended = new_job(), new_job()
    for job in (wished, ended, new_job()):
        await store.jobs.add(job)
    for job in (wished, ended):
        await store.jobs.request_cancel(ACME, job.id, START)
    await store.jobs.finish(ended.id, START, finish(JobState.CANCELLED, counts=None))
    assert await store.jobs.cancel_requested() == {wished.id}


async def test_a_note_touches_open_jobs_only(store: Store, new_job: MakeJob) -> None:
    """A late note does not change what was written at the end."""
    opened, ended = new_job(), new_job()
    await bring(store, opened, JobState.RUNNING)
    await bring(store, ended, JobState.SUCCEEDED)
    before = await snapshot(store.jobs, ended)
    for job in (opened, ended):
        await store.jobs.note(job.id, START + 3, provider_state="JOB_STATE_RUNNING")
    noted = await store.jobs.load(opened.id)
    assert noted is not None
    assert noted.provider_state == "JOB_STATE_RUNNING"
    assert await snapshot(store.jobs, ended) == before


async def test_open_jobs_are_listed_by_age(store: Store, new_job: MakeJob) -> None:
    """The job that changed longest ago comes first, and ended ones not at all."""
    young = await bring(store, new_job(updated_at=START + 5), JobState.ACCEPTED)
    old = await bring(store, new_job(updated_at=START - 5), JobState.ACCEPTED)
    await bring(store, new_job(), JobState.FAILED)
    assert [job.id for job in await store.jobs.open_jobs()] == [old, young]


async def test_rows_say_which_files_are_kept(store: Store, new_job: MakeJob) -> None:
    """State and output of all tenants' jobs that were asked for, and of no other."""
    ended = await bring(store, new_job(), JobState.COLLECTING)
    end = Finish(state=JobState.SUCCEEDED, detail="", output_name="output-1.jsonl")
    assert await store.jobs.finish(ended, START, end)
    foreign = await bring(store, new_job(org_id=RIVAL, user_id="rival-user"), JobState.ACCEPTED)
    await bring(store, new_job(), JobState.ACCEPTED)
    assert await store.jobs.kept([ended, foreign, "req_none"]) == {
        ended: Kept(id=ended, state=JobState.SUCCEEDED, output_name="output-1.jsonl"),
        foreign: Kept(id=foreign, state=JobState.ACCEPTED, output_name=None),
    }
    assert await store.jobs.kept([]) == {}


async def test_events_keep_their_order(store: Store, new_job: MakeJob) -> None:
    """The history is in the order of writing, whatever the clock said."""
    job = new_job()
    await store.jobs.add(job)
    await store.jobs.event(job.id, START + 9, "late", "1")
    await store.jobs.event(job.id, START - 9, "early", "2")
    assert await store.jobs.events(job.id) == [
        ("accepted", "3 lines"),
        ("late", "1"),
        ("early", "2"),
    ]


# -- constraints ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "state = 'unknown'",
        "state = 'succeeded'",
        "finished_at = 1",
        "state = 'running'",
        "state = 'collecting'",
        "org_id = 'nowhere'",
        "user_id = 'nobody'",
        "payload = NULL",
    ],
)
async def test_the_database_refuses_what_cannot_be(
    store: Store, new_job: MakeJob, change: str
) -> None:
    """An impossible row is refused by the database itself, whoever writes it."""
    await store.jobs.add(new_job())
    with pytest.raises(Exception, match="constraint"):
        look(store, f"UPDATE jobs SET {change}")  # noqa: S608 - literals above
