import base64
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote

import google_crc32c
import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from tests.blobs.file_server import file_server, ok
from tests.blobs.test_fetch import PLAIN
from tests.emulator.driver import Emulator, fresh_emulator
from tests.fake_clock import FakeClock
from tests.wire import Wire, wire

from penstock.blobs.bucket import Bucket
from penstock.blobs.fetch import Source, Web
from penstock.blobs.source import Sources
from penstock.blobs.source_uri import AllowList
from penstock.clock import SystemClock
from penstock.core.limits import Limits
from penstock.errors import Forbidden, InvalidRequest, SourceRefused, SourceUnavailable
from penstock.providers.fixed_token import FixedToken

DATA = bytes(range(250)) * 20_000


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator for the whole file."""
    with fresh_emulator(tmp_path_factory.mktemp("source")) as made:
        yield made


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    """A client."""
    async with httpx2.AsyncClient() as client:
        yield client


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """A folder of this test alone."""
    return f"{tmp_path.parent.name}-{tmp_path.name}"


def at(url: str, http: httpx2.AsyncClient, *allowed: str) -> Sources:
    """Sources whose Cloud Storage is at an address."""

    def bucket(name: str) -> Bucket:
        return Bucket(name, url, FixedToken("any"), http, SystemClock())

    return Sources(AllowList(allowed), bucket, Web(Limits(), FakeClock(), PLAIN))


@pytest.fixture
def sources(emulator: Emulator, http: httpx2.AsyncClient) -> Sources:
    """Sources from the emulator's bucket."""
    return at(emulator.url, http, "gs://penstock/")


async def read(sources: Sources, address: str) -> tuple[bytes, Source]:
    """The bytes of an address."""
    async with sources.open(address) as source:
        return b"".join([chunk async for chunk in source.chunks]), source


async def test_an_object_comes_as_it_is(emulator: Emulator, sources: Sources, folder: str) -> None:
    """Bytes and length of an object with an odd name; its name alone says how it is encoded."""
    name = f"{folder}/a b+c%2C ü.jsonl.gz"
    emulator.put(quote(name), DATA)
    body, source = await read(sources, f"gs://penstock/{name}")
    assert body == DATA
    assert (source.content_length, source.encoding) == (len(DATA), None)
    assert source.shown == f"gs://penstock/{name}"


async def test_an_object_that_is_replaced_is_not_mixed(
    emulator: Emulator, sources: Sources, folder: str
) -> None:
    """The generation is pinned when it is opened: a later one is never read in its place."""
    emulator.put(f"{folder}/x", DATA)
    async with sources.open(f"gs://penstock/{folder}/x") as source:
        emulator.put(f"{folder}/x", b"y" * len(DATA))
        with pytest.raises(SourceUnavailable, match="replaced or removed") as caught:
            await anext(source.chunks)
    assert caught.value.retry_after_seconds


async def test_a_flipped_bit_is_noticed(emulator: Emulator, sources: Sources, folder: str) -> None:
    """Bytes that differ from the stated CRC32C end in an error that says to try again."""
    emulator.put(f"{folder}/x", DATA)
    path = f"penstock/{folder}/x"
    emulator.rule(when={"call": "object_read", "path": path}, then={"corrupt": True})
    with pytest.raises(SourceUnavailable, match="CRC32C"):
        await read(sources, f"gs://penstock/{folder}/x")


async def test_what_is_missing_is_said(sources: Sources, folder: str) -> None:
    """An object that does not exist is named, and no retry is promised."""
    with pytest.raises(SourceRefused, match="does not exist") as caught:
        await read(sources, f"gs://penstock/{folder}/none")
    assert (caught.value.status, caught.value.retry_after_seconds) == (422, None)


@pytest.mark.parametrize("address", ["gs://penstock", "gs://penstock/", "gs://penstock/a/"])
async def test_a_folder_is_no_input(sources: Sources, address: str) -> None:
    """A bucket or a prefix is refused without asking."""
    with pytest.raises(SourceRefused, match="is a folder"):
        await read(sources, address)


async def test_what_is_not_allowed_is_not_asked(sources: Sources) -> None:
    """Another bucket and a bad address end before any connection."""
    with pytest.raises(Forbidden, match="gs://other/x"):
        await read(sources, "gs://other/x")
    with pytest.raises(InvalidRequest, match="segment of dots"):
        await read(sources, "gs://penstock/../other")


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (401, SourceRefused, "source_denied"),
        (403, SourceRefused, "source_denied"),
        (503, SourceUnavailable, "source_unavailable"),
    ],
)
async def test_a_refusal_of_the_bucket_is_told(
    http: httpx2.AsyncClient, status: int, kind: type[Exception], code: str
) -> None:
    """A missing permission names the role to give; an outage is one to try again."""
    with (
        wire(lambda _request: Response("secret", status)) as server,
        pytest.raises(kind, match="gs://bucket/x") as caught,
    ):
        await read(at(server.url, http, "gs://bucket/"), "gs://bucket/x")
    assert isinstance(caught.value, SourceRefused | SourceUnavailable)
    assert caught.value.error_code == code
    assert "secret" not in caught.value.message
    assert ("storage.objectViewer" in str(caught.value.hint)) == (kind is SourceRefused)


async def test_the_generation_is_asked_for(http: httpx2.AsyncClient) -> None:
    """The read names the generation that was pinned, with and without a cut in the middle."""
    stated = base64.b64encode(google_crc32c.Checksum(b"abc").digest()).decode()

    def answer(request: Request) -> Response:
        if "storage/v1" in request.url.path:
            described = {"name": "x", "size": "3", "crc32c": stated, "generation": "77"}
            return JSONResponse(described)
        headers = {"ETag": '"e"', "Last-Modified": "Sun, 22 Nov 2026 16:00:00 GMT"}
        return Response(b"abc", headers=headers)

    with wire(answer) as server:
        body, _ = await read(at(server.url, http, "gs://bucket/"), "gs://bucket/x")
        assert body == b"abc"
        assert generations(server) == ["77"]


def generations(server: Wire) -> list[str | None]:
    """The generations that reads asked for."""
    return [
        request.query_params.get("generation")
        for request in server.requests
        if "storage/v1" not in request.url.path
    ]


async def test_an_encoded_object_is_refused(http: httpx2.AsyncClient) -> None:
    """Cloud Storage would decode it on the way, and its checksum would no longer fit."""
    described = {"name": "x", "size": "3", "generation": "1", "contentEncoding": "gzip"}
    with (
        wire(lambda _request: JSONResponse(described)) as server,
        pytest.raises(SourceRefused, match="Content-Encoding 'gzip'") as caught,
    ):
        await read(at(server.url, http, "gs://bucket/"), "gs://bucket/x")
    assert caught.value.error_code == "source_encoded"


async def test_a_web_address_needs_no_bucket(http: httpx2.AsyncClient) -> None:
    """The list decides by the scheme who is asked."""
    with file_server(lambda _head: ok(DATA)) as server:
        prefix = f"http://127.0.0.1:{server.port}/"
        body, source = await read(at("http://unused", http, prefix), f"{prefix}x?sig=1")
    assert body == DATA
    assert source.shown == f"{prefix}x"
