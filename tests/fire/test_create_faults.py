"""However a create goes wrong, the request is paid once, by the emulator's own log."""

from functools import partial

import pytest
from tests.fire.driver import (
    advance,
    check_output,
    created,
    fire,
    lines_of,
    paid_jobs,
    provider_jobs,
    rules,
    strikes,
    under,
)
from tests.journeys.service import Json, Service, until

pytestmark = pytest.mark.slow

LINES = 3
UNCLEAR: list[tuple[str, Json]] = [
    *((f"return-{status}", {}) for status in (408, 500, 502, 503, 504)),
    ("return-429", {}),
    ("return-429", {"retry_after": 1}),
    *((f"return-{status}-after-effect", {}) for status in (408, 429, 500, 503, 504)),
    ("lost-call", {}),
    ("return-reset-connection", {}),
    ("lost-reply-fin", {}),
    ("lost-reply-rst", {}),
    ("lost-reply-truncation", {}),
    ("lost-reply-wrong-body", {}),
    ("lost-reply-wrong-body", {"body": "<html>"}),
    ("lost-reply-wrong-body", {"body": ""}),
    ("hang", {"seconds": 0.2, "after": True}),
    ("hang", {"seconds": 0.2, "after": False}),
]
NOT_ALLOWED = [401, 403]
REFUSED = [400, 404]


def submit_one(service: Service, mark: str) -> tuple[str, list[Json]]:
    """Submit a job of a few lines."""
    lines = lines_of(LINES, mark)
    return service.submit(lines)["request_id"], lines


def test_every_unclear_create_ends_in_one_paid_job(service: Service) -> None:
    """Each way to lose or spoil the answer once, all jobs together: each is paid exactly once."""
    jobs = []
    for number, (fault, parameters) in enumerate(UNCLEAR):
        rule = fire(service, fault, 1, when={"call": "create"}, parameters=parameters)
        jobs.append((*submit_one(service, f"{fault}-{number}"), rule))
        until(partial(strikes, service, rule), f"a strike of {fault}")
    for request, lines, _ in jobs:
        record = service.wait(request)
        assert record["status"] == "success", record
        assert set(check_output(service, record, lines)) == {""}
        assert len(paid_jobs(service, record)) == 1
    assert all(rule["used"] == 1 for rule in rules(service))


@pytest.mark.parametrize("status", REFUSED)
def test_a_refused_create_fails_the_job_for_free(service: Service, status: int) -> None:
    """400 and 404 prove that nothing was made: the job fails, is not repeated and costs nothing."""
    with under(service, f"return-{status}", 1, when={"call": "create"}):
        record = service.wait(submit_one(service, f"r{status}")[0])
    assert record["status"] == "failed"
    assert provider_jobs(service, record) == []


@pytest.mark.parametrize("status", NOT_ALLOWED)
def test_a_create_that_is_not_allowed_waits_for_the_operator(service: Service, status: int) -> None:
    """401 and 403 made nothing; once they are mended the same request is paid once."""
    with under(service, f"return-{status}", 3, when={"call": "create"}) as rule:
        request, lines = submit_one(service, f"n{status}")
        record = service.wait(request)
        assert strikes(service, rule) == 3
    assert set(check_output(service, record, lines)) == {""}
    assert len(paid_jobs(service, record)) == 1


@pytest.mark.parametrize("seconds", [0, 60, 600])
def test_a_create_that_lands_late_is_paid_once(service: Service, seconds: int) -> None:
    """The job appears after the answer was lost, also minutes later when another one was made."""
    with under(service, "late-landing", 1, parameters={"seconds": seconds}):
        request, lines = submit_one(service, f"late{seconds}")
        created(service, request)
        record = service.wait(request)
    advance(service, 700)
    until(
        lambda: all("endTime" in job for job in provider_jobs(service, record)),
        "the end of all jobs of the request",
    )
    assert set(check_output(service, record, lines)) == {""}
    assert len(paid_jobs(service, record)) == 1


def test_a_stale_list_after_a_lost_reply_is_paid_once(service: Service) -> None:
    """The list does not know the job for a while; the input fence keeps a second one from cost."""
    stale = fire(service, "stale-list", parameters={"seconds": 0.4})
    with under(service, "lost-reply-fin", 1):
        request, lines = submit_one(service, "stale")
        record = service.wait(request)
    assert strikes(service, stale)
    assert set(check_output(service, record, lines)) == {""}
    assert len(paid_jobs(service, record)) == 1


def test_a_duplicate_by_the_provider_is_cancelled_before_it_costs(service: Service) -> None:
    """The provider makes two jobs of one create: one is cancelled, the other one is delivered."""
    holding = fire(service, "stuck-pending")
    with under(service, "duplicate", 1):
        request, lines = submit_one(service, "twice")
        until(
            lambda: [
                job
                for job in service.witness()["jobs"]
                if request in job["displayName"] and job["state"] == "JOB_STATE_CANCELLED"
            ],
            "the cancel of the second job",
        )
    service.drop_rule(holding)
    record = service.wait(request)
    assert set(check_output(service, record, lines)) == {""}
    assert len(provider_jobs(service, record)) == 2
    assert len(paid_jobs(service, record)) == 1


def test_a_mix_by_seed_pays_each_job_once(service: Service) -> None:
    """Sixteen jobs, half of their creates under some fault: every one is paid exactly once."""
    rates = {"return-503": 0.2, "lost-reply-rst": 0.2, "lost-call": 0.3}
    mix = {"seed": 7, "rates": rates, "when": {"call": "create"}}
    url = f"{service.emulator_url}/emulator/v1/mix"
    made = service.http.post(url, json=mix)
    assert made.status_code == 200, made.text
    jobs = [submit_one(service, f"mix{number}") for number in range(16)]
    for request, lines in jobs:
        record = service.wait(request)
        assert set(check_output(service, record, lines)) == {""}
        assert len(paid_jobs(service, record)) == 1
    assert sum(rule["used"] > 0 for rule in rules(service)) >= 3
