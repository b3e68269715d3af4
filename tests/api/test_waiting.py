"""GET of one open job says why it waits, for how long others did, and when it is likely to end."""

from collections.abc import Callable
from typing import Any

import httpx2
import msgspec
import pytest
from tests.api.driver import BASE, Api
from tests.fake_clock import START, FakeClock

from penstock.client import Waiting
from penstock.core.job import Job, OrgId
from penstock.core.options import Options, RetryPolicy
from penstock.core.state import JobState

MakeJob = Callable[..., Job]
Json = dict[str, Any]
NO_HISTORY = {"waits": 0, "runs": 0, "by_size": False}
RUNNING = {"state": JobState.RUNNING, "provider_job": "projects/p/x/y/7"}


async def add_past(api: Api, make: MakeJob, org: str = "rival") -> None:
    """Let forty jobs have waited 100 to 490 s and run 600 s, of whomever."""
    for number in range(40):
        began_at = START - 10_000
        await api.store.jobs.add(
            make(
                org_id=OrgId(org),
                user_id=f"{org}-user",
                state=JobState.SUCCEEDED,
                created_at=began_at,
                running_since=began_at + 100 + 10 * number,
                finished_at=began_at + 700 + 10 * number,
            )
        )


async def read(client: httpx2.AsyncClient, api: Api, job: Job) -> tuple[str, Json]:
    """Commit a job and return what its record says."""
    await api.store.jobs.add(job)
    record = (await client.get(f"{BASE}/requests/{job.id}")).json()
    return record["status_detail"], record["waiting"]


async def test_in_our_own_line(api: Api, acme: httpx2.AsyncClient, new_job: MakeJob) -> None:
    """A job that is not sent yet has its place among its organisation's, and no others' times."""
    await api.store.jobs.add(new_job(priority=1))
    await api.store.jobs.add(new_job(org_id=OrgId("rival"), user_id="rival-user"))
    said, waiting = await read(acme, api, new_job(status_detail="Stored."))
    assert said == (
        "Stored; position 2 of 2 in your organisation's line; organisations take turns."
    )
    assert waiting == {
        "reason": "our_queue",
        "since": int(START),
        "position": {"number": 2, "of": 2},
        "round": {"number": 1, "of": 2},
        "shards": None,
        "provider_state": None,
        "provider_state_since": None,
        "slow_since": None,
        "wait_percentiles": None,
        "run_percentiles": None,
        "eta": None,
        "samples": NO_HISTORY,
    }


@pytest.mark.parametrize(("number", "text"), [(1, "1 job of it is"), (2, "2 jobs of it are")])
async def test_what_the_provider_has_already(
    api: Api, acme: httpx2.AsyncClient, new_job: MakeJob, number: int, text: str
) -> None:
    """The line says how much of the organisation's is further on."""
    for _ in range(number):
        await api.store.jobs.add(new_job(**RUNNING))
    said, _ = await read(acme, api, new_job(state=JobState.PREPARED))
    assert f"; {text} at the provider; organisations" in said


async def test_in_the_providers_queue(
    api: Api, acme: httpx2.AsyncClient, new_job: MakeJob, clock: FakeClock
) -> None:
    """Its state and since when, how long others waited there, and when the end is expected."""
    await add_past(api, new_job)
    job = new_job(
        **RUNNING,
        provider_state="JOB_STATE_PENDING",
        provider_state_since=START + 10,
        status_detail="The provider has the job.",
    )
    clock.advance(250)
    said, waiting = await read(acme, api, job)
    assert said == (
        "The provider has the job; there it has been PENDING for 4 min; jobs of this model waited "
        "5 min here (median), nine of ten up to 7 min 40 s."
    )
    assert (waiting["reason"], waiting["since"]) == ("provider_queue", START + 10)
    assert waiting["provider_state"] == "JOB_STATE_PENDING"
    assert waiting["provider_state_since"] == START + 10
    # The job itself is one of those that have waited for 250 s at least: without it 290, 450, 470.
    assert waiting["wait_percentiles"] == {"p50": 300, "p90": 460, "p95": 480}
    assert waiting["run_percentiles"] == {"p50": 600, "p90": 600, "p95": 600}
    assert waiting["samples"] == {"waits": 40, "runs": 40, "by_size": True}
    eta = waiting["eta"]
    # 24 others were not through after 250 s: their waits, and a run of 600 s.
    assert eta["coverage"] == 0.8
    assert (
        START + 860 <= eta["earliest_at"] < eta["expected_at"] < eta["latest_at"] <= START + 1_090
    )
    assert START + 960 <= eta["expected_at"] <= START + 990
    # The client reads all of it.
    assert msgspec.to_builtins(msgspec.convert(waiting, Waiting)) == waiting


async def test_while_it_runs(
    api: Api, acme: httpx2.AsyncClient, new_job: MakeJob, clock: FakeClock
) -> None:
    """The time of the run so far, and how long those of like size ran."""
    await add_past(api, new_job)
    job = new_job(**RUNNING, created_at=START - 99, running_since=START)
    clock.advance(300)
    said, waiting = await read(acme, api, job)
    assert said == (
        "it has been running for 5 min; jobs of like size ran 10 min here (median), "
        "nine of ten up to 10 min."
    )
    assert (waiting["reason"], waiting["since"]) == ("provider_run", START)
    assert waiting["eta"]["expected_at"] == START + 600


async def test_of_another_size(
    api: Api, acme: httpx2.AsyncClient, new_job: MakeJob, clock: FakeClock
) -> None:
    """Where none was like it all runs count, and the text says so."""
    await add_past(api, new_job)
    job = new_job(**RUNNING, running_since=START, line_count=100_000)
    clock.advance(9_000)
    said, waiting = await read(acme, api, job)
    assert "jobs of this model ran 10 min here" in said
    assert not waiting["samples"]["by_size"]
    # It has run for longer than all of them.
    assert waiting["eta"] is None


async def test_a_job_that_was_cut(
    api: Api, acme: httpx2.AsyncClient, new_job: MakeJob, clock: FakeClock
) -> None:
    """How far the parts are; the last one decides when the end is expected."""
    await add_past(api, new_job)
    parent = new_job(
        state=JobState.RUNNING, provider_job="shards/2", line_count=8, status_detail="Cut in 2."
    )
    shards = [
        new_job(**RUNNING, parent_id=parent.id, created_at=START, running_since=since)
        for since in (START, None)
    ]
    clock.advance(150)
    said, waiting = await read(acme, api, parent)
    for shard in shards:
        await api.store.jobs.add(shard)
    said, waiting = await reread(acme, parent)
    assert said == "Cut in 2; 0 of 2 provider jobs have ended; 1 do not run yet."
    assert waiting["reason"] == "shards"
    assert waiting["shards"] == {"of": 2, "ended": 0, "pending": 1}
    assert waiting["provider_state"] is None
    assert waiting["eta"]["expected_at"] > START + 750
    await api.store.jobs.note(shards[1].id, START, running_since=START + 50)
    said, waiting = await reread(acme, parent)
    assert said == "Cut in 2; 0 of 2 provider jobs have ended."
    assert waiting["eta"]["expected_at"] == START + 650


async def reread(client: httpx2.AsyncClient, job: Job) -> tuple[str, Json]:
    """Return what a job's record says now."""
    record = (await client.get(f"{BASE}/requests/{job.id}")).json()
    return record["status_detail"], record["waiting"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"state": JobState.SUBMITTING}, "sending"),
        ({**RUNNING, "state": JobState.COLLECTING, "running_since": START}, "collecting"),
        ({**RUNNING, "cancel_requested_at": START}, "cancelling"),
    ],
)
async def test_what_is_soon_over_has_no_forecast(
    api: Api, acme: httpx2.AsyncClient, new_job: MakeJob, changes: Json, reason: str
) -> None:
    """While it is sent, collected or cancelled the row's own sentence is all there is to say."""
    await add_past(api, new_job)
    said, waiting = await read(acme, api, new_job(**changes, status_detail="Soon."))
    assert said == "Soon."
    assert waiting["reason"] == reason
    assert (waiting["eta"] is None) == (reason != "sending")


async def test_a_later_round(api: Api, acme: httpx2.AsyncClient, new_job: MakeJob) -> None:
    """Which one of how many, and times since it began; what was slow before it is not told."""
    job = new_job(
        **RUNNING,
        provider_state="JOB_STATE_QUEUED",
        created_at=START - 9_000,
        round=2,
        round_began_at=START - 60,
        slow_at=START - 99,
        options=Options(retry=RetryPolicy(attempts=3)),
        status_detail="Sent.",
    )
    said, waiting = await read(acme, api, job)
    assert said == "Sent; round 2 of 4; there it has been QUEUED for 1 min."
    assert waiting["round"] == {"number": 2, "of": 4}
    assert (waiting["since"], waiting["slow_since"]) == (START - 60, None)


async def test_a_slow_job_says_so(api: Api, acme: httpx2.AsyncClient, new_job: MakeJob) -> None:
    """Since when, and in words."""
    said, waiting = await read(acme, api, new_job(slow_at=START, created_at=START - 9))
    assert said.endswith("; it takes longer than 95 of 100 others did.")
    assert waiting["slow_since"] == START


async def test_an_ended_job_does_not_wait(
    api: Api, acme: httpx2.AsyncClient, new_job: MakeJob
) -> None:
    """Its record is what it was, and so is that of a list, in which nobody is asked about."""
    job = new_job(state=JobState.FAILED, finished_at=START, status_detail="It failed.")
    await api.store.jobs.add(job)
    await api.store.jobs.add(new_job(status_detail="Stored."))
    record = (await acme.get(f"{BASE}/requests/{job.id}")).json()
    assert record["status_detail"] == "It failed."
    assert "waiting" not in record
    page = (await acme.get(f"{BASE}/requests")).json()["requests"]
    assert [("waiting" in one, one["status_detail"]) for one in page if one != record] == [
        (False, "Stored.")
    ]


async def test_nothing_is_told_of_a_foreign_job(
    api: Api, acme: httpx2.AsyncClient, rival: httpx2.AsyncClient, new_job: MakeJob
) -> None:
    """A job of another organisation and one that is not there give the same bytes."""
    job = new_job()
    await api.store.jobs.add(job)
    foreign = await rival.get(f"{BASE}/requests/{job.id}")
    absent = await acme.get(f"{BASE}/requests/req_nothing")
    assert foreign.status_code == absent.status_code == 404
    assert foreign.content == absent.content
