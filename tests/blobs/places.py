"""Places for blobs, each behind the same seam, for tests that hold for all of them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx2
import pytest
from tests.blobs.s3 import BUCKET, ENVIRONMENT, s3_server
from tests.emulator.driver import fresh_emulator

from penstock.blobs.open import Access, open_blobs
from penstock.blobs.part import Part
from penstock.blobs.spool import Spool
from penstock.blobs.store import Blobs
from penstock.clock import SystemClock
from penstock.providers.fixed_token import FixedToken


@contextmanager
def served(kind: str, folder: Path) -> Iterator[str]:
    """Run what a kind of place needs, and yield its address; the data directory needs nothing."""
    if kind == "gs":
        with fresh_emulator(folder) as emulator:
            yield emulator.url
    elif kind == "s3":
        with pytest.MonkeyPatch.context() as patch, s3_server() as url:
            for name, value in ENVIRONMENT.items():
                patch.setenv(name, value)
            yield url
    else:
        yield ""


@asynccontextmanager
async def opened(kind: str, url: str, prefix: str, spool: Spool) -> AsyncIterator[Blobs]:
    """Open a place as the server does."""
    async with httpx2.AsyncClient() as http:
        access = Access(endpoint=url, token=FixedToken("any"), http=http, clock=SystemClock())
        where = f"{kind}://{BUCKET}/{prefix}" if kind != "local" else ""
        yield open_blobs(where, spool, access)


def part_of(spool: Spool, job_id: str, name: str, data: bytes) -> Part:
    """Write a file that nobody has committed yet."""
    part = spool.begin(job_id, name)
    part.write(data)
    return part


async def put(blobs: Blobs, spool: Spool, job_id: str, **files: bytes) -> None:
    """Commit files of a job; `_` stands for a dot in their names."""
    parts = {name.replace("_", "."): data for name, data in files.items()}
    await blobs.commit(
        job_id, {name: part_of(spool, job_id, name, data) for name, data in parts.items()}
    )


async def all_of(blobs: Blobs, job_id: str, name: str) -> bytes:
    """The whole of a file, by its path."""
    async with blobs.local(job_id, name) as path:
        return path.read_bytes()


async def streamed(blobs: Blobs, job_id: str, name: str, part: range) -> bytes:
    """A part of a file, by its stream."""
    return b"".join([block async for block in blobs.stream(job_id, name, part)])


async def names_of(blobs: Blobs) -> dict[str, list[str]]:
    """All that there is: files by job."""
    return {folder.job_id: sorted(folder.files) async for folder in blobs.folders()}
