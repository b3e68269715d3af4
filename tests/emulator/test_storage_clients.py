"""The clients of others work unchanged: obstore (XML) and google-cloud-storage (JSON)."""

import base64
import io
import warnings
from collections.abc import Iterator
from typing import Any

import google_crc32c
import obstore
import pytest
from obstore.store import GCSStore
from tests.emulator.driver import Emulator

with warnings.catch_warnings():
    # The library warns about itself at import; not ours to mend.
    warnings.simplefilter("ignore")
    from google.api_core.exceptions import NotFound, PreconditionFailed
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage  # type: ignore[import-untyped]

MEBIBYTE = 1 << 20


@pytest.fixture
def bucket(emulator: Emulator) -> Iterator[Any]:
    """The bucket `penstock` by google-cloud-storage."""
    client = storage.Client(
        project="p",
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": emulator.url},
    )
    yield client.bucket("penstock")
    client.close()


@pytest.fixture
def store(emulator: Emulator) -> GCSStore:
    """The bucket `penstock` by obstore."""
    return GCSStore(
        "penstock",
        config={"base_url": emulator.url, "bearer_token": "x"},
        client_options={"allow_http": True},
    )


def crc32c(body: bytes) -> str:
    """base64 of the big-endian CRC32C."""
    return base64.b64encode(google_crc32c.Checksum(body).digest()).decode()


async def test_obstore_writes_reads_and_lists(store: GCSStore, emulator: Emulator) -> None:
    """Odd names survive the over-encoded path; the JSON API sees the same object."""
    name = "dir/ä x%2F.jsonl"
    made = await obstore.put_async(store, name, b"0123456789")
    assert made["version"]
    assert bytes(await obstore.get_range_async(store, name, start=2, length=3)) == b"234"
    ranges = await obstore.get_ranges_async(store, name, starts=[0, 8], lengths=[1, 2])
    assert [bytes(r) for r in ranges] == [b"0", b"89"]
    tail = await obstore.get_async(store, name, options={"range": {"suffix": 4}})
    assert bytes(await tail.bytes_async()) == b"6789"
    meta = await obstore.head_async(store, name)
    assert meta["size"] == 10
    listed = await obstore.list(store, "dir").collect_async()
    assert [entry["path"] for entry in listed] == [name]
    assert emulator.names() == [name]
    await obstore.delete_async(store, name)
    with pytest.raises(FileNotFoundError):
        await obstore.head_async(store, name)


async def test_obstore_multipart(store: GCSStore, emulator: Emulator) -> None:
    """Parts are joined in order; the JSON API states the CRC32C and no MD5."""
    body = bytes(range(256)) * 4096 * 11
    await obstore.put_async(
        store, "big", io.BytesIO(body), chunk_size=5 * MEBIBYTE, max_concurrency=3
    )
    got = await obstore.get_async(store, "big")
    assert bytes(await got.bytes_async()) == body
    resource = emulator.http.get("/storage/v1/b/penstock/o/big").json()
    assert resource["crc32c"] == crc32c(body)
    assert resource["size"] == str(len(body))
    assert "md5Hash" not in resource


def test_obstore_pages_prefixes_and_copies(store: GCSStore) -> None:
    """More than one page of 1000, common prefixes, copy and rename."""
    for number in range(1005):
        obstore.put(store, f"many/{number:04}", b"x")
    assert len(obstore.list(store, "many").collect()) == 1005
    obstore.put(store, "a/b/c", b"c")
    result = obstore.list_with_delimiter(store, "a")
    assert result["common_prefixes"] == ["a/b"]
    obstore.copy(store, "a/b/c", "a/d")
    obstore.rename(store, "a/d", "a/e")
    assert [entry["path"] for entry in obstore.list(store, "a").collect()] == ["a/b/c", "a/e"]


def test_obstore_create_only(store: GCSStore) -> None:
    """mode=create is refused when the object is there."""
    obstore.put(store, "once", b"1", mode="create")
    with pytest.raises(obstore.exceptions.AlreadyExistsError):
        obstore.put(store, "once", b"2", mode="create")


def test_google_client_small_objects(bucket: Any) -> None:  # noqa: ANN401 - untyped library
    """One multipart request up, a checked download, metadata, list and delete."""
    blob = bucket.blob("dir/a b#.txt")
    blob.metadata = {"k": "v"}
    blob.upload_from_string("hello", content_type="text/plain")
    assert bucket.blob("dir/a b#.txt").download_as_bytes() == b"hello"
    blob.reload()
    assert (blob.size, blob.crc32c, blob.metadata) == (5, crc32c(b"hello"), {"k": "v"})
    assert blob.content_type == "text/plain"
    assert [b.name for b in bucket.list_blobs(prefix="dir/")] == ["dir/a b#.txt"]
    blob.delete()
    with pytest.raises(NotFound):
        blob.delete()


def test_google_client_resumable(bucket: Any) -> None:  # noqa: ANN401 - untyped library
    """Chunks of a resumable session make the object; ranges and file objects read it."""
    body = bytes(range(251)) * 4096
    blob = bucket.blob("resumable")
    blob.chunk_size = 256 * 1024
    blob.upload_from_file(io.BytesIO(body), size=len(body))
    assert blob.download_as_bytes(start=10, end=19) == body[10:20]
    with bucket.blob("resumable").open("rb") as file:
        assert file.read() == body


def test_google_client_survives_a_failing_chunk(bucket: Any, emulator: Emulator) -> None:  # noqa: ANN401 - untyped library
    """It repeats the same Content-Range after a 503 that came after the bytes were kept."""
    body = b"z" * (MEBIBYTE + 5)
    blob = bucket.blob("again")
    blob.chunk_size = 256 * 1024
    writer = blob.open("wb", ignore_flush=True)
    writer.write(body[: MEBIBYTE // 2])
    emulator.rule(when={"call": "object_write"}, then={"status": 503, "after": True}, times=2)
    writer.write(body[MEBIBYTE // 2 :])
    writer.close()
    assert blob.download_as_bytes() == body


def test_google_client_compose_rewrite_and_preconditions(bucket: Any) -> None:  # noqa: ANN401 - untyped library
    """Composed objects have no MD5; a copy has; generation conditions are kept."""
    for name in ("p1", "p2"):
        bucket.blob(name).upload_from_string(name)
    whole = bucket.blob("whole")
    whole.compose([bucket.blob("p1"), bucket.blob("p2")])
    assert whole.download_as_bytes() == b"p1p2"
    whole.reload()
    assert (whole.md5_hash, whole.component_count) == (None, 2)
    copied = bucket.copy_blob(bucket.blob("p1"), bucket, "p3")
    assert copied.md5_hash is not None
    with pytest.raises(PreconditionFailed):
        bucket.blob("p1").upload_from_string("again", if_generation_match=0)


def test_google_client_buckets(emulator: Emulator, bucket: Any) -> None:  # noqa: ANN401 - untyped library
    """Buckets can be made, found, listed and removed."""
    client = bucket.client
    made = client.create_bucket("second-bucket")
    assert client.lookup_bucket("second-bucket") is not None
    assert client.lookup_bucket("third-bucket") is None
    assert [b.name for b in client.list_buckets()] == ["penstock", "second-bucket"]
    made.delete()
    assert emulator.http.get("/storage/v1/b/second-bucket").status_code == 404
