"""Clients that take their time: each is cut at its limit, stores nothing, and holds up nobody."""

import socket
import struct
from collections.abc import Iterator
from contextlib import closing

import pytest
from tests.journeys.service import BASE, Service, until
from tests.wire_abuse.connections import connect, dribble, head, read_all, statuses

REQUESTS = f"{BASE}/requests"
MEGABYTE = "Content-Length: 1000000"
CHUNKED = "Transfer-Encoding: chunked"
BEGUN = b'{"input_data": "{'


@pytest.fixture
def client(service: Service) -> Iterator[socket.socket]:
    """A connection."""
    with closing(connect(service)) as made:
        yield made


@pytest.fixture(autouse=True)
def _nothing_is_left(service: Service) -> Iterator[None]:
    """After each test the server answers as ever, and no slow client has left a byte."""
    before = service.http.get(f"{service.url}{REQUESTS}").json()["total"]
    yield
    until(lambda: not [name for name in service.files() if "incoming" in name], "a clean spool")
    answer = service.http.get(f"{service.url}{REQUESTS}")
    assert (answer.status_code, answer.json()["total"]) == (200, before)


HEADS = {
    "nothing": (b"", b""),
    "method": (b"G", b"ET" * 40),
    "target": (b"GET /", b"x" * 80),
    "version": (b"GET / HTTP/", b"1" * 80),
    "name": (b"GET / HTTP/1.1\r\nHo", b"s" * 80),
    "value": (b"GET / HTTP/1.1\r\nHost: ", b"x" * 80),
    "fields": (b"GET / HTTP/1.1\r\nHost: x\r\n", b"A: b\r\n" * 20),
    "end": (b"GET / HTTP/1.1\r\nHost: x\r\n\r", b""),
    "empty lines": (b"\r\n", b"\r\n" * 40),
    "other protocol": (b"\x16\x03\x01", b""),
}


@pytest.mark.parametrize("name", HEADS)
def test_a_slow_head_is_cut(client: socket.socket, name: str) -> None:
    """Whatever part of the head comes slowly, the time for all of it is over at its limit."""
    begun, slowly = HEADS[name]
    client.sendall(begun)
    assert statuses(dribble(client, slowly)) in ([408], [400])


BODIES = {
    "nothing": (MEGABYTE, b"", b""),
    "a begin": (MEGABYTE, BEGUN, b""),
    "a byte now and then": (MEGABYTE, BEGUN, b"x" * 80),
    "half": (MEGABYTE, BEGUN + b"x" * 500_000, b""),
    "no chunk": (CHUNKED, b"", b""),
    "half a size": (CHUNKED, b"ff", b"f" * 5),
    "size without data": (CHUNKED, b"ffff\r\n", b""),
    "data now and then": (CHUNKED, b"ffff\r\n" + BEGUN, b"x" * 80),
    "an extension": (CHUNKED, b"5;a=", b"x" * 80),
    "no last chunk": (CHUNKED, b"11\r\n" + BEGUN + b"\r\n", b""),
    "fields behind": (CHUNKED, b"11\r\n" + BEGUN + b"\r\n0\r\nX: ", b"x" * 80),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_slow_body_is_cut(service: Service, client: socket.socket, name: str) -> None:
    """Whatever part of a good client's body stops coming, it gets 408 and nothing is stored."""
    field, begun, slowly = BODIES[name]
    client.sendall(head(service, f"POST {REQUESTS}", field) + begun)
    assert statuses(dribble(client, slowly)) == [408]


@pytest.mark.parametrize("quiet", [b"", b"\r\n", b"\r\n" * 30, b"\n", b"G"])
def test_a_used_connection_that_falls_silent_is_closed(
    service: Service, client: socket.socket, quiet: bytes
) -> None:
    """After an answer, neither silence nor empty lines nor a begin hold the connection."""
    client.sendall(head(service, "GET /healthz"))
    received = b""
    # Head and body of the answer may come apart.
    while not received.endswith(b"}"):
        received += client.recv(65_536)
    assert received.startswith(b"HTTP/1.1 200")
    assert statuses(dribble(client, quiet)) in ([], [408])


@pytest.mark.parametrize("behind", [b"", b"\r\n" * 10, b"x" * 40])
def test_a_declined_upgrade_ends_the_connection(
    service: Service, client: socket.socket, behind: bytes
) -> None:
    """The parser stops at an Upgrade, so the answer is the last one of its connection."""
    client.sendall(head(service, "GET /healthz", "Connection: Upgrade", "Upgrade: h2c") + behind)
    received = read_all(client)
    assert statuses(received) == [200]
    assert b"connection: close" in received.lower()


@pytest.mark.parametrize("length", [MEGABYTE, CHUNKED])
@pytest.mark.parametrize("is_reset", [False, True])
@pytest.mark.parametrize("begun", [b"", b'5\r\n{"inp', b"5\r\n" + BEGUN * 20_000])
def test_a_body_that_ends_early_leaves_nothing(
    service: Service, client: socket.socket, length: str, begun: bytes, *, is_reset: bool
) -> None:
    """A closed side or a reset in the middle of a body ends the request, and never with 2xx."""
    client.sendall(head(service, f"POST {REQUESTS}", length) + begun)
    if is_reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        return
    client.shutdown(socket.SHUT_WR)
    assert all(status >= 400 for status in statuses(read_all(client)))


def test_a_half_closed_client_harms_nobody(service: Service, client: socket.socket) -> None:
    """Who closes its side behind a whole request gets the answer, or at least an end."""
    client.sendall(head(service, "GET /healthz"))
    client.shutdown(socket.SHUT_WR)
    assert statuses(read_all(client)) in ([], [200])
