"""Who may not, and what is too large, is told so before its body is read."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.types import Message
from tests.api.driver import BASE, Api, files, permit
from tests.api.live import PATIENCE_SECONDS, Live, live, until
from tests.fake_clock import FakeClock

from penstock.api.protocol import GuardedProtocol, guarded
from penstock.blobs.spool import Spool
from penstock.core.key import _with_check, new_key
from penstock.core.limits import Limits
from penstock.store.store import Store

GIGABYTE = 1_073_741_824
READ_BYTES_MAX = 65_536
BLAST_BYTES = 16 * 1024 * 1024
"""Far more than the kernel's buffers hold on both sides."""

WRONG = {
    "none": "",
    "unknown": f"Authorization: Bearer {new_key()}\r\n",
    "malformed": "Authorization: Bearer x' OR '1'='1\r\n",
    "other scheme": "Authorization: Basic eDp5\r\n",
}


class Counting(GuardedProtocol):
    """Counts what it was given to read, over all connections of a test."""

    counted: list[int]

    def data_received(self, data: bytes) -> None:
        self.counted.append(len(data))
        super().data_received(data)


@pytest.fixture
def counted() -> list[int]:
    """The sizes of what the server has read."""
    return []


@pytest.fixture
async def served(api: Api, counted: list[int]) -> AsyncIterator[Live]:
    """The application behind the protocol that counts."""
    kind = guarded(Limits())
    pool = {"limits": kind.limits, "pool": kind.pool, "counted": counted}
    async with live(api.app, type("Counting", (Counting,), pool)) as running:
        yield running


@pytest.fixture
def api(store: Store, spool: Spool, clock: FakeClock) -> Api:
    """The application over the test's store."""
    return Api(store, spool, clock, Limits())


def bodies(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Method and path of every described operation that needs a key and might be sent a body."""
    return [
        (method.upper(), path.replace("{", "").replace("}", ""))
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in {"post", "put", "patch", "delete"} and operation.get("security") != []
    ]


async def described(api: Api) -> list[tuple[str, str]]:
    """The same of the document as it is served."""
    async with api.client() as client:
        return bodies((await client.get("/openapi.json")).json())


@contextmanager
def connection(served: Live) -> Iterator[socket.socket]:
    """A client's connection that never blocks the loop."""
    with socket.create_connection(("127.0.0.1", served.port)) as made:
        made.settimeout(0)
        yield made


def head(method: str, path: str, field: str, length: str) -> bytes:
    """A head that announces a body."""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{field}"
        f"Content-Type: application/jsonl\r\n{length}\r\n\r\n"
    ).encode()


async def blast(client: socket.socket) -> int:
    """Send until the server wants no more, and return how much it and the kernel took.

    Each block is a chunk, too.
    """
    loop = asyncio.get_running_loop()
    block = b"10000\r\n" + bytes(65_536) + b"\r\n"
    sent = 0
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while sent < BLAST_BYTES:
                await loop.sock_sendall(client, block)
                sent += len(block)
    except OSError:
        return sent
    return sent


async def answer_of(client: socket.socket) -> bytes:
    """Read all that the server says until it closes."""
    loop = asyncio.get_running_loop()
    received = b""
    async with asyncio.timeout(PATIENCE_SECONDS):
        try:
            while block := await loop.sock_recv(client, 65_536):
                received += block
        except ConnectionError:
            # The reset that follows an answer to a client that goes on sending.
            return received
    return received


LENGTHS = {"announced": f"Content-Length: {GIGABYTE}", "chunked": "Transfer-Encoding: chunked"}


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("wrong", WRONG)
async def test_a_stranger_on_any_route_is_refused_before_the_body(
    api: Api, served: Live, counted: list[int], wrong: str, length: str
) -> None:
    """401 with not a byte of the gigabyte sent, on every route that the document describes."""
    for method, path in await described(api):
        with connection(served) as client:
            await asyncio.get_running_loop().sock_sendall(
                client, head(method, path, WRONG[wrong], LENGTHS[length])
            )
            answer = await answer_of(client)
        assert answer.startswith(b"HTTP/1.1 401"), (method, path, answer)
        assert b"connection: close" in answer.lower()
    assert sum(counted) < READ_BYTES_MAX


@pytest.mark.parametrize("length", LENGTHS)
async def test_a_body_that_comes_all_the_same_is_not_read(
    served: Live, counted: list[int], length: str, tmp_path: Path
) -> None:
    """Who sends on without looking is read no further than the first packet, and gets the 401."""
    with connection(served) as client:
        sent = head("POST", f"{BASE}/requests", WRONG["unknown"], LENGTHS[length])
        await asyncio.get_running_loop().sock_sendall(client, sent)
        assert await blast(client) < BLAST_BYTES
        answer = await answer_of(client)
    assert answer.startswith(b"HTTP/1.1 401")
    assert sum(counted) <= READ_BYTES_MAX + len(sent)
    assert files(tmp_path / "data") == []


@pytest.mark.parametrize("is_sent", [False, True])
@pytest.mark.parametrize("path", ["/requests", "/uploads"])
async def test_a_byte_too_many_is_refused_before_the_body(
    store: Store, served: Live, counted: list[int], path: str, *, is_sent: bool
) -> None:
    """With a good key, one byte over the limit is 413 with no more than 64 KB read."""
    key = f"Authorization: Bearer {await permit(store, 'acme')}\r\nUpload-Complete: ?0\r\n"
    with connection(served) as client:
        length = Limits().body_bytes_max + 1
        sent = head("POST", f"{BASE}{path}", key, f"Content-Length: {length}")
        if path == "/uploads":
            sent = sent.replace(
                b"Upload-Complete", b"Upload-Length: %d\r\nUpload-Complete" % length
            )
        await asyncio.get_running_loop().sock_sendall(client, sent)
        if is_sent:
            await blast(client)
        answer = await answer_of(client)
    assert answer.startswith(b"HTTP/1.1 413"), answer
    assert sum(counted) <= READ_BYTES_MAX + len(sent)


async def test_a_short_body_is_read_to_keep_the_connection(
    served: Live, counted: list[int]
) -> None:
    """Up to a megabyte, the rest is dropped, and the next request comes on the same connection."""
    body = bytes(500_000)
    async with httpx2.AsyncClient(base_url=served.url) as client:
        for _ in range(2):
            answer = await client.post(f"{BASE}/requests", content=body)
            assert answer.status_code == 401
        assert len(served.connections()) == 1
    assert sum(counted) > 2 * len(body)


async def test_a_client_that_only_looks_at_the_end_gets_its_answer(served: Live) -> None:
    """A client library that sends all before it reads is told 401, not that it was cut."""
    url = f"{served.url}{BASE}/requests"
    answer = await asyncio.to_thread(httpx2.post, url, content=bytes(30_000_000))
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    await until(lambda: not served.connections())


# -- ten thousand wrong keys ---------------------------------------------------------------------

GUESSES = 4_000
"""bench/auth_timing.py asks with ten times as many."""


async def ask(api: Api, key: bytes) -> tuple[int, bytes, frozenset[tuple[bytes, bytes]]]:
    """Ask for the list with a key; status, body, and the headers but for the request's id."""
    said: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        said.append(message)

    headers = [(b"host", b"penstock.test"), (b"authorization", b"Bearer " + key)]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "path": f"{BASE}/requests",
        "raw_path": f"{BASE}/requests".encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    asked: Callable[..., Awaitable[None]] = api.app
    await asked(scope, receive, send)
    told = frozenset(pair for pair in said[0]["headers"] if pair[0] != b"x-request-id")
    return said[0]["status"], b"".join(each.get("body", b"") for each in said[1:]), told


def guesses(good: str) -> Iterator[bytes]:
    """Keys that nobody has: of no form, of nobody, one letter beside a real one, and its id."""
    for number in range(GUESSES // 4):
        yield new_key().encode()
        yield b"' OR 1=1 -- %d" % number
        at = len(good) - 1 - number % 40
        yield (good[:at] + ("a" if good[at] != "a" else "b") + good[at + 1 :]).encode()
        # The id of a real key, another secret, and a checksum that is right.
        prefix, key_id, _, _ = good.split("_")
        yield _with_check(f"{prefix}_{key_id}_{new_key().split('_')[2]}").encode()


@pytest.mark.slow
async def test_wrong_keys_write_nothing_and_look_alike(
    api: Api, store: Store, tmp_path: Path
) -> None:
    """Thousands of wrong keys get the same bytes, and the database file is not touched."""
    good = await permit(store, "acme")
    state = [(one.name, one.stat().st_mtime_ns, one.stat().st_size) for one in db(tmp_path)]
    answers = {await ask(api, guess) for guess in guesses(good)}
    assert len(answers) == 1
    assert {status for status, _, _ in answers} == {401}
    assert state == [(one.name, one.stat().st_mtime_ns, one.stat().st_size) for one in db(tmp_path)]


def db(folder: Path) -> list[Path]:
    """The database and what lies beside it; the shared memory of readers is no write."""
    return sorted(one for one in folder.glob("penstock.db*") if not one.name.endswith("-shm"))
