"""Whoever comes over TLS is told to stay with it, whatever part of the real program answers."""

import socket
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import pytest
from tests.journeys.service import Process

pytestmark = pytest.mark.slow

PROMISE = b"strict-transport-security: max-age=31536000; includesubdomains\r\n"
CONNECTIONS = 8
REFUSED = {
    b"no http at all\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 2_000 + b"\r\n\r\n": 431,
    b"GET / HTTP/1.1\r\nHost: localhost\r\nExpect: 200-ok\r\n\r\n": 417,
    b"GET / HTTP/1.1\r\nHost: localho": 408,
    b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n": 421,
    b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n": 404,
    b"GET /api/v1/keys HTTP/1.1\r\nHost: localhost\r\n\r\n": 401,
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n": 200,
}
"""What is sent, and the status of the answer; the first four never reach the application."""


@pytest.fixture(scope="module", params=["https://batch.example", ""], ids=["behind https", "plain"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, bool]]:
    """The program's address, and whether its public one is https."""
    folder = tmp_path_factory.mktemp("promise")
    arguments = ["serve", "--port", "0", "--data-dir", str(folder / "data")]
    arguments += ["--emulator", "http://127.0.0.1:9"]
    settings = {
        "PENSTOCK_PUBLIC_URL": request.param,
        "PENSTOCK_LIMITS_HEADER_BYTES_MAX": "1000",
        "PENSTOCK_LIMITS_HEADER_SECONDS_MAX": "3",
        "PENSTOCK_LIMITS_CONNECTIONS_MAX": str(CONNECTIONS),
    }
    process = Process(arguments, folder / "log", 2, **settings)
    try:
        yield process.said["url"], bool(request.param)
    finally:
        process.kill()


def connected(url: str) -> socket.socket:
    """A connection to the server."""
    address = urlsplit(url)
    return socket.create_connection((address.hostname, address.port), timeout=20)


def head_of(connection: socket.socket) -> bytes:
    """The head of the answer, in lower case."""
    head = b""
    while b"\r\n\r\n" not in head:
        block = connection.recv(65_536)
        assert block
        head += block
    return head.partition(b"\r\n\r\n")[0].lower() + b"\r\n"


def test_every_answer_promises_tls_where_there_is_tls(server: tuple[str, bool]) -> None:
    """For a year, good or refused, also before there is a request; without TLS never."""
    url, is_https = server
    for sent, status in REFUSED.items():
        with closing(connected(url)) as connection:
            connection.sendall(sent)
            head = head_of(connection)
        assert head.startswith(b"http/1.1 %d " % status), head
        assert (PROMISE in head) == is_https, (sent, head)


def test_who_is_turned_away_is_told_too(server: tuple[str, bool]) -> None:
    """One connection too many gets its 503 with the promise."""
    url, is_https = server
    held = [connected(url) for _ in range(CONNECTIONS)]
    try:
        # An answer on each says that the server counts it.
        for connection in held:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert head_of(connection).startswith(b"http/1.1 200 ")
        with closing(connected(url)) as one_more:
            head = head_of(one_more)
    finally:
        for connection in held:
            connection.close()
    assert head.startswith(b"http/1.1 503 ")
    assert (PROMISE in head) == is_https
