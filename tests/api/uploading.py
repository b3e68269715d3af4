"""What the tests of uploads in pieces have in common."""

import asyncio
import gzip
from collections.abc import AsyncIterable, AsyncIterator, Callable
from pathlib import Path

import httpx2
import pytest
from backports import zstd
from tests.api.driver import BASE, Api, Scripted, files, lines
from tests.fake_clock import FakeClock

from penstock.api.upload_fields import PARTIAL_TYPE
from penstock.blobs.spool import Spool
from penstock.core.limits import Limits
from penstock.store.store import Store

URL = f"{BASE}/uploads"
LIMITS = Limits(job_bytes_max=3_000_000, uploads_open_max=3, upload_seconds_max=600)
GOOD = lines(5).encode()
BAD = b'{"request": {"contents": []}}\n{"x": 1}\n'
BOMB = GOOD + b" " * 2_900_000
PACKERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd.compress}
JSONL = "application/jsonl"
PROBLEMS = "https://iana.org/assignments/http-problem-types#"
Client = httpx2.AsyncClient
Answer = httpx2.Response
Body = bytes | AsyncIterable[bytes]


@pytest.fixture
def limits() -> Limits:
    """Limits that a test can reach."""
    return LIMITS


async def begin(
    client: Client, content: bytes = b"", *, kind: str = JSONL, complete: str = "?0", **more: str
) -> Answer:
    """Create an upload."""
    headers = {"Content-Type": kind, "Upload-Complete": complete, **named(more)}
    return await client.post(URL, content=content, headers=headers)


async def begun(client: Client, *, kind: str = JSONL, **more: str) -> str:
    """Create an upload and return where it is."""
    answer = await begin(client, b"", kind=kind, **more)
    assert answer.status_code == 201, answer.text
    return str(answer.headers["location"])


async def piece(
    client: Client, where: str, offset: int, content: Body = b"", complete: str = "?0", **more: str
) -> Answer:
    """Append to an upload."""
    headers = {
        "Content-Type": PARTIAL_TYPE,
        "Upload-Complete": complete,
        "Upload-Offset": str(offset),
        **named(more),
    }
    return await client.patch(where, content=content, headers=headers)


def named(headers: dict[str, str]) -> dict[str, str]:
    """Headers from keywords."""
    return {name.replace("_", "-"): value for name, value in headers.items()}


async def offset_of(client: Client, where: str) -> int:
    """Where to go on."""
    answer = await client.head(where)
    assert answer.status_code == 204
    return int(answer.headers["upload-offset"])


def uploaded(tmp_path: Path) -> list[str]:
    """What the folder of uploads holds."""
    return files(tmp_path / "data" / "uploads")


@pytest.fixture
def scripted(store: Store, api: Api, spool: Spool, clock: FakeClock) -> Scripted:
    """The jobs of the API, which do as they are told."""
    store.jobs = Scripted(store._engine, store.audit)
    api.__init__(store, spool, clock, LIMITS)  # type: ignore[misc]  # the same API over other jobs
    return store.jobs


async def turns_until(condition: Callable[[], bool]) -> None:
    """Let the others have their turns until it is so; threads have no event to wait for."""
    while not condition():  # noqa: ASYNC110  # as the sentence says
        await asyncio.sleep(0)


def streamed(chunks: list[bytes]) -> AsyncIterator[bytes]:
    """A body of unknown length."""

    async def body() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return body()
