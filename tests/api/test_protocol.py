import asyncio
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import httpx2
import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.wire import serving

from penstock.api.protocol import guarded
from penstock.core.limits import Limits

PATIENCE_SECONDS = 20.0
LIMITS = Limits(
    header_bytes_max=1_000,
    header_seconds_max=0.5,
    idle_seconds_max=0.5,
    body_bytes_per_second_min=1_000,
)


class Echo:
    """Answers how many bytes it read; `/held` first waits until the test lets it read."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.cut = threading.Event()
        self.url = ""

    def app(self) -> ASGIApp:
        """The application."""
        starlette = Starlette(routes=[Route("/{path}", self.read, methods=["GET", "POST"])])

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await starlette(scope, receive, send)

        return app

    async def read(self, request: Request) -> Response:
        if request.url.path == "/early":
            return Response("no")
        if request.url.path == "/held":
            await self._hold()
        size = 0
        try:
            async for chunk in request.stream():
                size += len(chunk)
        except ClientDisconnect:
            self.cut.set()
            raise
        return Response(str(size))

    async def _hold(self) -> None:
        await asyncio.to_thread(self.go.wait, PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    """A running server with small limits."""
    made = Echo()
    with serving(made.app(), guarded(LIMITS)) as url:
        made.url = url
        yield made


@pytest.fixture
def connection(echo: Echo) -> Iterator[socket.socket]:
    """A connection to it."""
    with closing(connect(echo)) as made:
        yield made


def connect(echo: Echo) -> socket.socket:
    """Another connection."""
    address = urlsplit(echo.url)
    return socket.create_connection(
        (str(address.hostname), int(address.port or 0)), timeout=PATIENCE_SECONDS
    )


def read_all(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    received = b""
    while block := connection.recv(65_536):
        received += block
    return received


def dribble(connection: socket.socket, data: bytes) -> bytes:
    """Send a byte at a time until the server says something, and return all that it says."""
    for byte in data:
        readable, _, _ = select.select([connection], [], [], 0.02)
        if readable:
            break
        connection.sendall(bytes([byte]))
    return read_all(connection)


def refusal(received: bytes) -> tuple[int, str]:
    """Status and code of an answer, whose body must be JSON in our shape."""
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    answer = orjson.loads(body)
    assert answer["error"] == answer["message"]
    return int(head.split(b" ", 2)[1]), answer["code"]


def head(path: str = "/x", **headers: str) -> bytes:
    """The head of a POST."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


# -- headers -------------------------------------------------------------------------------------


def test_a_silent_connection_is_closed(connection: socket.socket) -> None:
    """Who connects and says nothing gets no more time than for headers."""
    assert refusal(read_all(connection)) == (408, "body_too_slow")


def test_a_slow_head_is_cut(connection: socket.socket) -> None:
    """A byte now and then does not win more time."""
    received = dribble(connection, b"GET /x HTTP/1.1\r\nHost: " + b"x" * 500)
    assert refusal(received) == (408, "body_too_slow")


@pytest.mark.parametrize("value", ["x" * 1_000, "x" * 50_000])
def test_a_big_head_in_one_piece_is_refused(connection: socket.socket, value: str) -> None:
    """431, although the head was complete when it was read."""
    connection.sendall(head(X_Big=value, Content_Length="0"))
    assert refusal(read_all(connection)) == (431, "headers_too_large")


def test_a_big_head_without_end_is_refused(connection: socket.socket) -> None:
    """431 as soon as the limit is passed, not when the head ends."""
    connection.sendall(b"GET /x HTTP/1.1\r\nX-Big: " + b"x" * 2_000)
    assert refusal(read_all(connection)) == (431, "headers_too_large")


def test_a_big_head_in_small_pieces_is_refused(connection: socket.socket) -> None:
    """Many small headers count together."""
    connection.sendall(b"GET /x HTTP/1.1\r\n")
    for _ in range(15):
        connection.sendall(b"X-A: " + b"y" * 60 + b"\r\n")
    assert refusal(read_all(connection)) == (431, "headers_too_large")


def test_a_long_target_is_refused(connection: socket.socket) -> None:
    """The request line counts as well."""
    connection.sendall(b"GET /" + b"x" * 2_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert refusal(read_all(connection)) == (431, "headers_too_large")


def test_a_head_just_below_the_limit_is_taken(connection: socket.socket) -> None:
    """The limit is no trap for good clients."""
    connection.sendall(head(X_Big="x" * 850, Content_Length="0", Connection="close"))
    assert read_all(connection).startswith(b"HTTP/1.1 200")


def test_a_small_head_with_a_big_body_is_taken(connection: socket.socket) -> None:
    """Body bytes that come in the same packet do not count as headers."""
    connection.sendall(head(Content_Length="60000", Connection="close") + bytes(60_000))
    assert read_all(connection).endswith(b"60000")


# -- bodies --------------------------------------------------------------------------------------


def test_a_body_that_does_not_come_is_cut(echo: Echo, connection: socket.socket) -> None:
    """A head without its body gets 408, and the application sees that the client is gone."""
    echo.cut.clear()
    connection.sendall(head(Content_Length="100"))
    assert refusal(read_all(connection)) == (408, "body_too_slow")
    assert echo.cut.wait(PATIENCE_SECONDS)


def test_a_body_that_stops_is_cut(connection: socket.socket) -> None:
    """A good beginning wins no time for later."""
    connection.sendall(head(Content_Length="100000") + bytes(50_000))
    assert refusal(read_all(connection)) == (408, "body_too_slow")


def test_a_slow_body_is_cut(connection: socket.socket) -> None:
    """A byte now and then is below the least rate."""
    connection.sendall(head(Content_Length="100000"))
    assert refusal(dribble(connection, bytes(1_000))) == (408, "body_too_slow")


def test_a_chunked_body_that_stops_is_cut(connection: socket.socket) -> None:
    """The same holds without a declared length."""
    connection.sendall(head(Transfer_Encoding="chunked") + b"5\r\nhello\r\n")
    assert refusal(read_all(connection)) == (408, "body_too_slow")


def test_a_server_that_reads_slowly_blames_nobody(echo: Echo, connection: socket.socket) -> None:
    """While the application does not read, the client waits for us and is never called slow."""
    echo.go.clear()
    size = 4_000_000
    connection.sendall(head("/held", Content_Length=str(size), Connection="close"))
    sent = send_until_full(connection, size)
    readable, _, _ = select.select([connection], [], [], 1.6)
    assert not readable
    echo.go.set()
    connection.sendall(bytes(size - sent))
    assert read_all(connection).endswith(str(size).encode())


def send_until_full(connection: socket.socket, size: int) -> int:
    """Send as much as the other side takes without reading, and return how much that was."""
    sent = 0
    while sent < size - 100_000:
        _, writable, _ = select.select([], [connection], [], 0.2)
        if not writable:
            return sent
        sent += connection.send(bytes(50_000))
    raise AssertionError("the server took it all, so it did read")


def test_a_slow_answer_is_no_slow_client(echo: Echo, connection: socket.socket) -> None:
    """After the whole request has come there is no deadline for the client."""
    echo.go.clear()
    connection.sendall(head("/held", Content_Length="2", Connection="close") + b"xy")
    readable, _, _ = select.select([connection], [], [], 1.2)
    assert not readable
    echo.go.set()
    assert read_all(connection).endswith(b"2")


def test_an_early_answer_does_not_hold_the_connection(connection: socket.socket) -> None:
    """Who was answered before the body and never sends it is cut like everybody else."""
    connection.sendall(head("/early", Content_Length="100"))
    assert read_all(connection).startswith(b"HTTP/1.1 200")


def test_a_body_that_nobody_reads_is_taken(connection: socket.socket) -> None:
    """After an early answer the rest of the body passes, and the connection is good for more."""
    connection.sendall(head("/early", Content_Length="500000") + bytes(500_000))
    connection.sendall(head("/x", Content_Length="3", Connection="close") + b"abc")
    received = read_all(connection)
    assert received.count(b"HTTP/1.1 200") == 2
    assert received.endswith(b"3")


# -- several requests ----------------------------------------------------------------------------


@pytest.mark.parametrize("packet", [1, 7, 10_000])
def test_pipelined_requests_are_answered(connection: socket.socket, packet: int) -> None:
    """Thirty requests, more than the head limit together, come in packets of any size."""
    requests = b"".join(head(Content_Length=str(n)) + b"z" * n for n in range(29))
    requests += head(Content_Length="0", Connection="close")
    for start in range(0, len(requests), packet):
        connection.sendall(requests[start : start + packet])
    assert read_all(connection).count(b"HTTP/1.1 200") == 30


def test_a_connection_is_used_again(echo: Echo) -> None:
    """One connection serves many requests in turn, without growing into a limit."""
    with httpx2.Client(base_url=echo.url) as client:
        answers = [client.post("/x", content=bytes(n * 1_000)) for n in range(40)]
    assert [answer.text for answer in answers] == [str(n * 1_000) for n in range(40)]


def test_the_second_head_has_its_own_deadline(connection: socket.socket) -> None:
    """A slow head is cut on a connection that was good before, too."""
    connection.sendall(head(Content_Length="0"))
    first = connection.recv(65_536)
    # Head and body of the answer may come apart; the second request begins after both.
    while not first.endswith(b"\r\n\r\n0"):
        first += connection.recv(65_536)
    assert first.startswith(b"HTTP/1.1 200")
    received = dribble(connection, b"GET /x HTTP/1.1\r\nHost: " + b"x" * 500)
    assert refusal(received) == (408, "body_too_slow")


def test_a_refused_connection_harms_no_other(echo: Echo, connection: socket.socket) -> None:
    """While one client is refused, another is served."""
    connection.sendall(b"GET /x HTTP/1.1\r\nX-Big: " + b"x" * 2_000)
    assert httpx2.post(f"{echo.url}/x", content=b"abc").text == "3"
    assert refusal(read_all(connection)) == (431, "headers_too_large")


def test_what_is_no_http_is_refused(connection: socket.socket) -> None:
    """Another protocol on the port gets an answer and an end."""
    started = time.monotonic()
    connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    assert read_all(connection).startswith(b"HTTP/1.1 400")
    assert time.monotonic() - started < PATIENCE_SECONDS / 2
