from collections.abc import Callable
from functools import partial
from typing import Any

import httpx2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.api.driver import BASE, COUNTS, Api, ended, every_integer
from tests.api.indexed import OK, indexed
from tests.fake_clock import START, FakeClock

from penstock.api.request_queue_record import completion_stats
from penstock.blobs.spool import Spool
from penstock.core.job import Counts, Job, JobId, OrgId, StopReason
from penstock.core.limits import Limits
from penstock.core.line import LineOutcome
from penstock.core.options import Selection
from penstock.core.state import JobState
from penstock.store.store import Store

MakeJob = Callable[..., Job]
Json = dict[str, Any]
plain_job = partial(
    Job,
    id=JobId("req_1"),
    org_id=OrgId("acme"),
    user_id="u",
    key_id="k",
    state=JobState.SUCCEEDED,
    model="m",
    payload={},
    input_bytes=1,
    input_sha256="",
    created_at=START,
    updated_at=START,
)
NAME = "projects/p/locations/global/batchPredictionJobs/7"
OUTPUT = b'{"status": ""}\n'


async def record_of(client: httpx2.AsyncClient, job_id: str) -> Json:
    """The record of a job."""
    answer = await client.get(f"{BASE}/requests/{job_id}")
    assert answer.status_code == 200
    record: Json = answer.json()
    return record


async def at_provider(api: Api, job: Job, state: JobState, provider_state: str) -> str:
    """Store a job that the provider has."""
    await api.store.jobs.add(
        msgspec.structs.replace(job, state=state, provider_job=NAME, provider_state=provider_state)
    )
    return job.id


@pytest.mark.parametrize(
    ("state", "seen", "shown"),
    [
        (JobState.RUNNING, "JOB_STATE_QUEUED", "JOB_STATE_QUEUED"),
        (JobState.RUNNING, "JOB_STATE_PENDING", "JOB_STATE_PENDING"),
        (JobState.RUNNING, "JOB_STATE_RUNNING", "JOB_STATE_RUNNING"),
        (JobState.RUNNING, "JOB_STATE_PAUSED", "JOB_STATE_RUNNING"),
        (JobState.RUNNING, "JOB_STATE_SUCCEEDED", "JOB_STATE_RUNNING"),
        (JobState.COLLECTING, "JOB_STATE_SUCCEEDED", "JOB_STATE_RUNNING"),
        (JobState.COLLECTING, "JOB_STATE_FAILED", "JOB_STATE_RUNNING"),
    ],
)
async def test_a_job_at_the_provider_is_processing(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob, state: JobState, seen: str, shown: str
) -> None:
    """No state word overrides `processing` before there is an output to fetch."""
    record = await record_of(acme, await at_provider(api, new_job(), state, seen))
    assert (record["status"], record["outcome"]["batch_job_state"]) == ("processing", shown)
    assert "output_url" not in record["outcome"]
    assert record["outcome"]["batch_job_completion_stats"]["incomplete_count"] == 3


async def test_a_success_has_the_reference_shape(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """Counts are integers, the cost is a string, and both URLs are there."""
    job_id = await ended(api, new_job(), output=OUTPUT, counts=COUNTS, cost_micro_dollars=13_280)
    record = await record_of(acme, job_id)
    outcome = record["outcome"]
    assert (record["status"], outcome["actual_cost_usd"]) == ("success", "0.013280")
    assert outcome["output_url"] == outcome["output_download_urls"][0]
    assert outcome["batch_job_completion_stats"] == {
        "successful_count": 2,
        "failed_count": 1,
        "incomplete_count": 0,
        "total_count": 3,
        "ok": 2,
        "truncated": 0,
        "blocked": 0,
        "empty": 0,
        "invalid_output": 0,
        "error": 1,
        "missing": 0,
        "expired": 0,
        "cancelled": 0,
        "deduplicated_count": 0,
        "quarantined_count": 0,
    }
    assert every_integer(outcome["batch_job_completion_stats"].values())
    assert every_integer(outcome["token_usage"].values())
    assert (outcome["message"], outcome["error"]) == ("", None)


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        (Counts(ok=3), "JOB_STATE_SUCCEEDED"),
        (Counts(blocked=3), "JOB_STATE_SUCCEEDED"),
        (Counts(ok=2, missing=1), "JOB_STATE_PARTIALLY_SUCCEEDED"),
        (Counts(error=3), "JOB_STATE_PARTIALLY_SUCCEEDED"),
    ],
)
async def test_failed_lines_make_a_success_partial(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob, counts: Counts, shown: str
) -> None:
    """Even when every line failed the job succeeded and has an output."""
    outcome = (await record_of(acme, await ended(api, new_job(), output=OUTPUT, counts=counts)))[
        "outcome"
    ]
    assert outcome["batch_job_state"] == shown
    assert outcome["output_url"]


@pytest.mark.parametrize(
    ("code", "shown", "failed"),
    [
        ("provider_failed", "JOB_STATE_FAILED", 3),
        ("queue_expired", "JOB_STATE_EXPIRED", 0),
        ("run_expired", "JOB_STATE_CANCELLED", 0),
    ],
)
async def test_a_failure_says_why(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob, code: str, shown: str, failed: int
) -> None:
    """`failed` comes with a code, a message and a state that clients read as failed.

    Lines that no time was left for are incomplete; none of them was tried.
    """
    job_id = await ended(api, new_job(), JobState.FAILED, error_code=code, error_message="Because.")
    record = await record_of(acme, job_id)
    assert (record["status"], record["outcome"]["batch_job_state"]) == ("failed", shown)
    assert record["outcome"]["error"] == {"code": code, "message": "Because."}
    assert record["outcome"]["message"] == "Because."
    stats = record["outcome"]["batch_job_completion_stats"]
    assert (stats["failed_count"], stats["incomplete_count"]) == (failed, 3 - failed)


async def test_a_failure_without_a_code_still_has_one(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """A client never finds a failure without code and message."""
    record = await record_of(acme, await ended(api, new_job(), JobState.FAILED))
    assert record["outcome"]["error"] == {"code": "provider_error", "message": "The end."}


async def test_a_cancelled_job_delivers_what_is_there(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """Lines that a cancel cut off are incomplete, and finished ones can be fetched."""
    job = new_job(stop_reason=StopReason.CANCELLED)
    counts = Counts(ok=1, missing=2)
    job_id = await ended(api, job, JobState.CANCELLED, output=OUTPUT, counts=counts)
    record = await record_of(acme, job_id)
    outcome = record["outcome"]
    assert (record["status"], outcome["batch_job_state"]) == ("cancelled", "JOB_STATE_CANCELLED")
    stats = outcome["batch_job_completion_stats"]
    assert (stats["successful_count"], stats["failed_count"]) == (1, 0)
    assert stats["incomplete_count"] == 2
    assert outcome["output_url"]


@given(
    st.lists(st.integers(0, 200_000), min_size=9, max_size=9), st.sampled_from([None, *StopReason])
)
def test_the_counts_are_the_total(lines: list[int], stop_reason: StopReason | None) -> None:
    """Whatever became of lines, what was answered, failed and was cut off is all of them."""
    counts = Counts(**dict(zip(LineOutcome, lines, strict=True)))
    job = plain_job(line_count=sum(lines), counts=counts, stop_reason=stop_reason)
    stats = completion_stats(job)
    shown = ("successful_count", "failed_count", "incomplete_count")
    assert sum(stats[name] for name in shown) == stats["total_count"] == sum(lines)
    assert [stats[outcome] for outcome in LineOutcome] == lines
    assert stats["incomplete_count"] >= counts.expired + counts.cancelled


async def test_lines_that_were_cut_off_are_incomplete(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """Cancelled and expired lines are neither answered nor failed, and make a success partial."""
    job = new_job(twin_count=1, problem_count=2)
    counts = Counts(ok=1, cancelled=1, expired=1)
    outcome = (await record_of(acme, await ended(api, job, output=OUTPUT, counts=counts)))[
        "outcome"
    ]
    stats = outcome["batch_job_completion_stats"]
    assert (stats["successful_count"], stats["failed_count"]) == (1, 0)
    assert (stats["incomplete_count"], stats["cancelled"], stats["expired"]) == (2, 1, 1)
    assert (stats["deduplicated_count"], stats["quarantined_count"]) == (1, 2)
    assert outcome["batch_job_state"] == "JOB_STATE_PARTIALLY_SUCCEEDED"


async def test_a_record_says_where_its_lines_are(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """The address is there once the lines are known, and leads to them."""
    before = (await record_of(acme, await ended(api, new_job(), output=OUTPUT)))["outcome"]
    assert "lines_url" not in before
    outcome = (await record_of(acme, await indexed(api, new_job(), [OK])))["outcome"]
    assert (await acme.get(outcome["lines_url"])).json()["total"] == 1


@pytest.mark.parametrize(
    ("state", "provider_state"),
    [
        (JobState.ACCEPTED, None),
        (JobState.PREPARED, None),
        (JobState.SUBMITTING, None),
        (JobState.RUNNING, "JOB_STATE_PENDING"),
        (JobState.COLLECTING, "JOB_STATE_SUCCEEDED"),
    ],
)
async def test_a_later_round_keeps_what_there_is(
    acme: httpx2.AsyncClient,
    api: Api,
    new_job: MakeJob,
    state: JobState,
    provider_state: str | None,
) -> None:
    """While lines are sent again a client waits, and has the output of the round before."""
    job = new_job(
        state=state,
        provider_job=None if provider_state is None else NAME,
        provider_state=provider_state,
        round=2,
        round_began_at=START + 60.5,
        selection=Selection(outcomes=(LineOutcome.ERROR,)),
        counts=COUNTS,
        cost_micro_dollars=42,
        output_sha256="0" * 64,
        output_bytes=7,
        output_name="output.jsonl",
        index_name="lines.idx",
    )
    await api.store.jobs.add(job)
    record = await record_of(acme, job.id)
    outcome = record["outcome"]
    assert (record["status"], outcome["batch_job_state"]) == ("processing", "JOB_STATE_RUNNING")
    assert outcome["output_url"]
    assert outcome["lines_url"]
    assert outcome["batch_job_completion_stats"]["failed_count"] == 1
    assert outcome["round"] == {
        "number": 2,
        "began_at": int(START + 60),
        "outcomes": ["error"],
    }


async def test_a_job_after_its_second_round_is_as_any_other(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """It is a success, and says how often lines were sent."""
    record = await record_of(acme, await ended(api, new_job(round=2), output=OUTPUT, counts=COUNTS))
    assert record["status"] == "success"
    assert record["outcome"]["round"] == {"number": 2, "began_at": None, "outcomes": []}


async def test_an_unknown_cost_is_null(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """A price that nobody knows is not shown as zero."""
    record = await record_of(acme, await ended(api, new_job(), output=OUTPUT, counts=COUNTS))
    assert record["outcome"]["actual_cost_usd"] is None


async def test_a_job_that_never_ran_costs_nothing(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """Without an answered line the cost is a string of zero."""
    record = await record_of(acme, await ended(api, new_job(), JobState.FAILED))
    assert record["outcome"]["actual_cost_usd"] == "0.000000"


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("batch.example.com", "http://batch.example.com/"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080/"),
        ("[::1]:8080", "http://[::1]:8080/"),
        ("evil.com/path?", "http://penstock.test:None/"),
        ("a b", "http://penstock.test:None/"),
        ("user@evil.com", "http://penstock.test:None/"),
    ],
)
async def test_links_use_only_a_host_that_is_one(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob, host: str, address: str
) -> None:
    """A Host header that is no host name does not get into a link."""
    job_id = await ended(api, new_job(), output=OUTPUT)
    answer = await acme.get(f"{BASE}/requests/{job_id}", headers={"Host": host})
    url = answer.json()["outcome"]["output_url"]
    assert url.startswith(address)


async def test_the_public_url_wins(
    store: Store, spool: Spool, clock: FakeClock, acme: httpx2.AsyncClient, new_job: MakeJob
) -> None:
    """Behind a proxy the operator's address is the one in links."""
    api = Api(store, spool, clock, Limits(), "https://batch.example.com/penstock/")
    job_id = await ended(api, new_job(), output=OUTPUT)
    async with api.client() as client:
        client.headers = acme.headers
        record = await record_of(client, job_id)
    assert record["outcome"]["output_url"].startswith(
        "https://batch.example.com/penstock/api/v1/ie/requestqueue/downloads/"
    )
