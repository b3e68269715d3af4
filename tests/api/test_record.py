from collections.abc import Callable
from typing import Any

import httpx2
import msgspec
import pytest
from tests.api.driver import BASE, COUNTS, Api, ended, every_integer
from tests.fake_clock import FakeClock

from penstock.blobs.spool import Spool
from penstock.core.job import Counts, Job, StopReason
from penstock.core.limits import Limits
from penstock.core.state import JobState
from penstock.store.store import Store

MakeJob = Callable[..., Job]
Json = dict[str, Any]
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
    ("code", "shown"),
    [
        ("provider_failed", "JOB_STATE_FAILED"),
        ("queue_expired", "JOB_STATE_EXPIRED"),
        ("run_expired", "JOB_STATE_CANCELLED"),
    ],
)
async def test_a_failure_says_why(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob, code: str, shown: str
) -> None:
    """`failed` comes with a code, a message and a state that clients read as failed."""
    job_id = await ended(api, new_job(), JobState.FAILED, error_code=code, error_message="Because.")
    record = await record_of(acme, job_id)
    assert (record["status"], record["outcome"]["batch_job_state"]) == ("failed", shown)
    assert record["outcome"]["error"] == {"code": code, "message": "Because."}
    assert record["outcome"]["message"] == "Because."
    assert record["outcome"]["batch_job_completion_stats"]["failed_count"] == 3


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
