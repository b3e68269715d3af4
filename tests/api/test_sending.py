import asyncio
import hashlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from backports import zstd
from tests.api.driver import Api, ended
from tests.api.live import PATIENCE_SECONDS, Live, head_of, live, rest_of, until
from tests.fake_clock import FakeClock
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from penstock.api.protocol import SENDING_THREADS, guarded
from penstock.api.sending import (
    BLOCK_BYTES,
    READ_BYTES,
    RETRY_AFTER_SECONDS,
    Slots,
    open_whole,
)
from penstock.blobs.spool import OUTPUT, Spool
from penstock.core.job import Job
from penstock.core.limits import Limits
from penstock.errors import BlobMissing, Unavailable
from penstock.store.store import Store

SIZE = 12_000_000
"""More than the buffers of both kernels take from a server whose client does not read."""

DATA = os.urandom(SIZE)
ETAG = f"sha256-{hashlib.sha256(DATA).hexdigest()}"
SILENT = SENDING_THREADS + 2
"""More clients that do not read than there are threads."""

pytestmark = pytest.mark.slow


class Site:
    """A running server with one finished job, and the link to its output."""

    def __init__(self, api: Api, served: Live, job: Job) -> None:
        self.api = api
        self.served = served
        self.target = f"/api/v1/ie/requestqueue/downloads/{job.id}/output.jsonl"
        self.target += f"?{api.links.query(job)}"
        self.file = api.spool.path(job.id, OUTPUT)

    async def fetch(self, **headers: str) -> httpx2.Response:
        """GET with headers; `_` stands for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with httpx2.AsyncClient(timeout=PATIENCE_SECONDS) as client:
            address = self.served.url + self.target
            return await client.get(address, headers={"Accept-Encoding": "identity", **named})

    async def silent(self, encoding: str = "identity") -> socket.socket:
        """A client that asks and does not read."""
        return await self.served.silent_client(self.request(encoding))

    def request(self, encoding: str = "identity", version: str = "1.1", **headers: str) -> str:
        """The head of a GET."""
        lines = [f"GET {self.target} HTTP/{version}", "Host: x", f"Accept-Encoding: {encoding}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""])


Open = Callable[..., AbstractAsyncContextManager[Site]]


@pytest.fixture(params=["sendfile", "pieces"])
def http(request: pytest.FixtureRequest) -> str:
    """Our own protocol, and one that does not offer to send files."""
    return str(request.param)


@pytest.fixture
def serve(
    store: Store, spool: Spool, clock: FakeClock, new_job: Callable[..., Job], http: str
) -> Open:
    """Open a site with limits."""

    @asynccontextmanager
    async def opened(**changes: float) -> AsyncIterator[Site]:
        limits = Limits(**changes)  # type: ignore[arg-type]  # each has its own type
        api = Api(store, spool, clock, limits)
        job = await store.jobs.load(await ended(api, new_job(), output=DATA))
        assert job is not None
        protocol = guarded(limits) if http == "sendfile" else HttpToolsProtocol
        async with live(api.app, protocol) as served:
            yield Site(api, served, job)
        assert api.downloads.slots.taken == 0
        assert api.downloads.slots.compressing == 0

    return opened


def descriptors() -> int:
    """How many files and sockets this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


# -- the bytes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        ("", 0, SIZE),
        ("bytes=0-0", 0, 1),
        ("bytes=0-4999999", 0, 5_000_000),
        ("bytes=5000000-9999999", 5_000_000, 10_000_000),
        ("bytes=-3000001", SIZE - 3_000_001, SIZE),
    ],
)
async def test_the_bytes_are_those_of_the_file(
    serve: Open, wanted: str, start: int, stop: int
) -> None:
    """Whole or in part, over a real connection, each byte is the file's."""
    async with serve() as site:
        answer = await site.fetch(**({"Range": wanted} if wanted else {}))
    assert answer.status_code == (206 if wanted else 200)
    assert answer.content == DATA[start:stop]


async def test_zstd_is_the_same_file(serve: Open) -> None:
    """The zstd stream is one whole frame of the same bytes."""
    async with serve() as site:
        client = await site.silent("zstd")
        with client:
            head = await head_of(client)
            body = b""
            while not body.endswith(b"\r\n0\r\n\r\n"):
                body += await asyncio.get_running_loop().sock_recv(client, 1_000_000)
    assert (head["content-encoding"], head["transfer-encoding"]) == ("zstd", "chunked")
    assert head["etag"] == f'"{ETAG}-zstd"'
    assert zstd.decompress(b"".join(chunks(body))) == DATA


def chunks(body: bytes) -> list[bytes]:
    """The contents of a chunked body."""
    found = []
    while body:
        size, _, body = body.partition(b"\r\n")
        found.append(body[: int(size, 16)])
        body = body[int(size, 16) + 2 :]
    return found


async def test_three_at_once(serve: Open) -> None:
    """Three downloads at the same time each get their own bytes."""
    ranges = ["bytes=0-", "bytes=1000000-", "bytes=-9000000"]
    async with serve() as site:
        answers = await asyncio.gather(*(site.fetch(Range=wanted) for wanted in ranges))
    assert [answer.content for answer in answers] == [DATA, DATA[1_000_000:], DATA[-9_000_000:]]


async def test_a_connection_is_good_for_more(serve: Open) -> None:
    """Requests that come in one packet are answered one after the other, files and others."""
    async with serve() as site:
        wanted = [site.request(Range=f"bytes={n}-{n + 999_999}") for n in (0, 5_000_000)]
        asked = "".join([*wanted, site.request(Range="bytes=7-8", Connection="close")])
        with await site.served.silent_client(asked) as client:
            bodies = []
            for size in (1_000_000, 1_000_000, 2):
                head = await head_of(client)
                assert head["content-length"] == str(size)
                body = b""
                while len(body) < size:
                    body += await asyncio.get_running_loop().sock_recv(client, size - len(body))
                bodies.append(body)
            assert await rest_of(client) == b""
    assert bodies == [DATA[:1_000_000], DATA[5_000_000:6_000_000], DATA[7:9]]


# -- clients that do not read, or go -------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["identity", "zstd"])
async def test_who_does_not_read_harms_nobody(serve: Open, http: str, encoding: str) -> None:
    """Many clients that do not read hold next to no memory and no thread, and get all at last."""
    async with serve(downloads_compressed_max=SILENT) as site:
        clients = [await site.silent(encoding) for _ in range(SILENT)]
        # Another's whole download is longer than the way of the silent ones to their stop.
        assert (await site.fetch()).content == DATA
        most = 0 if http == "sendfile" else READ_BYTES
        if encoding == "zstd":
            most = BLOCK_BYTES
        assert site.served.buffered_bytes() <= most + 65_536
        assert site.api.downloads.slots.taken == SILENT
        head = await head_of(clients[0])
        body = b""
        while len(body) < SIZE:
            block = await asyncio.get_running_loop().sock_recv(clients[0], 1_000_000)
            assert block
            body += block
        assert encoding in head.get("content-encoding", "identity")
        if encoding == "identity":
            assert body == DATA
        for client in clients:
            client.close()


@pytest.mark.parametrize("encoding", ["identity", "zstd"])
@pytest.mark.parametrize("is_reset", [True, False])
async def test_who_goes_away_leaves_nothing(serve: Open, encoding: str, *, is_reset: bool) -> None:
    """A client that closes or resets in the middle frees file, socket and slot."""
    async with serve() as site:
        before = descriptors()
        client = await site.silent(encoding)
        await head_of(client)
        assert site.api.downloads.slots.taken == 1
        if is_reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        else:
            client.shutdown(socket.SHUT_WR)
        await site.served.done()
        client.close()
        await until(lambda: not site.served.connections())
        assert site.api.downloads.slots.taken == 0
        assert descriptors() == before


@pytest.mark.parametrize("http", ["sendfile"], indirect=True)
@pytest.mark.parametrize("encoding", ["identity", "zstd"])
async def test_who_never_reads_is_cut(serve: Open, encoding: str) -> None:
    """A client that takes nothing for the limit's time loses its connection and its slot."""
    async with serve(unread_seconds_max=0.4) as site:
        with await site.silent(encoding) as client:
            await head_of(client)
            await site.served.done()
            assert len(await rest_of(client)) < SIZE


@pytest.mark.parametrize("encoding", ["identity", "zstd"])
async def test_a_cancelled_download_leaves_nothing(serve: Open, encoding: str) -> None:
    """What a shutdown cancels in the middle closes its file and frees its slot."""
    async with serve() as site:
        before = descriptors()
        with await site.silent(encoding) as client:
            await head_of(client)
            site.served.cancel()
            await site.served.done()
            assert len(await rest_of(client)) < SIZE
        await until(lambda: not site.served.connections())
        assert descriptors() == before


# -- files that are not what they were -----------------------------------------------------------


async def test_a_file_that_shrinks_cuts_the_download(serve: Open) -> None:
    """When the file ends before the stated length the connection ends too, nothing made up."""
    async with serve() as site:
        with await site.silent() as client:
            head = await head_of(client)
            os.truncate(site.file, SIZE - 1_000)
            body = await rest_of(client)
        assert head["content-length"] == str(SIZE)
        assert len(body) < SIZE
        assert DATA.startswith(body)


async def test_a_file_that_shrinks_never_ends_the_zstd(serve: Open) -> None:
    """The compressed answer is cut without its last chunk, so that no client takes it for whole."""
    async with serve() as site:
        with await site.silent("zstd") as client:
            head = await head_of(client)
            os.truncate(site.file, SIZE - 1_000)
            body = await rest_of(client)
        assert head["transfer-encoding"] == "chunked"
        assert body
        assert not body.endswith(b"0\r\n\r\n")


async def test_a_shorter_file_is_refused(serve: Open) -> None:
    """A file that is shorter than was recorded is not sent at all."""
    async with serve() as site:
        os.truncate(site.file, SIZE - 1)
        answer = await site.fetch()
    assert (answer.status_code, answer.json()["code"]) == (500, "blob_corrupt")


async def test_a_file_that_is_gone_is_refused(serve: Open) -> None:
    """A file that vanished is an error of ours."""
    async with serve() as site:
        site.file.unlink()
        answer = await site.fetch()
    assert (answer.status_code, answer.json()["code"]) == (500, "blob_missing")


def test_a_file_that_goes_just_now_is_refused(tmp_path: Path) -> None:
    """A file that is removed between the look and the opening is an error of ours as well."""
    with pytest.raises(BlobMissing, match="gone"):
        open_whole(tmp_path / "absent", 1)


# -- limits --------------------------------------------------------------------------------------


async def test_too_many_downloads_are_refused(serve: Open) -> None:
    """One more than the limit is told when to try again; what needs no slot is still answered."""
    async with serve(downloads_concurrency_max=1) as site:
        with await site.silent() as client:
            await head_of(client)
            refused = await site.fetch()
            unchanged = await site.fetch(If_None_Match=f'"{ETAG}"')
        await site.served.done()
        answer = await site.fetch()
    assert (refused.status_code, refused.json()["code"]) == (503, "too_many_downloads")
    assert refused.headers["retry-after"] == str(RETRY_AFTER_SECONDS)
    assert unchanged.status_code == 304
    assert answer.content == DATA


def test_one_organisation_leaves_downloads_to_the_others() -> None:
    """Its downloads beyond its share are refused, another's go on, and an end makes room."""
    slots = Slots(Limits(downloads_concurrency_max=3, downloads_concurrency_tenant_max=2))
    with ExitStack() as held:
        last = slots.take("acme", is_compressed=False)
        held.enter_context(slots.take("acme", is_compressed=True))
        with last:
            with pytest.raises(Unavailable, match="limit downloads_concurrency_tenant_max"):
                held.enter_context(slots.take("acme", is_compressed=False))
            held.enter_context(slots.take("rival", is_compressed=False))
            assert (slots.taken, slots.compressing) == (3, 1)
        held.enter_context(slots.take("acme", is_compressed=False))
    assert (slots.taken, slots.compressing) == (0, 0)


async def test_too_many_compressed_ones_come_plain(serve: Open) -> None:
    """Who would be compressed beyond the limit gets the plain bytes with their own tag."""
    async with serve(downloads_compressed_max=1) as site:
        with await site.silent("zstd") as client:
            head = await head_of(client)
            answer = await site.fetch(Accept_Encoding="zstd")
    assert head["content-encoding"] == "zstd"
    assert "content-encoding" not in answer.headers
    assert answer.headers["etag"] == f'"{ETAG}"'
    assert answer.content == DATA


async def test_http_1_0_is_never_compressed(serve: Open) -> None:
    """Without chunks a compressed answer could not be told from a cut one, so the file comes."""
    async with serve() as site:
        with await site.served.silent_client(site.request("zstd", "1.0")) as client:
            head = await head_of(client)
            assert "content-encoding" not in head
            assert await rest_of(client) == DATA
