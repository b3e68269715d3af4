import ssl
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.blobs.file_server import certificate, file_server, ok
from tests.fake_clock import FakeClock
from tests.wire import closed_port

from penstock.blobs.addresses import Address, is_public
from penstock.blobs.egress import resolve
from penstock.blobs.fetch import Source, Web
from penstock.blobs.source_uri import parse
from penstock.core.limits import Limits
from penstock.errors import PenstockError, SourceRefused, SourceUnavailable

BODY = b'{"request": 1}\n' * 1_000
NAME = "files.example"
PLAIN = ssl.create_default_context()


def only(*addresses: str) -> "Resolver":
    """A resolver that gives these for every name."""
    return Resolver(addresses)


class Resolver:
    """Knows the addresses that a test gives it, and remembers who asked."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self.addresses = addresses
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        return self.addresses


def is_here(address: Address) -> bool:
    """What counts as public where the test's server is the internet."""
    return str(address).startswith("127.0.0.")


def web(clock: FakeClock | None = None, limits: Limits | None = None) -> Web:
    """A client as a server makes it, for literal loopback addresses."""
    return Web(limits or Limits(), clock or FakeClock(), PLAIN)


async def fetched(client: Web, address: str) -> tuple[bytes, Source]:
    """The bytes of an address."""
    async with client.open(parse(address)) as source:
        return b"".join([chunk async for chunk in source.chunks]), source


async def refused(client: Web, address: str) -> PenstockError:
    """The error of an address."""
    with pytest.raises((SourceRefused, SourceUnavailable)) as caught:
        await fetched(client, address)
    error = caught.value
    assert error.hint
    assert (error.retry_after_seconds is not None) == isinstance(error, SourceUnavailable)
    return error


# -- a file --------------------------------------------------------------------------------------


async def test_a_file_comes_as_it_is() -> None:
    """Bytes, length and encoding are the server's; the query is sent and not shown."""
    answer = ok(BODY, "Content-Encoding: GZIP")
    with file_server(lambda _head: answer) as server:
        url = f"http://127.0.0.1:{server.port}/a;b/c%2C.jsonl?X-Sig=%2F1&x"
        body, source = await fetched(web(), url)
    assert body == BODY
    assert (source.content_length, source.encoding) == (len(BODY), "gzip")
    assert source.shown == f"http://127.0.0.1:{server.port}/a;b/c%2C.jsonl"
    assert server.heads[0].startswith("GET /a;b/c%2C.jsonl?X-Sig=%2F1&x HTTP/1.1\r\n")


async def test_nothing_of_ours_is_sent() -> None:
    """The request has no credentials, no cookies, and asks for no encoding."""
    with file_server(lambda _head: ok(BODY, "Set-Cookie: a=b")) as server:
        client = web()
        for _ in range(2):
            await fetched(client, f"http://127.0.0.1:{server.port}/x")
    for head in server.heads:
        names = {line.partition(":")[0].lower() for line in head.split("\r\n")[1:] if line}
        assert names == {"host", "user-agent", "accept", "accept-encoding"}
        assert "accept-encoding: identity" in head.lower()


async def test_chunks_have_no_length() -> None:
    """A chunked answer is read to its end, and its length is not known before."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: identity\r\n\r\n"
    with file_server(lambda _head: [head, b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n"]) as server:
        body, source = await fetched(web(), f"http://127.0.0.1:{server.port}/x")
    assert body == b"abcde"
    assert (source.content_length, source.encoding) == (None, None)


async def test_tls_shows_the_name_to_the_checked_address(tmp_path: Path) -> None:
    """The name goes into SNI, Host and the certificate's check; the connection to its address."""
    served, trusted = certificate(tmp_path, NAME)
    resolver = only("127.0.0.1")
    client = Web(Limits(), FakeClock(), trusted, resolver, is_here)
    with file_server(lambda _head: ok(BODY), served) as server:
        body, _ = await fetched(client, f"https://{NAME}:{server.port}/x")
    assert body == BODY
    assert server.names == [NAME]
    assert f"Host: {NAME}:{server.port}\r\n" in server.heads[0]
    # Once: another answer between check and use would go unnoticed.
    assert resolver.asked == [(NAME, server.port)]


async def test_tls_to_an_address_checks_the_address(tmp_path: Path) -> None:
    """A listed literal address has to show a certificate for itself."""
    served, trusted = certificate(tmp_path, "127.0.0.1")
    with file_server(lambda _head: ok(BODY), served) as server:
        client = Web(Limits(), FakeClock(), trusted)
        body, _ = await fetched(client, f"https://127.0.0.1:{server.port}/x")
    assert body == BODY


@pytest.mark.parametrize("name", ["evil.example", NAME])
async def test_a_certificate_is_checked(tmp_path: Path, name: str) -> None:
    """Another name's certificate, and one that nobody vouches for, end before the request."""
    served, trusted = certificate(tmp_path, "evil.example")
    client = Web(
        Limits(),
        FakeClock(),
        trusted if name == NAME else PLAIN,
        only("127.0.0.1"),
        is_here,
    )
    with file_server(lambda _head: ok(BODY), served) as server:
        error = await refused(client, f"https://{name}:{server.port}/x")
    assert "no valid certificate" in error.message
    assert server.heads == []


async def test_the_next_address_is_tried() -> None:
    """A name with several addresses works while one of them does."""
    client = Web(Limits(), FakeClock(), PLAIN, only("127.0.0.7", "127.0.0.1"), is_here)
    with file_server(lambda _head: ok(BODY)) as server:
        body, _ = await fetched(client, f"http://{NAME}:{server.port}/x")
    assert body == BODY


# -- where it may not go -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["169.254.169.254"],
        ["10.0.0.1"],
        ["::1"],
        ["fe80::1%1"],
        ["::ffff:127.0.0.1"],
        ["8.8.8.8", "127.0.0.1"],
    ],
)
async def test_a_name_for_a_private_address_is_refused(addresses: list[str]) -> None:
    """One address that is not public is enough, and which one it is stays with us."""
    with file_server(lambda _head: ok(BODY)) as server:
        client = Web(Limits(), FakeClock(), PLAIN, only(*addresses))
        error = await refused(client, f"https://{NAME}:{server.port}/x")
    assert (error.error_code, error.status) == ("source_not_public", 422)
    assert "127.0.0.1" not in error.message + str(error.hint)
    assert server.heads == []


@pytest.mark.parametrize("host", ["10.0.0.1", "169.254.169.254", "[fd00::1]"])
async def test_a_literal_private_address_is_refused(host: str) -> None:
    """Only loopback can be listed by its number."""
    error = await refused(web(), f"https://{host}/x")
    assert error.error_code == "source_not_public"


async def test_the_machines_own_resolver_is_not_trusted_more() -> None:
    """What this machine calls localhost is refused like any other private name."""
    assert not any(is_public_text(text) for text in await resolve("localhost", 443))
    error = await refused(web(), "https://localhost/x")
    assert error.error_code == "source_not_public"


def is_public_text(text: str) -> bool:
    """Whether an address as text is public."""
    return is_public(parse(f"https://[{text}]" if ":" in text else f"https://{text}").literal)  # type: ignore[arg-type]  # it is a literal


async def test_a_name_without_an_address_may_have_one_later() -> None:
    """A failing resolver is worth another try."""

    async def fails(host: str, _port: int) -> Sequence[str]:
        raise OSError(f"no {host}")

    error = await refused(Web(Limits(), FakeClock(), PLAIN, fails), "https://h.example/x")
    assert "is not found" in error.message
    error = await refused(Web(Limits(), FakeClock(), PLAIN, only()), "https://h.example/x")
    assert "has no address" in error.message


async def test_redirects_are_not_followed() -> None:
    """A redirect is an answer that is no file, and its target is not asked."""
    with file_server(lambda _head: ok(BODY)) as target:
        moved = (
            f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{target.port}/\r\n"
            "Content-Length: 0\r\n\r\n"
        )
        with file_server(lambda _head: [moved.encode()]) as server:
            error = await refused(web(), f"http://127.0.0.1:{server.port}/x")
    assert (error.status, target.heads) == (422, [])
    assert "302 Found" in error.message
    assert "redirects" in str(error.hint)


# -- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (400, SourceRefused, "400 Bad Request"),
        (401, SourceRefused, "401 Unauthorized"),
        (403, SourceRefused, "403 Forbidden"),
        (404, SourceRefused, "404 Not Found"),
        (206, SourceRefused, "206 Partial Content"),
        (204, SourceRefused, "204 No Content"),
        (299, SourceRefused, "299."),
        (408, SourceUnavailable, "408 Request Timeout"),
        (429, SourceUnavailable, "429 Too Many Requests"),
        (500, SourceUnavailable, "500 Internal Server Error"),
        (503, SourceUnavailable, "503 Service Unavailable"),
        (599, SourceUnavailable, "599."),
    ],
)
async def test_an_answer_that_is_no_file_is_told_by_its_status(
    status: int, kind: type[PenstockError], says: str
) -> None:
    """The status says whether another try helps; neither phrase nor body are repeated."""
    raw = f"HTTP/1.1 {status} secret-phrase\r\nContent-Length: 11\r\n\r\nsecret-body".encode()
    with file_server(lambda _head: [raw]) as server:
        error = await refused(web(), f"http://127.0.0.1:{server.port}/x")
    assert type(error) is kind
    assert says in error.message
    assert "secret" not in error.message + str(error.hint)


async def test_a_cut_is_noticed() -> None:
    """A file that ends before its stated length is one to try again."""
    with file_server(lambda _head: ok(b"abc", length=10)) as server:
        error = await refused(web(), f"http://127.0.0.1:{server.port}/x")
    assert isinstance(error, SourceUnavailable)
    assert "broke off after 3 bytes" in error.message


async def test_a_cut_between_chunks_is_noticed() -> None:
    """Chunks without the last one are not the whole file."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    with file_server(lambda _head: [head]) as server:
        error = await refused(web(), f"http://127.0.0.1:{server.port}/x")
    assert "broke off after 3 bytes" in error.message


async def test_a_file_without_an_end_is_refused() -> None:
    """Where only the connection's end says that the file ended, a cut would look the same."""
    with file_server(lambda _head: [b"HTTP/1.1 200 OK\r\n\r\nabc"]) as server:
        error = await refused(web(), f"http://127.0.0.1:{server.port}/x")
    assert (error.error_code, error.status) == ("source_length_unknown", 422)


@pytest.mark.parametrize("raw", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nContent-Le"])
async def test_a_server_that_does_not_speak_http_is_told(raw: bytes) -> None:
    """What is no HTTP answer is an error that may pass, and is not repeated."""
    with file_server(lambda _head: [raw]) as server:
        error = await refused(web(), f"http://127.0.0.1:{server.port}/x")
    assert "did not answer as HTTP does" in error.message


async def test_nobody_there_is_told() -> None:
    """A refused connection is one to try again."""
    error = await refused(web(), f"http://127.0.0.1:{closed_port()}/x")
    assert "cannot be reached" in error.message


async def test_a_silent_server_is_given_up() -> None:
    """Without a byte for the idle time the file has broken off."""
    over = threading.Event()

    def answer(_head: str) -> list[bytes]:
        return ok(b"abc", length=10)

    def silent(head: str) -> "Waiting":
        return Waiting(answer(head), over)

    with file_server(silent) as server:
        client = web(limits=Limits(source_idle_seconds_max=0.05))
        error = await refused(client, f"http://127.0.0.1:{server.port}/x")
        over.set()
    assert "broke off after 3 bytes" in error.message


class Waiting:
    """Gives the pieces and then waits for the test to end."""

    def __init__(self, pieces: list[bytes], over: threading.Event) -> None:
        self._pieces = iter(pieces)
        self._over = over

    def __iter__(self) -> "Waiting":
        return self

    def __next__(self) -> bytes:
        for piece in self._pieces:
            return piece
        self._over.wait(10)
        raise StopIteration


async def test_a_slow_server_is_given_up() -> None:
    """However steadily it drips, a file has a time in which it must be there."""
    clock = FakeClock()

    def answer(_head: str) -> list[bytes]:
        clock.advance(Limits().source_seconds_max + 1)
        return ok(BODY)

    with file_server(answer) as server:
        error = await refused(web(clock), f"http://127.0.0.1:{server.port}/x")
    assert "took longer than 3600 seconds" in error.message


async def test_who_stops_reading_ends_the_connection() -> None:
    """A refusal in the middle of the file leaves no connection behind."""
    big = b"x" * 50_000_000
    with file_server(lambda _head: ok(big)) as server:
        async with web().open(parse(f"http://127.0.0.1:{server.port}/x")) as source:
            async for _chunk in source.chunks:
                break
    # The server has ended, so nobody holds its connection.
    assert len(server.heads) == 1
