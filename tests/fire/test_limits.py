"""A provider that keeps to none of its own limits is held to ours."""

from collections.abc import Iterator

import pytest
from tests.fire.driver import advance, check_output, fire, lines_of, under
from tests.journeys.service import Service, running

pytestmark = pytest.mark.slow

QUEUE_SECONDS, RUN_SECONDS = "6", "2"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running pair whose server gives a job seconds instead of 72 and 24 hours."""
    with running(
        tmp_path_factory.mktemp("limits"),
        speed=4000,
        PENSTOCK_LIMITS_QUEUE_SECONDS_MAX=QUEUE_SECONDS,
        PENSTOCK_LIMITS_RUN_SECONDS_MAX=RUN_SECONDS,
    ) as pair:
        yield pair


@pytest.mark.parametrize(
    ("fault", "state", "code"),
    [
        ("overdue-queued", "EXPIRED", "queue_expired"),
        ("overdue-running", "CANCELLED", "run_expired"),
    ],
)
def test_a_job_beyond_its_limit_is_ended_by_us(
    service: Service, fault: str, state: str, code: str
) -> None:
    """The provider would keep it for ever; it is cancelled there, as Google itself would have."""
    with under(service, fault):
        lines = lines_of(2, fault)
        record = service.wait(service.submit(lines)["request_id"])
    assert record["status"] == "failed"
    assert record["outcome"]["batch_job_state"] == f"JOB_STATE_{state}"
    assert record["outcome"]["error"]["code"] == code
    if "output_url" in record["outcome"]:
        assert set(check_output(service, record, lines)) <= {"", "expired"}


def test_the_providers_own_expiry_is_told(service: Service) -> None:
    """After 72 hours in its queue the provider expires the job, and we say so."""
    holding = fire(service, "stuck-queued")
    job = service.submit(lines_of(2, "stuck"))
    service.wait_for_state(job["request_id"], "JOB_STATE_QUEUED")
    advance(service, 73 * 3600)
    record = service.wait(job["request_id"])
    service.drop_rule(holding)
    assert record["status"] == "failed"
    assert record["outcome"]["batch_job_state"] == "JOB_STATE_EXPIRED"
