"""kill -9 of the real server at every step of a submission in pieces."""

import json
import socket
from urllib.parse import urlsplit

import httpx2
import pytest
from tests.journeys.service import BASE, Service, prompt, until

pytestmark = [pytest.mark.slow, pytest.mark.crash]

LINES = [prompt(f"Question {n}", custom_id=n) for n in range(60)]
DATA = "".join(json.dumps(line) + "\n" for line in LINES).encode()


def begin(service: Service) -> str:
    """Begin an upload."""
    headers = {"Content-Type": "application/jsonl", "Upload-Complete": "?0"}
    answer = service.http.post(f"{service.url}{BASE}/uploads", headers=headers)
    assert answer.status_code == 201, answer.text
    return str(answer.headers["location"])


def fields(offset: int, complete: str) -> dict[str, str]:
    """The head of a piece."""
    return {
        "Content-Type": "application/partial-upload",
        "Upload-Complete": complete,
        "Upload-Offset": str(offset),
    }


def send(service: Service, where: str, offset: int, data: bytes, complete: str) -> httpx2.Response:
    """Send a piece."""
    return service.http.patch(service.url + where, content=data, headers=fields(offset, complete))


def open_piece(
    service: Service, where: str, offset: int, data: bytes, length: int
) -> socket.socket:
    """Send the head of the last piece and some of its bytes, and leave it there."""
    address = urlsplit(service.url)
    headers = {**fields(offset, "?1"), "Content-Length": str(length)}
    headers |= {"Host": address.netloc, "Authorization": f"Bearer {service.key}"}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    connection = socket.create_connection((str(address.hostname), int(address.port or 0)))
    connection.sendall(f"PATCH {where} HTTP/1.1\r\n{head}\r\n".encode() + data)
    return connection


def offset_of(service: Service, where: str) -> int:
    """Where to go on."""
    answer = service.http.head(service.url + where)
    assert answer.status_code == 204
    return int(answer.headers["upload-offset"])


def assert_one_complete_job(service: Service, request_id: str) -> None:
    """Check that the upload became one job, which ran once and answered every line."""
    record = service.wait(request_id)
    assert record["status"] == "success"
    output = service.output(record)
    assert [line["custom_id"] for line in output] == list(range(len(LINES)))
    assert service.witness()["jobsMade"] == 1
    assert service.http.get(f"{service.url}{BASE}/requests").json()["total"] == 1


def test_killed_in_the_middle_of_a_piece(service: Service) -> None:
    """What was acknowledged is there after the kill, and the client goes on from the offset."""
    where = begin(service)
    assert send(service, where, 0, DATA[:2_000], "?0").status_code == 204
    with open_piece(service, where, 2_000, DATA[2_000:3_000], len(DATA) - 2_000):
        service.restart_server()
    offset = offset_of(service, where)
    assert 2_000 <= offset <= 3_000
    done = send(service, where, offset, DATA[offset:], "?1")
    assert done.status_code == 200, done.text
    assert_one_complete_job(service, done.json()["request_id"])


def test_killed_between_the_pieces(service: Service) -> None:
    """An upload outlives several servers."""
    where = begin(service)
    for start in range(0, len(DATA), 3_000):
        service.restart_server()
        assert offset_of(service, where) == start
        assert send(service, where, start, DATA[start : start + 3_000], "?0").status_code == 204
    done = send(service, where, len(DATA), b"", "?1")
    assert_one_complete_job(service, done.json()["request_id"])


def test_killed_while_the_job_is_made(service: Service) -> None:
    """However far the finish had come, asking again makes one job, or finds the one."""
    where = begin(service)
    padding = b" " * 40_000_000 + b"\n"
    data = DATA + padding
    for start in range(0, len(data), 16_000_000):
        assert (
            send(service, where, start, data[start : start + 16_000_000], "?0").status_code == 204
        )
    with open_piece(service, where, len(data), b"", 0):
        until(service.files, "the finish begins")
        service.restart_server()
    assert offset_of(service, where) == len(data)
    done = send(service, where, len(data), b"", "?1")
    assert done.status_code == 200, done.text
    assert_one_complete_job(service, done.json()["request_id"])


def test_killed_after_the_answer(service: Service) -> None:
    """A finish asked again after a kill gives the same job, also a third time."""
    where = begin(service)
    done = send(service, where, 0, DATA, "?1")
    assert done.status_code == 200, done.text
    for _ in range(2):
        service.restart_server()
        again = send(service, where, 0, DATA, "?1")
        assert again.json()["request_id"] == done.json()["request_id"]
    assert_one_complete_job(service, done.json()["request_id"])
