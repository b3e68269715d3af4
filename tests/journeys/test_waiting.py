"""A real job that does not get on: what its owner, his receiver and the operator see of it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.crash.hook import Hook
from tests.journeys.service import Json, Service, prompt, running, until

from penstock.client import Api

pytestmark = pytest.mark.slow

JOBS = 12
SETTINGS = {
    "PENSTOCK_WAITING_CACHE_SECONDS": "0",
    "PENSTOCK_WAITING_LOOK_SECONDS": "0.2",
    "PENSTOCK_WAITING_SAMPLES_MIN": "10",
    "PENSTOCK_WAITING_SLOW_SECONDS_MIN": "0.2",
    "PENSTOCK_TIMING_DELIVER_SECONDS": "0.1",
}


@pytest.fixture
def service(tmp_path: Path, hook: Hook) -> Iterator[Service]:
    """A pair of its own, with a server that soon thinks a job slow."""
    allowed = {"PENSTOCK_WEBHOOKS_PRIVATE_ALLOWED": hook.url}
    with running(tmp_path, 400, **SETTINGS, **allowed) as pair:
        yield pair


def test_a_job_that_does_not_get_on(service: Service, hook: Hook) -> None:
    """Its record says why and for how long, a webhook is told once, and metrics count it."""
    webhook = {"url": hook.url, "events": ["job.slow"]}
    assert service.http.post(f"{service.url}/api/v1/webhooks", json=webhook).status_code == 201
    quick = [service.submit([prompt("Hello.")])["request_id"] for _ in range(JOBS)]
    assert {service.wait(request_id)["status"] for request_id in quick} == {"success"}
    service.rule({}, {"hold": "queued"})
    request_id = service.submit([prompt("Wait for it.")])["request_id"]

    def slow() -> Json | None:
        record = service.get(request_id)
        return record if record.get("waiting", {}).get("slow_since") else None

    record = until(slow, "that the job is slow")
    waiting = record["waiting"]
    assert waiting["reason"] == "provider_queue"
    assert waiting["provider_state"] == "JOB_STATE_QUEUED"
    assert waiting["provider_state_since"] >= record["created_at"]
    assert waiting["samples"]["waits"] >= JOBS
    assert waiting["wait_percentiles"]["p50"] is not None
    # It has waited for longer than all others, so nobody knows for how long it will.
    assert waiting["eta"] is None
    assert "there it has been QUEUED for" in record["status_detail"]
    with Api(service.url, service.key) as client:
        job = client.get(request_id)
        assert job.waiting is not None
        assert job.waiting.slow_since == waiting["slow_since"]
        assert client.list(1).requests[0].waiting is None

    def told() -> list[Json]:
        # On a busy machine the quick ones may have been slow as well.
        events = [json.loads(one.body) for one in hook.received]
        return [one for one in events if one["data"]["request_id"] == request_id]

    (event,) = until(told, "the webhook")
    assert event["type"] == "job.slow"
    assert "other jobs of gemini-3-flash-preview waited no longer" in event["data"]["reason"]
    metrics = service.http.get(f"{service.url}/metrics").text.splitlines()
    assert "penstock_jobs_slow 1" in metrics
    assert f'penstock_day_jobs_ended{{state="succeeded"}} {JOBS}' in metrics
    service.drop_rules()
    ended = service.wait(request_id)
    assert (ended["status"], "waiting" in ended) == ("success", False)
