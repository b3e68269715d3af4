"""POST /requests/{id}/retry: what begins another round, and what is refused."""

from collections.abc import Callable
from typing import Any

import httpx2
import msgspec
import pytest
from tests.api.driver import BASE, Api, ended, permit
from tests.api.indexed import BAD, BLOCKED, BUSY, OK, Made, indexed
from tests.api.test_lines import MIXED
from tests.fake_clock import FakeClock

from penstock.blobs.spool import Spool
from penstock.core.bill import Spent
from penstock.core.job import Job, JobId
from penstock.core.limits import Limits
from penstock.core.line import LineOutcome
from penstock.core.options import Options
from penstock.core.quotas import Quotas
from penstock.core.state import JobState
from penstock.store.store import Store

MakeJob = Callable[..., Job]
COST = {"cost_micro_dollars": 700, "spent": Spent(lines=7, micro_dollars=700)}


async def retry(
    client: httpx2.AsyncClient, job_id: str, outcomes: str | None = None, **headers: str
) -> httpx2.Response:
    """Ask for a round."""
    query = "" if outcomes is None else f"?outcomes={outcomes}"
    return await client.post(f"{BASE}/requests/{job_id}/retry{query}", headers=headers)


async def refused(client: httpx2.AsyncClient, job_id: str, outcomes: str | None = None) -> Any:  # noqa: ANN401
    """The status and the code of a refusal."""
    answer = await retry(client, job_id, outcomes)
    assert answer.json()["message"]
    return answer.status_code, answer.json()["code"]


async def now(store: Store, job_id: JobId) -> Job:
    """The job's row."""
    job = await store.jobs.load(job_id)
    assert job is not None
    return job


async def test_a_round_begins(acme: httpx2.AsyncClient, api: Api, new_job: MakeJob) -> None:
    """The job is open again, its record shows the output so far, and the lifecycle is woken."""
    job_id = await indexed(api, new_job(), MIXED, **COST)
    answer = await retry(acme, job_id, "blocked,error")
    assert answer.status_code == 200, answer.text
    record = answer.json()
    assert (record["status"], record["outcome"]["round"]["number"]) == ("processing", 2)
    assert "output_url" in record["outcome"]
    job = await now(api.store, job_id)
    assert (job.state, job.round, job.settled_state) == (
        JobState.ACCEPTED,
        2,
        JobState.SUCCEEDED,
    )
    assert job.selection is not None
    assert job.selection.outcomes == (LineOutcome.BLOCKED, LineOutcome.ERROR)
    # Four of seven lines, of which all did cost 700.
    assert job.reserved_micro_dollars == 400
    assert "4 lines are sent again" in job.status_detail
    assert api.accepted == 1
    rows = await api.store.audit.page(job.org_id, None, 5)
    assert [(one.action, one.result) for one in rows] == [("job.retry", "done")]


async def test_without_outcomes_the_policy_holds(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """Errors and missing lines are sent, the blocked ones are not; here all errors are."""
    job_id = await indexed(api, new_job(), MIXED)
    assert (await retry(acme, job_id)).status_code == 200
    job = await now(api.store, job_id)
    assert job.selection is not None
    assert job.selection.outcomes == (LineOutcome.ERROR, LineOutcome.MISSING)
    assert "3 lines" in job.status_detail


async def test_the_same_key_begins_no_second_round(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """Sent again with its key it answers the same; with other outcomes it is refused."""
    job_id = await indexed(api, new_job(), MIXED)
    key = {"Idempotency-Key": "once"}
    assert (await retry(acme, job_id, "error", **key)).status_code == 200
    again = await retry(acme, job_id, "error", **key)
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (200, "true")
    assert (await now(api.store, job_id)).round == 2
    other = await retry(acme, job_id, "blocked", **key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert (await retry(acme, job_id, "error")).status_code == 409


async def test_a_job_that_runs_is_refused(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """The refusal names its state, and nothing is changed."""
    job = new_job(state=JobState.PREPARED)
    await api.store.jobs.add(job)
    answer = await retry(acme, job.id)
    assert answer.status_code == 409
    assert answer.json()["code"] == "request_running"
    assert "it is prepared" in answer.json()["message"]
    assert await now(api.store, job.id) == job


@pytest.mark.parametrize(
    ("outcomes", "status", "code"),
    [
        ("ok", 400, "invalid_parameter"),
        ("error,ok", 400, "invalid_parameter"),
        ("broken", 400, "invalid_parameter"),
        ("", 400, "invalid_parameter"),
        ("empty", 409, "nothing_to_retry"),
        ("expired,cancelled", 409, "nothing_to_retry"),
    ],
)
async def test_what_cannot_be_selected_is_refused(
    acme: httpx2.AsyncClient,
    api: Api,
    new_job: MakeJob,
    outcomes: str,
    status: int,
    code: str,
) -> None:
    """An outcome that is fine, that does not exist, or that no line has."""
    job_id = await indexed(api, new_job(), MIXED)
    assert await refused(acme, job_id, outcomes) == (status, code)
    assert (await now(api.store, job_id)).round == 1


async def test_lines_that_were_put_aside_cannot_be_sent(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """Where the only errors are bad lines there is nothing to send."""
    job_id = await indexed(api, new_job(problem_count=1), [OK, BAD])
    assert await refused(acme, job_id, "error") == (409, "nothing_to_retry")


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED])
async def test_a_job_without_an_output_has_nothing_to_mend(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob, state: JobState
) -> None:
    """It is to be submitted anew; the output that is not there is named."""
    job_id = await ended(api, new_job(), state)
    assert await refused(acme, job_id) == (404, "no_output")


async def test_the_cap_holds_for_a_round(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """What would bring the job above its cap is refused with the numbers."""
    options = Options(max_cost_micro_dollars=1_000)
    job_id = await indexed(api, new_job(options=options), MIXED, **COST)
    answer = await retry(acme, job_id, "error,blocked")
    assert (answer.status_code, answer.json()["code"]) == (402, "cost_over_cap")
    assert "may cost 0.001000 USD, cost 0.000700 so far" in answer.json()["message"]
    assert (await retry(acme, job_id, "error")).status_code == 200


async def test_a_cap_on_a_cost_that_nobody_knows_allows_nothing(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """Without a price no round of a capped job begins."""
    options = Options(max_cost_micro_dollars=1_000)
    job_id = await indexed(api, new_job(options=options), MIXED)
    answer = await retry(acme, job_id)
    assert "nobody knows what" in answer.json()["message"]


async def test_there_are_so_many_rounds(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """After the last round the lines are for another request."""
    job_id = await indexed(api, new_job(round=Limits().job_rounds_max), MIXED)
    assert await refused(acme, job_id) == (409, "too_many_rounds")


@pytest.mark.parametrize(
    ("quotas", "cost", "status", "code"),
    [
        (Quotas(spend_day_micro_dollars_max=900), COST, 429, "quota_spend_day"),
        (Quotas(spend_day_micro_dollars_max=900), {}, 400, "model_without_price"),
        (Quotas(jobs_in_flight_max=1, lines_day_max=7, bytes_stored_max=10_000), COST, 200, None),
    ],
)
async def test_quotas_hold_for_a_round(
    store: Store,
    spool: Spool,
    clock: FakeClock,
    new_job: MakeJob,
    quotas: Quotas,
    cost: dict[str, Any],
    status: int,
    code: str | None,
) -> None:
    """Its money is a new job's, its lines and bytes were counted before."""
    api = Api(store, spool, clock, Limits(), quotas=quotas)
    job_id = await indexed(api, new_job(), [OK, *[BUSY] * 6], **cost)
    async with api.client(await permit(store, "acme")) as client:
        answer = await retry(client, job_id)
    assert answer.status_code == status, answer.text
    assert code is None or answer.json()["code"] == code


async def test_another_tenants_job_is_not_found(
    acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """A foreign job looks like one that does not exist."""
    job = msgspec.structs.replace(new_job(), org_id="rival", user_id="rival-user")
    job_id = await indexed(api, job, [Made(), BLOCKED])
    assert await refused(acme, job_id) == (404, "not_found")
