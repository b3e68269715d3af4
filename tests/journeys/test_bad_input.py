"""What a caller gets for bad input, and that nothing of it stays."""

import json
import socket
from urllib.parse import urlsplit

import pytest
from tests.journeys.service import BASE, Json, Service, prompt, until

pytestmark = pytest.mark.slow


def post(service: Service, body: bytes) -> Json:
    """Post a body and return the refusal with its status."""
    answer = service.http.post(f"{service.url}{BASE}/requests", content=body)
    return {"status": answer.status_code, **answer.json()}


def test_all_bad_lines_are_reported_at_once_and_nothing_is_stored(service: Service) -> None:
    """Each bad line is named with line, code, path and hint; no file and no job remain."""
    files, total = service.files(), _total(service)
    lines = [
        json.dumps(prompt("Good.")),
        '{"request": {"contents": []}}',
        "{'request': 1}",
        json.dumps({"body": {"messages": []}}),
    ]
    refusal = post(service, json.dumps({"input_data": "\n".join(lines)}).encode())
    assert refusal["status"] == 400
    assert [detail["line"] for detail in refusal["details"]] == [2, 3, 4]
    assert refusal["details_total"] == 3
    assert all(detail["hint"] for detail in refusal["details"])
    assert service.files() == files
    assert _total(service) == total


def test_an_unknown_model_names_the_allowed_ones(service: Service) -> None:
    """The refusal of a model tells which ones there are."""
    body = {"payload": {"model": "gemini-1", "input_data": json.dumps(prompt("Hi"))}}
    refusal = post(service, json.dumps(body).encode())
    assert refusal["status"] == 400
    assert refusal["code"] == "unknown_model"
    assert "gemini-3-flash-preview" in refusal["error"]


def test_a_cut_upload_leaves_no_job_and_no_file(service: Service) -> None:
    """A connection that ends in the middle of the body leaves nothing behind."""
    files, total = service.files(), _total(service)
    with service.begin_upload():
        until(lambda: len(service.files()) > len(files), "the upload begins")
    until(lambda: service.files() == files, "the upload is discarded")
    assert _total(service) == total


def test_no_key_is_refused_before_the_body_is_read(service: Service) -> None:
    """A wrong key is answered although the body never comes."""
    address = urlsplit(service.url)
    head = (
        f"POST {BASE}/requests HTTP/1.1\r\nHost: {address.netloc}\r\n"
        f"Content-Length: 1000000000\r\n\r\n"
    )
    with socket.create_connection((str(address.hostname), int(address.port or 0))) as connection:
        connection.sendall(head.encode())
        connection.settimeout(5)
        assert connection.recv(4096).startswith(b"HTTP/1.1 401")


def test_an_unreachable_provider_keeps_the_job_queued_with_the_reason(service: Service) -> None:
    """While the emulator is gone the job waits and says why; afterwards it runs."""
    assert service.emulator is not None
    service.emulator.kill()
    try:
        job = service.submit([prompt("Patience.")])
        until(
            lambda: (
                "could not" in service.get(job["request_id"])["status_detail"]
                or "reached" in service.get(job["request_id"])["status_detail"]
            ),
            "the reason is visible",
        )
        assert service.get(job["request_id"])["status"] == "queued"
    finally:
        service.start_emulator()
    assert service.wait(job["request_id"])["status"] == "success"


def _total(service: Service) -> int:
    answer: Json = service.http.get(f"{service.url}{BASE}/requests").json()
    return int(answer["total"])
