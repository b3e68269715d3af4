"""The processes that receive uploads die, and the server dies under them."""

import json
import os
import signal
import socket
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.journeys.service import BASE, PATIENCE_SECONDS, Service, prompt, until

pytestmark = [pytest.mark.slow, pytest.mark.crash]

DATA = b"".join(json.dumps(prompt(f"Question {n}")).encode() + b"\n" for n in range(20_000))


def receivers(service: Service) -> list[int]:
    """The receiving processes of the server."""
    assert service.server is not None
    parent = service.server._child.pid
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii")
    return [
        pid
        for pid in map(int, children.split())
        if b"penstock.receive.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def begin(service: Service) -> socket.socket:
    """Send half of a large body, so much that the receiving process has begun to read it."""
    address = urlsplit(service.url)
    client = socket.create_connection(
        (str(address.hostname), int(address.port or 0)), timeout=PATIENCE_SECONDS
    )
    head = (
        f"POST {BASE}/requests HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {service.key}\r\n"
        f"Content-Type: application/jsonl\r\nContent-Length: {2 * len(DATA)}\r\n\r\n"
    )
    client.sendall(head.encode() + DATA)
    written = until(lambda: part_bytes(service), "the first block is written")
    assert written
    return client


def part_bytes(service: Service) -> int:
    """The bytes of the inputs that are being written."""
    folder = service.folder / "data" / "incoming"
    return sum(path.stat().st_size for path in folder.glob("*.input.jsonl.part"))


def read_all(client: socket.socket) -> bytes:
    """Everything until the server closes."""
    received = b""
    while block := client.recv(65_536):
        received += block
    return received


def test_a_killed_receiver_is_told_and_replaced(service: Service) -> None:
    """Its upload is answered 503 with when to try again, nothing stays, and the next one works."""
    with closing(begin(service)) as client:
        (pid,) = receivers(service)
        os.kill(pid, signal.SIGKILL)
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 503")
    assert b'"receiver_lost"' in answer
    assert b"retry-after: 1" in answer.lower()
    assert service.files() == []
    assert service.wait(service.submit([prompt("Again.")])["request_id"])["status"] == "success"
    assert pid not in receivers(service)


def test_a_killed_server_takes_its_receivers_along(service: Service) -> None:
    """Nobody goes on writing under the server that comes after it."""
    assert service.server is not None
    with closing(begin(service)):
        (pid,) = receivers(service)
        service.server.kill()
        until(lambda: not is_running(pid), "the receiver ends")
    service.start_server()
    until(lambda: service.files() == [], "what was half written is removed")


def test_a_server_that_is_stopped_ends_an_upload(service: Service) -> None:
    """A stop in the middle of an upload that never ends leaves no process and no file."""
    assert service.server is not None
    with closing(begin(service)):
        (pid,) = receivers(service)
        assert service.server.stop() == 0
        assert not is_running(pid)
    assert service.files() == []


def is_running(pid: int) -> bool:
    """Whether the process lives; one that only waits to be buried does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
