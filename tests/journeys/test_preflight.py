"""Every trap of the importer in one job: the real pair runs it to its end."""

import json
from typing import Any

import pytest
from tests.ingest.trap_table import TRAPS
from tests.journeys.service import BASE, Json, Service

pytestmark = pytest.mark.slow

REQUESTS: list[Json] = [request for trap in TRAPS for request in trap.requests]
LINES = [json.dumps({"number": at, "request": one}) for at, one in enumerate(REQUESTS, start=1)]
LINES.insert(3, "nonsense")


def post(service: Service, query: str) -> Json:
    """Send the file with options."""
    answer = service.http.post(
        f"{service.url}{BASE}/requests?{query}",
        content="\n".join(LINES).encode(),
        headers={"Content-Type": "application/jsonl"},
    )
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def test_a_file_full_of_traps_runs_but_for_its_bad_lines(service: Service) -> None:
    """What is mended is imported and answered, and every other line says what is wrong with it."""
    report = post(service, "validate_only=true&on_invalid=quarantine")
    assert report["valid"] is True
    expected = {bad["line"]: bad["code"] for bad in report["problems"]}
    assert expected[4] == "invalid_json"
    assert set(expected.values()) >= {trap.code for trap in TRAPS if trap.code}
    assert len(expected) < len(LINES) / 2
    record = service.wait(post(service, "on_invalid=quarantine")["request_id"])
    assert record["status"] == "success", record
    assert record["outcome"]["batch_job_completion_stats"]["quarantined_count"] == len(expected)
    output = service.output(record)
    assert len(output) == len(LINES)
    for number, (line, one) in enumerate(zip(LINES, output, strict=True), start=1):
        if number in expected:
            assert expected[number] in one["status"]
            continue
        sent: dict[str, Any] = json.loads(line)
        assert one["status"] == ""
        assert (one["number"], one["request"]) == (sent["number"], sent["request"])


def test_the_same_file_is_refused_without_the_option(service: Service) -> None:
    """All bad lines at once, and nothing is stored."""
    files = service.files()
    answer = service.http.post(
        f"{service.url}{BASE}/requests",
        content="\n".join(LINES).encode(),
        headers={"Content-Type": "application/jsonl"},
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
    assert service.files() == files
