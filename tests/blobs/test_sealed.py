"""What differs from what was sent is noticed, whichever way the service says what it has."""

import base64
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response
from tests.blobs.s3 import ENVIRONMENT, s3_server
from tests.wire import wire

from penstock.blobs.objects import PART_BYTES, Objects, Sum
from penstock.blobs.open import Place, _s3
from penstock.blobs.sealed import SealedByUs, sum_of
from penstock.errors import BlobCorrupt, BlobMissing, ProviderUnreachable

BUCKET = Place(scheme="s3", bucket="penstock", prefix="")
STAMP = {"ETag": '"1"', "Last-Modified": "Mon, 23 Nov 2026 01:00:00 GMT"}
HELLO_CRC32C = "mnG7TA=="
"""Of `hello`; by another implementation."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """moto, for the whole file."""
    with s3_server() as address:
        yield address


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What obstore reads."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def objects_at(url: str, kind: Callable[..., Objects] = Objects) -> Objects:
    """The bucket at an address."""
    return kind(lambda: _s3(BUCKET, url, {"allow_http": True}), "S3", "s3://penstock")


def file_of(tmp_path: Path, data: bytes) -> Path:
    """A file with these bytes."""
    path = tmp_path / "file"
    path.write_bytes(data)
    return path


async def read(sealed: SealedByUs, name: str) -> bytes:
    """The whole object."""
    return b"".join([block async for block in sealed.read(name)])


def test_a_sum_is_that_of_the_whole_file(tmp_path: Path) -> None:
    """Size and CRC32C as another implementation says."""
    assert sum_of(file_of(tmp_path, b"hello")) == Sum(5, HELLO_CRC32C)


@pytest.mark.parametrize("reads_back", [True, False])
@pytest.mark.parametrize("size", [0, 5, PART_BYTES + 5])
async def test_what_was_put_is_read(url: str, tmp_path: Path, size: int, reads_back: bool) -> None:  # noqa: FBT001
    """Also by a service of which we trust nothing, as Azure is."""
    sealed = SealedByUs(objects_at(url), reads_back=reads_back)
    path = file_of(tmp_path, bytes(size))
    await sealed.put("x", path)
    assert await read(sealed, "x") == bytes(size)


async def test_parts_carry_the_sha256_that_s3_checks(tmp_path: Path) -> None:
    """A part that changes on the way is refused by the service before it is stored."""
    with wire(keeping()) as server:
        await SealedByUs(objects_at(server.url), reads_back=False).put(
            "x", file_of(tmp_path, b"hello")
        )
    put, body = server.requests[0], server.bodies[0]
    digest = hashlib.sha256(b"hello")
    assert (put.method, body) == ("PUT", b"hello")
    assert put.headers["x-amz-checksum-sha256"] == base64.b64encode(digest.digest()).decode()
    assert put.headers["x-amz-content-sha256"] == digest.hexdigest()
    assert put.headers["x-amz-meta-crc32c"] == HELLO_CRC32C


def keeping(**changes: bytes | str) -> Callable[[Request], Response]:
    """Take any put; then claim to have `hello`, or what is changed of it."""
    data = changes.get("data", b"hello")
    seal = str(changes.get("seal", HELLO_CRC32C))

    def answer(request: Request) -> Response:
        if request.method == "PUT":
            return Response(headers=STAMP)
        headers = {**STAMP, "x-amz-meta-crc32c": seal}
        return Response(data, headers=headers)

    return answer


async def test_a_put_of_another_length_is_corrupt(tmp_path: Path) -> None:
    """What the service has afterwards is asked."""
    with wire(keeping(data=b"hell")) as server, pytest.raises(BlobCorrupt, match="holds 4 bytes"):
        await SealedByUs(objects_at(server.url), reads_back=False).put(
            "x", file_of(tmp_path, b"hello")
        )


async def test_a_put_that_reads_back_as_another_is_corrupt(tmp_path: Path) -> None:
    """Where the service does not check by itself, one flipped bit is found all the same."""
    with wire(keeping(data=b"hellp")) as server, pytest.raises(BlobCorrupt, match="CRC32C"):
        await SealedByUs(objects_at(server.url), reads_back=True).put(
            "x", file_of(tmp_path, b"hello")
        )


async def test_a_file_that_changes_meanwhile_is_corrupt(url: str, tmp_path: Path) -> None:
    """What was summed and what was sent must be the same."""
    path = file_of(tmp_path, b"hello")

    class Meddling(Objects):
        async def put(
            self,
            name: str,
            blocks: AsyncIterator[bytes],
            attributes: Mapping[str, str] | None = None,
        ) -> Sum:
            path.write_bytes(b"other")
            return await super().put(name, blocks, attributes)

    with pytest.raises(BlobCorrupt, match="changed while it was sent"):
        await SealedByUs(objects_at(url, Meddling), reads_back=False).put("x", path)


@pytest.mark.parametrize("changes", [{"data": b"hellp"}, {"seal": "AAAAAA=="}])
async def test_a_flipped_bit_is_noticed(changes: dict[str, bytes | str]) -> None:
    """Bytes that differ from what the object says of itself are corrupt."""
    with wire(keeping(**changes)) as server, pytest.raises(BlobCorrupt, match="CRC32C"):
        await read(SealedByUs(objects_at(server.url), reads_back=False), "x")


async def test_an_object_of_somebody_else_is_corrupt(url: str) -> None:
    """What carries no seal was not written by us."""
    objects = objects_at(url)

    async def blocks() -> AsyncIterator[bytes]:
        yield b"hello"

    await objects.put("foreign", blocks())
    with pytest.raises(BlobCorrupt, match="None was sent"):
        await read(SealedByUs(objects, reads_back=False), "foreign")


async def test_what_is_missing_and_who_is_away_is_said(url: str) -> None:
    """The two are different errors, for a size and for a copy, too."""
    objects = objects_at(url)
    with pytest.raises(BlobMissing, match="s3://penstock/none does not exist"):
        await objects.size("none")
    with (
        wire(lambda _request: Response(status_code=400)) as server,
        pytest.raises(ProviderUnreachable, match="S3 could not look at"),
    ):
        await objects_at(server.url).size("x")
