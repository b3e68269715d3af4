import base64
import errno
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import google_crc32c
import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from tests.emulator.driver import Emulator, fresh_emulator
from tests.fake_clock import FakeClock
from tests.wire import Answer, closed_port, wire

from penstock.blobs.bucket import Bucket, Stat
from penstock.blobs.objects import PART_BYTES
from penstock.clock import SystemClock
from penstock.errors import BlobCorrupt, BlobMissing, ProviderRefused, ProviderUnreachable
from penstock.providers.fixed_token import FixedToken


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator for the whole file."""
    with fresh_emulator(tmp_path_factory.mktemp("bucket")) as made:
        yield made


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    """A client."""
    async with httpx2.AsyncClient() as client:
        yield client


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    """A folder of this test alone."""
    return f"{tmp_path.parent.name}-{tmp_path.name}"


@pytest.fixture
def bucket(emulator: Emulator, http: httpx2.AsyncClient) -> Bucket:
    """The emulator's bucket."""
    return at(emulator.url, http)


def at(url: str, http: httpx2.AsyncClient) -> Bucket:
    """The bucket at an address."""
    return Bucket("penstock", url, FixedToken("any"), http, SystemClock())


async def blocks(data: bytes, size: int = 1_000_000) -> AsyncIterator[bytes]:
    """The data in blocks."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def read(bucket: Bucket, name: str) -> bytes:
    """The whole object."""
    return b"".join([block async for block in bucket.read(name)])


def crc(data: bytes) -> str:
    """The checksum as Cloud Storage writes it."""
    return base64.b64encode(google_crc32c.Checksum(data).digest()).decode()


# -- against the emulator ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, PART_BYTES - 1, PART_BYTES, 2 * PART_BYTES + 12_345])
async def test_bytes_survive_the_way_there_and_back(bucket: Bucket, prefix: str, size: int) -> None:
    """An object of no, one or several parts is stored and read as it was sent."""
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    stat = await bucket.put(f"{prefix}/x", blocks(data))
    assert stat == Stat(name=f"{prefix}/x", size=size, crc32c=crc(data))
    assert await read(bucket, f"{prefix}/x") == data


async def test_a_put_replaces_an_object(bucket: Bucket, prefix: str) -> None:
    """A step that runs again writes its object anew."""
    for data in (b"a longer text", b"new"):
        await bucket.put(f"{prefix}/x", blocks(data))
    assert await read(bucket, f"{prefix}/x") == b"new"


async def test_names_are_listed_in_order(bucket: Bucket, prefix: str) -> None:
    """A list holds what is below its prefix, sorted, and nothing beside it."""
    for name in ("in/b", "in/a", "in/sub/c", "inside", "out/d"):
        await bucket.put(f"{prefix}/{name}", blocks(b"x"))
    assert await bucket.list(f"{prefix}/in/") == [f"{prefix}/in/{n}" for n in ("a", "b", "sub/c")]


async def test_an_empty_prefix_lists_nothing(bucket: Bucket, prefix: str) -> None:
    """A folder without objects is an empty list and no error."""
    assert await bucket.list(f"{prefix}/nothing") == []


async def test_names_with_special_characters_are_found(bucket: Bucket, prefix: str) -> None:
    """Times with colons, blanks and plus signs stand in provider folders."""
    name = f"{prefix}/prediction-model-2026-11-22T09:00:00.123456Z/a b+c%.jsonl"
    await bucket.put(name, blocks(b"x"))
    assert await bucket.list(f"{prefix}/") == [name]
    assert await read(bucket, name) == b"x"


async def test_a_copy_is_another_object(bucket: Bucket, prefix: str) -> None:
    """Deleting the source leaves the copy."""
    await bucket.put(f"{prefix}/a", blocks(b"x"))
    await bucket.copy(f"{prefix}/a", f"{prefix}/b")
    await bucket.delete(f"{prefix}/a")
    assert await bucket.list(prefix) == [f"{prefix}/b"]
    assert await read(bucket, f"{prefix}/b") == b"x"


async def test_deleting_twice_is_fine(bucket: Bucket, prefix: str) -> None:
    """An object that is gone already is deleted."""
    await bucket.put(f"{prefix}/a", blocks(b"x"))
    await bucket.delete(f"{prefix}/a")
    await bucket.delete(f"{prefix}/a")
    assert await bucket.list(prefix) == []


async def test_what_is_missing_is_said(bucket: Bucket, prefix: str) -> None:
    """Stat, read and copy of an object that does not exist name it."""
    name = f"{prefix}/none"
    with pytest.raises(BlobMissing, match="gs://penstock/"):
        await bucket.stat(name)
    with pytest.raises(BlobMissing, match="does not exist"):
        await read(bucket, name)
    with pytest.raises(BlobMissing, match="does not exist"):
        await bucket.copy(name, f"{prefix}/other")


async def test_a_flipped_bit_is_noticed(emulator: Emulator, bucket: Bucket, prefix: str) -> None:
    """Bytes that differ from the stated CRC32C are corrupt, however good they look."""
    await bucket.put(f"{prefix}/x", blocks(b"x" * 100_000))
    rule = emulator.rule(
        when={"call": "object_read", "path": f"penstock/{prefix}/x"}, then={"corrupt": True}
    )
    with pytest.raises(BlobCorrupt, match="CRC32C"):
        await read(bucket, f"{prefix}/x")
    emulator.http.delete(f"/emulator/v1/rules/{rule}")


async def test_a_cut_download_goes_on(emulator: Emulator, bucket: Bucket, prefix: str) -> None:
    """A connection that breaks in the middle is resumed where it broke."""
    data = bytes(range(250)) * 20_000
    await bucket.put(f"{prefix}/x", blocks(data))
    emulator.rule(
        when={"call": "object_read", "path": f"penstock/{prefix}/x"},
        then={"cut_after_bytes": 2_000_000},
        times=1,
    )
    assert await read(bucket, f"{prefix}/x") == data


async def test_a_failing_source_stores_nothing(bucket: Bucket, prefix: str) -> None:
    """When the local bytes end in an error, there is no object that looks whole."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 10
        raise OSError(errno.EIO, "the disk failed")

    with pytest.raises(OSError, match="the disk failed"):
        await bucket.put(f"{prefix}/x", broken())
    assert await bucket.list(prefix) == []


# -- odd answers ---------------------------------------------------------------------------------


async def test_nobody_there_is_unreachable(http: httpx2.AsyncClient) -> None:
    """A refused connection is an error that may be repeated."""
    with pytest.raises(ProviderUnreachable, match="did not answer"):
        await at(f"http://127.0.0.1:{closed_port()}", http).stat("x")


@pytest.mark.parametrize("status", [401, 403])
async def test_a_bucket_that_is_not_ours_is_refused(http: httpx2.AsyncClient, status: int) -> None:
    """A missing permission tells the operator which role to give."""
    with (
        wire(lambda _request: Response(status_code=status)) as server,
        pytest.raises(ProviderRefused, match=str(status)) as caught,
    ):
        await at(server.url, http).stat("x")
    assert "storage.objectAdmin" in str(caught.value.hint)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_busy_bucket_is_unreachable(http: httpx2.AsyncClient, status: int) -> None:
    """An overloaded service is one to ask again."""
    with (
        wire(lambda _request: Response(status_code=status)) as server,
        pytest.raises(ProviderUnreachable, match=str(status)),
    ):
        await at(server.url, http).stat("x")


@pytest.mark.parametrize("status", [400, 401, 404, 503])
@pytest.mark.parametrize("size", [5, PART_BYTES + 5])
async def test_a_refused_upload_is_unreachable(
    http: httpx2.AsyncClient, status: int, size: int
) -> None:
    """Whatever the service answers to an upload, small or in parts, the lifecycle may repeat it."""
    with (
        wire(lambda _request: Response(status_code=status)) as server,
        pytest.raises(ProviderUnreachable, match="could not write"),
    ):
        await at(server.url, http).put("x", blocks(bytes(size)))


async def test_every_call_to_nobody_is_unreachable(http: httpx2.AsyncClient) -> None:
    """A connection that is refused never surfaces as another error."""
    bucket = at(f"http://127.0.0.1:{closed_port()}", http)
    calls = (bucket.put("x", blocks(b"x")), bucket.list("x"), bucket.copy("x", "y"))
    for call in (*calls, bucket.delete("x")):
        with pytest.raises(ProviderUnreachable):
            await call


def stating(data: bytes, stated: dict[str, str]) -> Answer:
    """Serve these bytes, and this description of them."""

    def answer(request: Request) -> Response:
        if request.url.path.startswith("/storage/v1/"):
            return JSONResponse({"name": "x", **stated})
        return Response(data, headers={"ETag": '"1"', "Last-Modified": LAST_MODIFIED})

    return answer


LAST_MODIFIED = "Sun, 22 Nov 2026 16:00:00 GMT"


async def test_another_length_is_corrupt(http: httpx2.AsyncClient) -> None:
    """A body that ends early, but in order, is noticed by its length."""
    stated = {"size": "5", "crc32c": crc(b"hello")}
    with wire(stating(b"hell", stated)) as server, pytest.raises(BlobCorrupt, match="4 bytes"):
        await read(at(server.url, http), "x")


async def test_an_object_without_a_checksum_is_read(http: httpx2.AsyncClient) -> None:
    """Composite objects may lack a CRC32C; their length is still compared."""
    with wire(stating(b"hello", {"size": "5"})) as server:
        assert await read(at(server.url, http), "x") == b"hello"


async def test_a_put_that_changed_on_the_way_is_corrupt(http: httpx2.AsyncClient) -> None:
    """What Cloud Storage states after an upload is compared with what was sent."""
    stated = {"size": "5", "crc32c": crc(b"hexxo")}
    with wire(stating(b"", stated)) as server, pytest.raises(BlobCorrupt, match="were sent"):
        await at(server.url, http).put("x", blocks(b"hello"))


async def test_every_call_carries_the_token(http: httpx2.AsyncClient) -> None:
    """Both APIs, reads and writes, are called with the bearer token."""
    stated = {"size": "5", "crc32c": crc(b"hello")}
    with wire(stating(b"hello", stated)) as server:
        bucket = at(server.url, http)
        await bucket.put("x", blocks(b"hello"))
        await read(bucket, "x")
    assert len(server.requests) == 4
    assert {each.headers["authorization"] for each in server.requests} == {"Bearer any"}


async def test_a_renewed_token_is_used(http: httpx2.AsyncClient) -> None:
    """A token that Google renewed is used once the copy that obstore keeps has run out."""
    given = iter(["first", "second"])

    async def token() -> str:
        return next(given)

    clock = FakeClock()
    with wire(lambda _request: Response(status_code=204)) as server:
        bucket = Bucket("penstock", server.url, token, http, clock)
        await bucket.delete("x")
        clock.advance(3600)
        await bucket.delete("x")
    sent = [each.headers["authorization"] for each in server.requests]
    assert sent == ["Bearer first", "Bearer second"]


def test_a_uri_names_bucket_and_object(http: httpx2.AsyncClient) -> None:
    """The provider is told `gs://` addresses."""
    assert at("http://127.0.0.1:1", http).uri("a/b") == "gs://penstock/a/b"
