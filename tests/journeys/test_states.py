"""Every status word and every batch job state of the guide, through the real command line."""

import pytest
from tests.journeys.service import Service, prompt

pytestmark = pytest.mark.slow


def test_a_job_succeeds_with_one_answer_per_line_in_order(service: Service) -> None:
    """Line k of the output answers line k of the input and carries the caller's own members."""
    lines = [prompt(f"Question {n}", custom_id=f"q-{n}", rank=n / 2) for n in range(150)]
    record = service.wait(service.submit(lines)["request_id"])
    assert record["status"] == "success"
    assert record["outcome"]["batch_job_state"] == "JOB_STATE_SUCCEEDED"
    output = service.output(record)
    assert [line["custom_id"] for line in output] == [line["custom_id"] for line in lines]
    assert [line["rank"] for line in output] == [line["rank"] for line in lines]
    assert [line["request"] for line in output] == [line["request"] for line in lines]
    assert all(line["status"] == "" and line["response"]["candidates"] for line in output)


def test_stats_tokens_and_cost_are_the_sums_of_the_lines(service: Service) -> None:
    """The record's totals equal what an independent reader adds up from the output."""
    lines = [prompt(f"Add this up: {number}.") for number in range(40)]
    record = service.wait(service.submit(lines)["request_id"])
    usages = [line["response"]["usageMetadata"] for line in service.output(record)]
    prompts = sum(usage["promptTokenCount"] for usage in usages)
    answers = sum(usage["candidatesTokenCount"] for usage in usages)
    thoughts = sum(usage.get("thoughtsTokenCount", 0) for usage in usages)
    outcome = record["outcome"]
    assert outcome["token_usage"]["total_prompt_tokens"] == prompts
    assert outcome["token_usage"]["total_candidates_tokens"] == answers
    micro_dollars = (prompts * 250_000 + (answers + thoughts) * 1_500_000 + 500_000) // 1_000_000
    assert outcome["actual_cost_usd"] == f"{micro_dollars / 1e6:.6f}"


def test_queued_pending_and_running_are_shown_as_the_provider_says(service: Service) -> None:
    """A held job shows JOB_STATE_QUEUED, then PENDING, then RUNNING, always as processing."""
    holding = service.rule({}, {"hold": "queued"})
    job = service.submit([prompt("Wait for it.")])
    assert job["status"] == "queued"
    assert job["outcome"] is None
    for state, following in (
        ("JOB_STATE_QUEUED", "pending"),
        ("JOB_STATE_PENDING", "running"),
        ("JOB_STATE_RUNNING", None),
    ):
        assert service.wait_for_state(job["request_id"], state)["status"] == "processing"
        # The next hold stands before the last one goes, so that no state is run through unseen.
        held, holding = holding, service.rule({}, {"hold": following}) if following else ""
        service.drop_rule(held)
    assert service.wait(job["request_id"])["status"] == "success"


def test_some_failed_lines_make_a_partial_success(service: Service) -> None:
    """A failed line has a status text and an empty response, and the job says PARTIALLY."""
    lines = [prompt("Good."), prompt("Bad. [[emulator:fail=429]]"), prompt("Good too.")]
    record = service.wait(service.submit(lines)["request_id"])
    assert record["status"] == "success"
    assert record["outcome"]["batch_job_state"] == "JOB_STATE_PARTIALLY_SUCCEEDED"
    stats = record["outcome"]["batch_job_completion_stats"]
    assert (stats["successful_count"], stats["failed_count"], stats["total_count"]) == (2, 1, 3)
    output = service.output(record)
    assert [bool(line["status"]) for line in output] == [False, True, False]
    assert output[1]["response"] == {}


def test_all_failed_lines_still_give_an_output(service: Service) -> None:
    """A client reads a success without a URL as a failure, so there is one even here."""
    lines = [prompt("Bad. [[emulator:fail=400]]")] * 3
    record = service.wait(service.submit(lines)["request_id"])
    assert record["status"] == "success"
    assert record["outcome"]["batch_job_completion_stats"]["failed_count"] == 3
    assert len(service.output(record)) == 3


@pytest.mark.parametrize(
    ("directive", "code"),
    [
        ("missing", "missing_row"),
        ("foreign", "missing_row"),
        ("garbage", "missing_row"),
        ("truncated-row", "corrupt_row"),
        ("bad-usage", "corrupt_row"),
    ],
)
def test_a_bad_row_is_an_error_on_its_own_line(service: Service, directive: str, code: str) -> None:
    """Missing, foreign and unreadable rows cost their line and no other."""
    lines = [prompt("Good."), prompt(f"Odd. [[emulator:{directive}]]"), prompt("Good too.")]
    record = service.wait(service.submit(lines)["request_id"])
    output = service.output(record)
    assert [bool(line["status"]) for line in output] == [False, True, False]
    assert code in output[1]["status"]


def test_a_job_that_the_provider_refuses_fails_with_its_words(service: Service) -> None:
    """A job that the provider refuses as a whole is failed, says why and has no output.

    What its importer would refuse never comes so far (test_preflight.py), so it may not read it.
    """
    service.rule({"call": "job_input"}, {"status": 403}, times=1)
    record = service.wait(service.submit([prompt("Hello.")])["request_id"])
    assert record["status"] == "failed"
    outcome = record["outcome"]
    assert outcome["batch_job_state"] == "JOB_STATE_FAILED"
    assert outcome["error"]["code"] == "provider_error_7"
    assert "permission" in outcome["message"]
    assert "output_url" not in outcome


def test_a_running_job_can_be_cancelled_and_keeps_its_finished_lines(service: Service) -> None:
    """A cancel ends the provider job; finished lines are delivered and the others are typed."""
    job = service.submit([prompt(f"Long {n} [[emulator:delay=1h]]") for n in range(20)])
    service.wait_for_state(job["request_id"], "JOB_STATE_RUNNING")
    service.cancel(job["request_id"])
    record = service.wait(job["request_id"])
    assert record["status"] == "cancelled"
    assert record["outcome"]["batch_job_state"] == "JOB_STATE_CANCELLED"
    if "output_url" in record["outcome"]:
        output = service.output(record)
        assert len(output) == 20
        assert all(line["status"] == "" or '"cancelled"' in line["status"] for line in output)


def test_finished_lines_of_a_cancelled_job_are_delivered(service: Service) -> None:
    """Half of the rows were done: they are in the output, the other half says cancelled."""
    service.rule({"call": "cancel"}, {"finish": "JOB_STATE_CANCELLED", "rows": 0.5})
    job = service.submit([prompt(f"Long {n} [[emulator:delay=1h]]") for n in range(20)])
    service.wait_for_state(job["request_id"], "JOB_STATE_RUNNING")
    service.cancel(job["request_id"])
    record = service.wait(job["request_id"])
    statuses = [line["status"] for line in service.output(record)]
    assert statuses.count("") == 10
    assert sum('"cancelled"' in status for status in statuses) == 10
    assert record["outcome"]["batch_job_completion_stats"]["incomplete_count"] == 10


def test_an_expired_provider_job_is_failed_for_the_client(service: Service) -> None:
    """Clients do not know EXPIRED, so the status beside it is failed."""
    service.rule({}, {"finish": "JOB_STATE_EXPIRED", "rows": 0.0})
    record = service.wait(service.submit([prompt("Too late.")])["request_id"])
    assert record["status"] == "failed"
    assert record["outcome"]["batch_job_state"] == "JOB_STATE_EXPIRED"


def test_a_state_that_nobody_knows_is_waited_out(service: Service) -> None:
    """An unknown provider state is reported in status_detail and the job still ends well."""
    rule = service.rule({"call": "get"}, {"state": "JOB_STATE_DREAMING"}, times=3)
    assert rule
    record = service.wait(service.submit([prompt("Odd.")])["request_id"])
    assert record["status"] == "success"


def test_a_lost_create_answer_is_adopted_and_paid_once(service: Service) -> None:
    """When the create takes effect but its answer is lost, the job is found and not made again."""
    before = service.witness()["jobsMade"]
    service.rule({"call": "create"}, {"drop": "after"}, times=1)
    record = service.wait(service.submit([prompt("Once.")])["request_id"])
    assert record["status"] == "success"
    assert service.witness()["jobsMade"] == before + 1


def test_a_create_that_never_arrived_is_made_again_after_settling(service: Service) -> None:
    """When the create is cut before it took effect, exactly one job exists in the end."""
    before = service.witness()["jobsMade"]
    service.rule({"call": "create"}, {"drop": "before"}, times=1)
    record = service.wait(service.submit([prompt("Once more.")])["request_id"])
    assert record["status"] == "success"
    assert service.witness()["jobsMade"] == before + 1


def test_the_image_model_gives_images(service: Service) -> None:
    """An image request comes back with an inline PNG and is charged as an image."""
    line = prompt("A red kettle on white")
    line["request"]["generationConfig"] = {"responseModalities": ["TEXT", "IMAGE"]}
    job = service.submit([line], model="gemini-3-pro-image-preview")
    record = service.wait(job["request_id"])
    parts = service.output(record)[0]["response"]["candidates"][0]["content"]["parts"]
    assert any(part.get("inlineData", {}).get("mimeType") == "image/png" for part in parts)
    assert float(record["outcome"]["actual_cost_usd"]) > 0.06
