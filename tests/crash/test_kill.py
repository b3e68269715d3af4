"""kill -9 of the real server at named moments of a job, judged by the emulator's own log.

The emulator holds the job at the moment of the kill (a delayed call, a held state), so that each
kill hits what its test names and not what the scheduler happens to offer.
"""

import json

import pytest
from tests.journeys.service import BASE, Json, Service, prompt, until

pytestmark = [pytest.mark.slow, pytest.mark.crash]


LINES = [prompt(f"Question {n}", custom_id=n) for n in range(60)]
LONG_LINES = [prompt(f"Question {n} " + "x" * 100_000, custom_id=n) for n in range(60)]


def assert_paid_once_and_complete(service: Service, request_id: str) -> None:
    """Check the end of a job that lived through a kill."""
    record = service.wait(request_id)
    assert record["status"] == "success"
    output = service.output(record)
    assert [line["custom_id"] for line in output] == list(range(len(LINES)))
    assert all(line["status"] == "" for line in output)
    assert paid_jobs(service) == 1


def paid_jobs(service: Service) -> int:
    """Count the provider jobs that were paid for, from the emulator's log alone."""
    log = service.folder / "emulator.jsonl"
    events = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return len(
        {
            event["id"]
            for event in events
            if event["event"] == "job_finished" and event["successful"]
        }
    )


def test_killed_in_the_middle_of_an_upload(service: Service) -> None:
    """An upload that was not answered leaves no job and, after the restart, no file."""
    with service.begin_upload():
        until(service.files, "the upload begins")
        service.restart_server()
    assert service.files() == []
    assert service.http.get(f"{service.url}{BASE}/requests").json()["total"] == 0


def test_killed_right_after_the_answer(service: Service) -> None:
    """A job whose 200 was seen is never lost, though nothing had begun with it."""
    job = service.submit(LINES)
    service.restart_server()
    assert_paid_once_and_complete(service, job["request_id"])


@pytest.mark.parametrize("lines", [LINES, LONG_LINES], ids=["here", "by a process of its own"])
def test_killed_while_the_input_is_written_to_the_bucket(
    service: Service, lines: list[Json]
) -> None:
    """A half-done preparation is done again from its start."""
    rule = service.rule({"call": "object_write"}, {"delay_seconds": 3}, times=1)
    job = service.submit(lines)
    until(lambda: service.is_used(rule), "the input is being written")
    service.restart_server()
    assert_paid_once_and_complete(service, job["request_id"])


def test_killed_between_the_create_and_its_answer(service: Service) -> None:
    """A create that took effect and whose answer nobody read is adopted, not repeated."""
    rule = service.rule({"call": "create"}, {"delay_seconds": 3}, times=1)
    job = service.submit(LINES)
    until(lambda: service.is_used(rule), "the create is on its way")
    service.restart_server()
    assert_paid_once_and_complete(service, job["request_id"])


def test_killed_while_the_provider_runs(service: Service) -> None:
    """A running job is watched again after the restart."""
    service.rule({}, {"hold": "running"})
    job = service.submit(LINES)
    service.wait_for_state(job["request_id"], "JOB_STATE_RUNNING")
    service.restart_server()
    service.drop_rules()
    assert_paid_once_and_complete(service, job["request_id"])


def test_killed_while_the_output_is_collected(service: Service) -> None:
    """A half-read output is read again and written once."""
    output = {"call": "object_read", "path": "*predictions.jsonl"}
    rule = service.rule(output, {"delay_seconds": 3}, times=1)
    job = service.submit(LINES)
    until(lambda: service.is_used(rule), "the output is being read")
    service.restart_server()
    assert_paid_once_and_complete(service, job["request_id"])


def test_killed_after_a_cancel_was_answered(service: Service) -> None:
    """A cancel that was answered is carried out by the next process."""
    job = service.submit([prompt("Long [[emulator:delay=2h]]")])
    service.wait_for_state(job["request_id"], "JOB_STATE_RUNNING")
    service.cancel(job["request_id"])
    service.restart_server()
    assert service.wait(job["request_id"])["status"] == "cancelled"
    assert service.witness()["jobsMade"] == 1


def test_killed_three_times_in_one_job(service: Service) -> None:
    """Several kills in the life of one job change nothing of its end."""
    job = service.submit(LINES)
    for _ in range(3):
        service.restart_server()
    assert_paid_once_and_complete(service, job["request_id"])


def test_stopped_in_order_with_a_job_in_flight(service: Service) -> None:
    """SIGTERM ends the server with exit code 0 at once; the next start carries on."""
    service.rule({}, {"hold": "running"})
    job = service.submit(LINES)
    service.wait_for_state(job["request_id"], "JOB_STATE_RUNNING")
    assert service.server is not None
    assert service.server.stop() == 0
    service.start_server()
    service.drop_rules()
    assert_paid_once_and_complete(service, job["request_id"])
