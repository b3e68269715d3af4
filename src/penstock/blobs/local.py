"""The data directory as the place for the files of jobs: nothing is copied, nothing read twice."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import IO, Final

from penstock.blobs.part import Part
from penstock.blobs.spool import Spool
from penstock.blobs.store import Folder
from penstock.blobs.threads import in_thread
from penstock.errors import BlobCorrupt

READ_BYTES: Final = 256 * 1024


class LocalBlobs:
    """The jobs' folders of a spool."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    @property
    def is_shared(self) -> bool:
        """Whether other processes use the place, too; the directory is locked."""
        return False

    async def commit(self, job_id: str, parts: dict[str, Part], *, is_again: bool = False) -> None:
        """Sync and rename the parts; all are on disk when this returns.

        Nothing is taken back, because nothing fails on the way that would let us.
        """
        del is_again
        await in_thread(partial(self._spool.commit, job_id, parts))

    @asynccontextmanager
    async def local(self, job_id: str, name: str) -> AsyncIterator[Path]:
        """Give the file's own path."""
        yield await asyncio.to_thread(self._spool.path, job_id, name)

    async def find(self, job_id: str, name: str, size_bytes: int) -> Path | None:
        """Return the path of a file of this size."""
        return await asyncio.to_thread(self._find, job_id, name, size_bytes)

    def _find(self, job_id: str, name: str, size_bytes: int) -> Path:
        path = self._spool.path(job_id, name)
        found = path.stat().st_size
        if found != size_bytes:
            raise BlobCorrupt(f"{path.name} has {found} bytes; {size_bytes} were recorded.")
        return path

    async def stream(self, job_id: str, name: str, part: range) -> AsyncGenerator[bytes, None]:
        """Yield these bytes; whoever sends a lot of them has `sendfile` for the path instead."""
        path = await asyncio.to_thread(self._spool.path, job_id, name)
        with await asyncio.to_thread(path.open, "rb", buffering=0) as file:
            for offset in range(part.start, part.stop, READ_BYTES):
                count = min(READ_BYTES, part.stop - offset)
                yield await in_thread(partial(_read, file, offset, count))

    async def pieces(self, job_id: str, name: str, parts: Sequence[range]) -> list[bytes]:
        """Return parts of a file, all read in one turn of a thread."""
        return await in_thread(partial(self._pieces, job_id, name, parts))

    def _pieces(self, job_id: str, name: str, parts: Sequence[range]) -> list[bytes]:
        with self._spool.path(job_id, name).open("rb", buffering=0) as file:
            return [os.pread(file.fileno(), len(part), part.start) for part in parts]

    async def remove(self, job_id: str, name: str) -> None:
        """Remove one file."""
        await asyncio.to_thread(self._spool.remove, job_id, name)

    async def remove_job(self, job_id: str) -> None:
        """Remove the job's folder."""
        await asyncio.to_thread(self._spool.remove_job, job_id)

    async def folders(self) -> AsyncIterator[Folder]:
        """Yield all folders."""
        for folder in await asyncio.to_thread(self._folders):
            yield folder

    def _folders(self) -> list[Folder]:
        return [Folder(job_id=one, files=self._spool.files(one)) for one in self._spool.job_ids()]


def _read(file: IO[bytes], offset: int, count: int) -> bytes:
    file.seek(offset)
    data = file.read(count)
    if len(data) < count:
        raise BlobCorrupt(f"A file ended at byte {offset + len(data)}, too early.")
    return data
