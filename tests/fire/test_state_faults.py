"""Whatever the provider says about a job, it ends as the rows and the clock say."""

import pytest
from tests.fire.driver import (
    check_output,
    fire,
    lines_of,
    paid_jobs,
    provider_jobs,
    strikes,
    under,
)
from tests.journeys.service import Json, Service, until

pytestmark = pytest.mark.slow

LINES = 4


def submit_one(service: Service, mark: str) -> tuple[str, list[Json]]:
    """Submit a job of a few lines."""
    lines = lines_of(LINES, mark)
    return service.submit(lines)["request_id"], lines


@pytest.mark.parametrize(
    ("fault", "parameters"),
    [
        ("say-paused", {}),
        ("say-updating", {}),
        ("say-unknown", {}),
        ("say-unknown", {"state": "JOB_STATE_UNSPECIFIED"}),
        ("vanish", {}),
        ("return-503", {}),
        ("lost-reply-truncation", {}),
        ("lost-reply-wrong-body", {}),
    ],
)
def test_what_get_says_for_a_while_is_waited_out(
    service: Service, fault: str, parameters: Json
) -> None:
    """Odd states, 404 and broken answers pass: the job succeeds with all answers, paid once."""
    with under(service, fault, 2, when={"call": "get"}, parameters=parameters):
        request, lines = submit_one(service, fault)
        record = service.wait(request)
    assert set(check_output(service, record, lines)) == {""}
    assert len(paid_jobs(service, record)) == 1


def test_a_state_that_goes_backwards_changes_nothing(service: Service) -> None:
    """RUNNING is followed by PENDING, and the job still ends well."""
    holding = fire(service, "stuck-running")
    rule = fire(service, "backwards", 2, when={"call": "get"})
    request, lines = submit_one(service, "back")
    until(lambda: strikes(service, rule), "a state that went backwards")
    service.drop_rule(holding)
    assert set(check_output(service, service.wait(request), lines)) == {""}


def test_a_job_that_stays_away_fails_as_lost(service: Service) -> None:
    """A confirmed job that the provider forgets for good fails with a code that says so."""
    with under(service, "vanish"):
        record = service.wait(submit_one(service, "gone")[0])
    assert record["status"] == "failed"
    assert record["outcome"]["error"]["code"] == "provider_lost_job"


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("end-expired", "failed", "expired"),
        ("end-failed", "failed", "missing_row"),
        ("end-cancelled", "failed", "cancelled"),
        ("end-partially-succeeded", "success", "missing_row"),
    ],
)
def test_finished_rows_of_a_job_that_ended_early_are_delivered(
    service: Service, fault: str, status: str, code: str
) -> None:
    """Half of the rows were done: they are delivered, and the others say why they are not."""
    with under(service, fault, 1, parameters={"rows": 0.5}):
        request, lines = submit_one(service, fault)
        record = service.wait(request)
    assert record["status"] == status
    codes = check_output(service, record, lines)
    assert sorted(codes) == sorted(["", "", code, code])


def test_succeeded_after_cancelling_delivers_everything(service: Service) -> None:
    """The owner cancelled, the provider finished all the same: the rows are delivered."""
    with under(service, "succeeded-after-cancelling", 1):
        holding = fire(service, "stuck-running")
        request, lines = submit_one(service, "cancel")
        service.wait_for_state(request, "JOB_STATE_RUNNING")
        service.cancel(request)
        record = service.wait(request)
        service.drop_rule(holding)
    (job,) = provider_jobs(service, record)
    assert job["state"] == "JOB_STATE_SUCCEEDED"
    codes = check_output(service, record, lines)
    assert set(codes) == {""}
