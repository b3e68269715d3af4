"""`GET /metrics`: figures of the whole server, for the operator's own and nobody else."""

from collections.abc import Callable

import httpx2
import pytest
from tests.api.driver import COUNTS, Api, permit
from tests.fake_clock import START, FakeClock

from penstock.core.access import OPERATOR_ORG
from penstock.core.job import Job
from penstock.core.state import JobState
from penstock.telemetry.metrics import CONTENT_TYPE

MakeJob = Callable[..., Job]


@pytest.fixture
async def key(api: Api) -> str:
    """A key of the operator's with the one scope that a scraper needs."""
    await api.store.tenants.ensure_org(OPERATOR_ORG, "default", START)
    await api.store.tenants.ensure_user("operator", OPERATOR_ORG, "admin", START)
    return await permit(api.store, OPERATOR_ORG, user_id="operator", scopes="metrics:read")


async def scrape(api: Api, key: str) -> dict[str, float]:
    """The values by name and labels."""
    async with api.client(key) as client:
        answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == CONTENT_TYPE
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def test_what_is_told(api: Api, key: str, new_job: MakeJob) -> None:
    """Jobs by state, ages, slow ones, lines by outcome, times of known models; zeros, too."""
    await api.store.jobs.add(new_job(created_at=START - 70, slow_at=START))
    ended = {"state": JobState.SUCCEEDED, "counts": COUNTS, "finished_at": START}
    times = {"created_at": START - 50, "running_since": START - 40}
    for _ in range(3):
        await api.store.jobs.add(new_job(**ended, **times))
    await api.store.jobs.add(new_job(**ended, model="somebody's own"))
    found = await scrape(api, key)
    assert {name: value for name, value in found.items() if value} == {
        'penstock_jobs_open{state="accepted"}': 1,
        'penstock_oldest_job_seconds{state="accepted"}': 70,
        "penstock_jobs_slow": 1,
        'penstock_day_jobs_ended{state="succeeded"}': 4,
        'penstock_day_lines_ended{outcome="ok"}': 8,
        'penstock_day_lines_ended{outcome="error"}': 4,
        'penstock_wait_seconds{model="gemini-3-flash-preview",quantile="0.5"}': 10,
        'penstock_wait_jobs{model="gemini-3-flash-preview"}': 3,
        'penstock_run_seconds{model="gemini-3-flash-preview",quantile="0.5"}': 40,
        'penstock_run_seconds{model="gemini-3-flash-preview",quantile="0.9"}': 40,
        'penstock_run_seconds{model="gemini-3-flash-preview",quantile="0.95"}': 40,
        'penstock_run_jobs{model="gemini-3-flash-preview"}': 3,
    }
    # One in four still waits, so nobody knows how long nine of ten do.
    assert 'penstock_wait_seconds{model="gemini-3-flash-preview",quantile="0.9"}' not in found
    assert found['penstock_jobs_open{state="running"}'] == 0
    assert found["penstock_deliveries_pending"] == 0


async def test_what_is_asked_often_is_counted_once(
    api: Api, key: str, new_job: MakeJob, clock: FakeClock
) -> None:
    """Within some seconds the same text is given."""
    assert (await scrape(api, key))['penstock_jobs_open{state="accepted"}'] == 0
    await api.store.jobs.add(new_job())
    clock.advance(9)
    assert (await scrape(api, key))['penstock_jobs_open{state="accepted"}'] == 0
    clock.advance(1)
    assert (await scrape(api, key))['penstock_jobs_open{state="accepted"}'] == 1


async def test_no_tenant_reads_them(
    api: Api, acme: httpx2.AsyncClient, nobody: httpx2.AsyncClient
) -> None:
    """Neither an owner of another organisation, nor an operator's key without the scope."""
    assert (await nobody.get("/metrics")).status_code == 401
    assert (await acme.get("/metrics")).status_code == 403
    await api.store.tenants.ensure_org(OPERATOR_ORG, "default", START)
    await api.store.tenants.ensure_user("operator", OPERATOR_ORG, "owner", START)
    other = await permit(api.store, OPERATOR_ORG, user_id="operator", scopes="orgs:read")
    async with api.client(other) as client:
        assert (await client.get("/metrics")).status_code == 403
