"""Receivers that do what they should not: each costs one try, so much time and so much memory."""

import gzip
import socket
import ssl
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from tests.blobs.file_server import certificate, file_server, ok
from tests.wire import closed_port

from penstock.blobs.egress import Egress, Patience, resolve
from penstock.core.limits import Limits
from penstock.webhooks.address import Addresses
from penstock.webhooks.resolver import Resolver
from penstock.webhooks.sender import Outcome, Sender, open_sender

SECONDS: Final = 0.3
LIMITS: Final = Limits(webhook_seconds_max=SECONDS)
UNREACHED: Final = Outcome(error="cannot be reached, or shows no valid certificate")
NO_HTTP: Final = Outcome(error="did not answer as HTTP does")
LATE: Final = Outcome(error=f"no answer in {SECONDS:g} seconds")
HEAD: Final = b"HTTP/1.1 200 OK\r\n"
GOOD: Final = Outcome(status=200)


def sender(url: str, tls: ssl.SSLContext | None = None, limits: Limits = LIMITS) -> Sender:
    """A sender that may go to one private address."""
    seconds = limits.webhook_seconds_max
    patience = Patience(connect_seconds=seconds, idle_seconds=seconds)
    way_out = Egress(tls or ssl.create_default_context(), patience)
    return Sender(way_out, Addresses(limits, [url]), limits)


async def sent_to(pieces: Iterable[bytes], over: threading.Event | None = None) -> Outcome:
    """What comes of a try at a receiver that answers these bytes."""
    with file_server(lambda _head: pieces) as server:
        url = f"http://127.0.0.1:{server.port}/"
        outcome = await sender(url).send(url, {"webhook-id": "msg_1"}, b'{"a":1}')
        if over is not None:
            over.set()
    assert len(server.heads) == 1
    return outcome


def slowly(pieces: Iterable[bytes], over: threading.Event) -> Iterator[bytes]:
    """Give the pieces far apart, and then nothing until the test is over."""
    for piece in pieces:
        yield piece
        if over.wait(0.02):
            return
    over.wait(30)


def endless(piece: bytes) -> Iterator[bytes]:
    """Give ten gigabytes, unless the other side goes away."""
    for _ in range(10 * 1024**3 // len(piece)):
        yield piece


SLOW = {
    "never": ([], LATE),
    "half a status line": ([b"HTTP/1.1 2"], LATE),
    "a head without an end": ([HEAD, b"A: b\r\n"], LATE),
    "one byte of the head after the other": ([bytes([b]) for b in HEAD * 9], LATE),
    "for ever 100": ([b"HTTP/1.1 100 Continue\r\n\r\n"] * 500, LATE),
    "a good status, and its body byte after byte": (
        [HEAD + b"Content-Length: 1000\r\n\r\n", *[b"x"] * 999],
        GOOD,
    ),
    "a bad status, and its body byte after byte": (
        [b"HTTP/1.1 500 No\r\nContent-Length: 1000\r\n\r\n", *[b"x"] * 999],
        Outcome(status=500, error="answered 500"),
    ),
    "a good status, and its chunks without an end": (
        [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[b"1\r\nx\r\n"] * 500],
        GOOD,
    ),
}


@pytest.mark.parametrize("name", SLOW)
async def test_slow(name: str) -> None:
    """A try ends after its time, whatever drips; a status that came whole counts."""
    pieces, expected = SLOW[name]
    over = threading.Event()
    assert await sent_to(slowly(pieces, over), over) == expected


LARGE = {
    "ten gigabytes": [HEAD + b"Content-Length: 10737418240\r\n\r\n", *[b"x" * 65_536] * 2_000],
    "chunks": [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[b"10000\r\n" + b"x" * 65_536] * 9],
    "no length": [HEAD + b"\r\n", *[b"x" * 65_536] * 200],
    "a bomb": [
        HEAD + b"Content-Encoding: gzip\r\n\r\n",
        gzip.compress(bytes(50_000_000)),
    ],
    "a bomb in a bomb": [
        HEAD + b"Content-Encoding: gzip, gzip, gzip\r\n\r\n",
        gzip.compress(gzip.compress(bytes(50_000_000))),
    ],
    "a body that is cut": [HEAD + b"Content-Length: 10\r\n\r\nabc"],
    "broken compression": [HEAD + b"Content-Encoding: zstd\r\nContent-Length: 3\r\n\r\nabc"],
}


@pytest.mark.parametrize("name", LARGE)
async def test_large(name: str) -> None:
    """Of a body so much is read and no more, and nothing is decompressed."""
    assert await sent_to(LARGE[name]) == GOOD


async def test_ten_gigabytes_cost_no_more_than_a_few_kilobytes() -> None:
    """The connection is closed once so much was read, long before the end."""
    given = 0

    def count() -> Iterator[bytes]:
        nonlocal given
        yield HEAD + b"Content-Length: 10737418240\r\n\r\n"
        for piece in endless(b"x" * 65_536):
            given += len(piece)
            yield piece

    assert await sent_to(count()) == GOOD
    # What the kernel's buffers took is far less than a thousandth of it.
    assert given < 20_000_000


@pytest.mark.parametrize("status", [200, 201, 202, 204, 226, 299])
async def test_good_statuses(status: int) -> None:
    """2xx is delivered."""
    raw = f"HTTP/1.1 {status} Fine\r\nContent-Length: 0\r\n\r\n".encode()
    assert await sent_to([raw]) == Outcome(status=status)


@pytest.mark.parametrize(
    "status", [300, 301, 302, 303, 304, 307, 308, 400, 401, 404, 410, 429, 500, 503, 599]
)
async def test_bad_statuses(status: int) -> None:
    """Anything else is a failed try; no redirect is followed, and no text of it is kept."""
    head = f"HTTP/1.1 {status} secret\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"
    outcome = await sent_to([head.encode()])
    assert outcome == Outcome(status=status, error=f"answered {status}")
    assert outcome.is_gone == (status == 410)


NONSENSE = {
    "nothing": [],
    "SSH": [b"SSH-2.0-OpenSSH\r\n"],
    "HTTP/2": [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    "HTTP/0.9": [b"<html>hello</html>"],
    "zeros": [bytes(100_000)],
    "a cut head": [b"HTTP/1.1 200 OK\r\nContent-Le"],
    "no number": [b"HTTP/1.1 abc OK\r\n\r\n"],
    "two lengths": [b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"],
    "another protocol": [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"],
    "a negative length": [b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"],
    "a null in the head": [b"HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n"],
    "a head of a megabyte": [HEAD, *[b"A: " + b"x" * 1_000 + b"\r\n"] * 1_000, b"\r\n"],
}


@pytest.mark.parametrize("name", NONSENSE)
async def test_nonsense(name: str) -> None:
    """What is no HTTP is a failed try in our own words."""
    assert await sent_to(NONSENSE[name]) == NO_HTTP


@contextmanager
def resetting(answer: bytes) -> Iterator[int]:
    """A receiver that reads something, says something, and resets the connection; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            connection, _ = listener.accept()
            connection.recv(65_536)
            connection.sendall(answer)
            # A linger of no seconds makes the close a reset.
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.close()

        thread = threading.Thread(target=run)
        thread.start()
        yield int(listener.getsockname()[1])
        thread.join()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nConte"])
async def test_a_reset_is_a_failed_try(answer: bytes) -> None:
    """A connection that is reset before the status came whole."""
    with resetting(answer) as port:
        url = f"http://127.0.0.1:{port}/"
        assert await sender(url).send(url, {}, b"{}") == NO_HTTP


async def test_nobody_there() -> None:
    """A refused connection is a failed try."""
    url = f"http://127.0.0.1:{closed_port()}/"
    assert await sender(url).send(url, {}, b"{}") == UNREACHED


@pytest.mark.parametrize("name", ["evil.example", "127.0.0.1"])
async def test_a_certificate_that_is_not_right(name: str, tmp_path: Path) -> None:
    """Another's certificate, and one that nobody vouches for: nothing is sent."""
    served, trusted = certificate(tmp_path, name)
    tls = ssl.create_default_context() if name == "127.0.0.1" else trusted
    with file_server(lambda _head: ok(b""), served) as server:
        url = f"https://127.0.0.1:{server.port}/"
        assert await sender(url, tls, Limits()).send(url, {}, b"{}") == UNREACHED
    assert server.heads == []


async def test_a_handshake_that_is_not_answered() -> None:
    """It ends with the try, and its connection with it: the receiver sees the end of it."""
    with file_server(lambda _head: ok(b"")) as server:
        # A server of plain HTTP waits for the rest of a head that is no head.
        url = f"https://127.0.0.1:{server.port}/"
        assert await sender(url).send(url, {}, b"{}") in (LATE, UNREACHED)
    assert server.heads == []


async def test_tls_that_is_right(tmp_path: Path) -> None:
    """A certificate for the host is taken, and the request has the headers that it was given."""
    served, trusted = certificate(tmp_path, "127.0.0.1")
    with file_server(lambda _head: ok(b""), served) as server:
        url = f"https://127.0.0.1:{server.port}/hook?a=b"
        wanted = sender(url.partition("?")[0], trusted, Limits())
        assert await wanted.send(url, {"webhook-id": "msg_1"}, b"{}") == GOOD
    head = server.heads[0]
    assert head.startswith("POST /hook?a=b HTTP/1.1\r\n")
    names = {line.partition(":")[0].lower() for line in head.split("\r\n")[1:] if line}
    assert names == {
        "host",
        "content-type",
        "user-agent",
        "accept",
        "accept-encoding",
        "content-length",
        "webhook-id",
    }


async def test_a_name_without_an_address_is_a_failed_try() -> None:
    """The system's resolver is asked in threads of its own, and its no is told."""
    resolver = Resolver(2)
    try:
        assert await resolver("127.0.0.1", 443) == ["127.0.0.1"]
        assert await resolver("localhost", 443) == list(await resolve("localhost", 443))
    finally:
        resolver.close()
    made = open_sender(Addresses(Limits()), Limits(), 2)
    outcome = await made.send("https://nothing.invalid/", {}, b"{}")
    assert outcome == Outcome(error="its host is not found")


async def test_an_address_that_is_not_allowed_any_more_is_a_failed_try() -> None:
    """What was stored under other settings is checked again."""
    made = open_sender(Addresses(Limits()), Limits(), 2)
    outcome = await made.send("http://127.0.0.1:9/", {}, b"{}")
    assert outcome.error == "The address in `url` is not accepted: it is not https."
